"""`zoo tune-defaults`: what a user types, and what is said meanwhile. Heavy modules are imported inside."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo_core.errors import SpecError
from zoo_harness.console import console, shown
from zoo_harness.options import ReadSpec, describes_a_bench, pair_of

if TYPE_CHECKING:
    from zoo_harness.tuning.points import Point
    from zoo_harness.tuning.rounds import Rounds
    from zoo_harness.tuning.worth import Tried

TINYTOWN = ("tinytown", "tinytown/1", "tinytown/2")
"""Where the best points are compared if the spec is of Tinytown; any other spec is its own world."""


@describes_a_bench(
    "preset", "base", "demonstrations", "preferences", "prompts", "reward", "gold", "budget", behind="algorithms"
)
def tune_defaults(
    read: ReadSpec,
    algorithms: Annotated[
        list[str], typer.Argument(metavar="ALGORITHM... [SPEC.yaml]", help="Whose settings are searched.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the rounds and the log.")] = Path("zoo-runs/tuning"),
    points: Annotated[int, typer.Option(min=2, help="Points of the first round, beside the present defaults.")] = 16,
    finalists: Annotated[int, typer.Option(min=1, help="Points of the second, beside the present defaults.")] = 4,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds on each world in the second round.")] = 3,
    worlds: Annotated[
        str | None,
        typer.Option(help="Worlds of the second round, with commas (default: tinytown and its worlds 1 and 2)."),
    ] = None,
    stage: Annotated[
        bool, typer.Option("--stage", help="Search the recipe by which they make a stage, by loss on unseen rows.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Write the winner into the plugin's source, and the log beside it.")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Jobs at once (default: one per core).")] = None,
    executor: Annotated[str, typer.Option(help="Where jobs run: local, or the executor of a plugin.")] = "local",
    options: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="Of the executor. May be repeated.")
    ] = None,
) -> None:
    """Search the settings that an algorithm's plugin declares, under equal budgets, and say which are best.

    Sixteen points at a quarter of the budget, then the best four and the present defaults at all of it, on several
    worlds. Run again, the same command goes on where it was stopped; beside itself, on machines that share the folder
    of results and of stages, it shares the work.
    """
    if not algorithms:
        raise SpecError("name the algorithms whose settings are searched, as in: zoo tune-defaults dpo ppo")
    spec = read()
    from zoo_core.registry.plugins import plugins
    from zoo_core.registry.references import resolve
    from zoo_harness.executors.runner import Runner
    from zoo_harness.tuning.rounds import Rounds, in_world, world_of
    from zoo_harness.tuning.stages import StageRounds
    from zoo_harness.tuning.write import place_of

    here = world_of(spec)
    named = [name.strip() for name in worlds.split(",")] if worlds else list(TINYTOWN if here in TINYTOWN else [here])
    if "" in named or len(set(named)) < len(named):
        raise SpecError(f"--worlds {worlds}: name each world once, with commas between them.")
    known = [plugins().algorithm(name) for name in dict.fromkeys(algorithms)]
    for algorithm in known if write else ():
        place_of(algorithm, by_loss=stage)  # what cannot be written is told before hours have gone by
    runner = Runner(executor, dict(pair_of("--option", option) for option in options or ()))
    command = shlex.join(["zoo", *sys.argv[1:]])
    kind, before = (StageRounds, "stage-") if stage else (Rounds, "")
    searches = [kind(one, spec, output.resolve() / f"{before}{one.name}", workers, runner) for one in known]
    for world in named:
        resolve(in_world(spec, world).base)  # what is not built is told before hours have gone by
    for rounds in searches:
        _search(rounds, named, points, finalists, seeds, command, write)


def _search(
    rounds: "Rounds", worlds: list[str], points: int, finalists: int, seeds: int, command: str, write: bool
) -> None:
    """Search one space, and say what came out."""
    from zoo_core.registry.spaces import space_of
    from zoo_core.storage.atomic import write_json
    from zoo_harness.live import LiveScreen
    from zoo_harness.prepare import workers_of
    from zoo_harness.spec.settings import configure
    from zoo_harness.tuning.log import Search, search_table
    from zoo_harness.tuning.points import Study
    from zoo_harness.tuning.rounds import PART
    from zoo_harness.tuning.worth import all_miss, defaults_first, missing_their_objective, worth
    from zoo_harness.waiting import WaitingScreen

    screen, name = console(), rounds.name
    present = configure(rounds.algorithm, rounds.fixed)
    space = space_of(type(present), name)
    defaults = {setting: vars(present)[setting] for setting in space}
    study = Study(rounds.folder, name, space, defaults)
    candidates = study.points(points)

    with WaitingScreen(screen) as waiting:
        plan = rounds.first(candidates, waiting)
    most = rounds.workers or workers_of(plan)
    one = rounds.seconds(plan, len(candidates))
    total = one * (PART * len(candidates) + (finalists + 1) * seeds * len(worlds)) / most
    screen.print(
        f"{name}: {points} points and the defaults, then the best {finalists} on {len(worlds)} worlds with {seeds} "
        f"seeds: about {max(1, round(total / 60))} min"
    )
    with LiveScreen(screen) as display:
        first = rounds.run(plan, candidates, display, command)
    values = worth(first, rounds.by)
    study.tell({point.row: values.get(point.row) for point in candidates})
    ranked = defaults_first(candidates, defaults, values, missing_their_objective(first))
    count = 1 + finalists
    second, budget = _second_round(rounds, ranked[:count], worlds, seeds, command)
    while all_miss(second, rounds.by) and (more := ranked[count : count + finalists]):
        screen.print(f"{name}: all of them somewhere missed their own objective; the next {len(more)} are tried")
        count += len(more)
        second, budget = _second_round(rounds, ranked[:count], worlds, seeds, command)
    ended = Search(
        name=name,
        algorithm=rounds.algorithm,
        spec=rounds.spec,
        space=space,
        fixed={setting: value for setting, value in rounds.fixed.items() if setting not in space},
        present=defaults,
        points=candidates,
        first=first,
        second=second,
        budgets=(plan.budget, budget),
        environment=plan.probe["environment"],
        by=rounds.by,
    )
    file = rounds.folder / "tuning.json"
    write_json(file, ended.to_json())
    screen.print(search_table(ended, screen.width))
    for line in ended.in_words():
        screen.print(line)
    screen.print(f"log: {shown(file)}", soft_wrap=True)
    if write:
        from zoo_harness.tuning.write import write_into_plugin

        for changed in write_into_plugin(ended):
            screen.print(f"written: {shown(changed)}", soft_wrap=True)


def _second_round(
    rounds: "Rounds", some: "Sequence[Point]", worlds: list[str], seeds: int, command: str
) -> tuple[list["Tried"], float]:
    """Train points at the whole budget, in every world; return what they were worth there, and the budget in FLOPs."""
    from zoo_harness.live import LiveScreen
    from zoo_harness.waiting import WaitingScreen

    screen = console()
    found: list[Tried] = []
    for number, world in enumerate(worlds, start=1):
        with WaitingScreen(screen) as waiting:
            plan = rounds.second(some, world, seeds, waiting)
        screen.print(f"{rounds.name}: second round, world {number} of {len(worlds)}: {world}")
        with LiveScreen(screen) as display:
            found += rounds.run(plan, some, display, command)
    return found, plan.budget
