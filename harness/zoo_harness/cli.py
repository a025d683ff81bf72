"""The command line. Heavy modules are imported inside the commands, so that `--help` and listings are instant."""

import json
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from zoo_core.errors import SpecError, ZooError
from zoo_harness.authors import app as authors
from zoo_harness.boards import app as boards
from zoo_harness.boards import print_board
from zoo_harness.console import console, print_found, show_what_can_be_shown, shown
from zoo_harness.options import FLAGS, PLUGINS, AsJson, ReadSpec, Version, describes_a_bench, load_named, pair_of
from zoo_harness.tuning.command import tune_defaults

if TYPE_CHECKING:
    from typer._click.core import Command

USER_ERROR = 2


class _WithPluginCommands(TyperGroup):
    """The built-in commands, and those that plugins provide; plugins are asked only when they are needed."""

    def get_command(self, ctx: typer.Context, cmd_name: str) -> "Command | None":  # type: ignore[override]
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        from zoo_core.records import load_path
        from zoo_core.registry.plugins import plugins

        record = plugins().commands.get(cmd_name)
        return typer.main.get_command(load_path(record.app)) if record else None

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        from zoo_core.registry.plugins import plugins

        return [*super().list_commands(ctx), *plugins().commands]


app = typer.Typer(
    cls=_WithPluginCommands,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(authors, name="plugins")
app.add_typer(boards, name="leaderboard")


@app.callback()
def _zoo(_: Version = False) -> None:
    """Compare alignment algorithms under one audited compute budget."""


Output = Annotated[Path | None, typer.Option(help="Folder for results (default zoo-runs/NAME).")]
Workers = Annotated[int | None, typer.Option(min=1, help="Jobs at once (default: one per core; on a cluster all).")]


@app.command()
@describes_a_bench(*FLAGS)
def bench(
    read: ReadSpec,
    output: Output = None,
    workers: Workers = None,
    executor: Annotated[str, typer.Option(help="Where jobs run: local, or the executor of a plugin.")] = "local",
    emit: Annotated[str | None, typer.Option(metavar="slurm", help="Run nothing: write scripts for SLURM.")] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="Of the executor, or a line for SLURM. May be repeated."),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try failed cells again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train every algorithm under one budget, score them, print the leaderboard.

    Run again, the same command goes on where it was stopped. Run beside itself, on machines that share the folders of
    results and of stages, it shares the work.
    """
    if emit not in (None, "slurm") or (emit and executor != "local"):
        raise SpecError(f"--emit {emit} --executor {executor}: write --emit slurm, without an executor.")
    screen = console(stderr=as_json)
    spec = read()  # what is wrong with it is told before the imports, which take seconds
    from zoo_harness.bench import emit_slurm, run
    from zoo_harness.executors.runner import Runner
    from zoo_harness.live import LiveScreen
    from zoo_harness.prepare import make_plan
    from zoo_harness.waiting import WaitingScreen

    given = dict(pair_of("--option", option) for option in options or ())
    runner = Runner(executor, {} if emit else given)
    with WaitingScreen(screen) as waiting:
        plan = make_plan(spec, output, waiting, runner, workers)
    if emit:
        script = emit_slurm(plan, sys.argv[1:], given, workers, retry)
        screen.print(f"bash {shown(script)}", soft_wrap=True)
        return
    with LiveScreen(screen) as display:
        result = run(plan, display, workers, runner, retry, shlex.join(["zoo", *sys.argv[1:]]))
    if as_json or result.board:
        print_board(result.board, as_json)
    screen.print(f"results: {shown(result.output)} (leaderboard.html, .md, .csv, .json)")
    for title, outcome in result.failures.items():
        screen.print(f"{title}: {outcome.status}: {outcome.error}", style="red")
    if result.failures:
        user = any(outcome.status == "user-error" for outcome in result.failures.values())
        raise typer.Exit(USER_ERROR if user else 1)


@app.command()
@describes_a_bench(*FLAGS)
def plan(
    read: ReadSpec,
    output: Output = None,
    workers: Workers = None,
    base_config: Annotated[
        str | None,
        typer.Option(
            metavar="CONFIG", help="Predict for another base from its config.json alone (or directory, hub id)."
        ),
    ] = None,
    devices: Annotated[int | None, typer.Option(min=1, help="Devices to predict for (default 1).")] = None,
    device_memory: Annotated[float | None, typer.Option(help="Bytes of one, as 80e9.")] = None,
    flops_per_second: Annotated[float | None, typer.Option(help="What one reaches, as 4e14: peak times use.")] = None,
    bytes_per_second: Annotated[float | None, typer.Option(help="How fast one reads its memory, as 3.3e12.")] = None,
    price_per_hour: Annotated[float | None, typer.Option(help="Of one, in your currency.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show FLOPs, updates, time, memory and disk of a bench before anything runs.

    With --base-config, or devices, predict them for a model of any size on those devices; no weights of it are needed.
    """
    spec = read()
    from zoo_harness.planning.estimate import figures
    from zoo_harness.prepare import make_plan, workers_of
    from zoo_harness.show import plan_table
    from zoo_harness.waiting import WaitingScreen

    if base_config is not None:
        from zoo_harness.planning.sizes import read_config, sizes_of

        sizes_of(read_config(base_config))  # what is wrong with it is told before anything is measured
    known = (devices, device_memory, flops_per_second, bytes_per_second, price_per_hour)
    with WaitingScreen(console(stderr=True)) as waiting:
        ready = make_plan(spec, output, waiting, workers=workers)
    if base_config is not None or any(value is not None for value in known):
        from zoo_harness.planning.predict import Machine, predict
        from zoo_harness.show import notes_of, prediction_table

        predicted = predict(ready, base_config, Machine(devices or 1, *known[1:]))
        print_found({**predicted}, partial(prediction_table, predicted), notes_of(predicted), as_json)
        return
    found, most = figures(ready), workers or workers_of(ready)
    print_found({**found, "workers": most}, partial(plan_table, found, most), found["warnings"], as_json)


@app.command()
@describes_a_bench("preset", "base", "demonstrations", "preferences", "prompts", "reward", "budget", "tracker")
def train(
    read: ReadSpec,
    algorithm: Annotated[str, typer.Argument(help="The algorithm to train.")],
    seed: Annotated[int, typer.Option(min=0, help="The seed to train.")] = 0,
    output: Output = None,
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Leave the model in this folder (default: in that of results).")
    ] = None,
    launch: Annotated[
        str | None,
        typer.Option(metavar="COMMAND", help='Share it among processes: "accelerate launch --num_processes 2 ...".'),
    ] = None,
) -> None:
    """Train one algorithm with one seed, stages included, and leave a model directory; nothing is scored."""
    from zoo_harness.model_folder import check_place

    if model is not None:
        check_place(model)
    spec = read(algorithms=[algorithm], budgets=[], trials=0, first_seed=seed, seeds=1)
    from zoo_harness.live import LiveScreen
    from zoo_harness.prepare import make_plan
    from zoo_harness.single import train_one
    from zoo_harness.waiting import WaitingScreen

    screen = console()
    with WaitingScreen(screen) as waiting:
        plan = make_plan(spec, output, waiting)
    with LiveScreen(screen) as display:
        final = train_one(plan, seed, display, launch, model)
    screen.print(f"model: {shown(final)}", soft_wrap=True)
    screen.print(f"load it: AutoModelForCausalLM.from_pretrained({str(final)!r}), of transformers", soft_wrap=True)


@app.command(name="eval")
@describes_a_bench("preset", "base", "prompts", "gold", "tasks", trains=False)
def evaluate(
    read: ReadSpec,
    model: Annotated[Path, typer.Argument(help="Directory of a model with the base's architecture.")],
    seed: Annotated[int, typer.Option(min=0, help="The seed that draws the prompts.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Score a model as the board scores its rows: gold at its best temperature, length, lm-eval tasks."""
    from zoo_harness.model_folder import check

    check(model)
    spec = read()
    from zoo_harness.show import scores_table
    from zoo_harness.single import score_one

    scores = score_one(spec, model, seed)
    if as_json:
        sys.stdout.write(json.dumps(scores, indent=1, sort_keys=True) + "\n")
    else:
        screen = console()
        screen.print(scores_table(scores, screen.width))


@app.command()
def audit(
    folder: Annotated[Path, typer.Argument(help="The folder of a bench, as zoo-runs/quick.")],
    row: Annotated[str, typer.Argument(help="The row to train again.")],
    seed: Annotated[int, typer.Option(min=0, help="The seed to train again.")] = 0,
    plugins: PLUGINS = None,
) -> None:
    """Train a row of a bench again with every update audited; exit 1 if it computes otherwise then.

    A bench audits few updates, and a plugin might behave only while it is looked at.
    """
    from zoo_harness.audit import audit as again
    from zoo_harness.waiting import WaitingScreen

    load_named(plugins)
    screen = console(stderr=True)
    with WaitingScreen(screen) as waiting:
        found = again(folder, row, seed, waiting)
    for fault in found.faults:
        screen.print(f"error: {row} seed {seed}: {fault}", style="red", soft_wrap=True)
    if found.faults:
        raise typer.Exit(1)
    console().print(
        f"{row} seed {seed}: the same weights and FLOPs, {found.updates} updates audited; the meter charged "
        f"{found.ratio:.4f} of what was counted",
        soft_wrap=True,
    )


@app.command(hidden=True)
def job(
    file: Annotated[Path, typer.Argument(help="The job.json of one job of a bench.")],
    needs: Annotated[list[Path] | None, typer.Argument(help="Those of the jobs it needs.")] = None,
) -> None:
    """Do one job, if those it needs are done: a line of the lists that `zoo bench --emit slurm` writes."""
    from zoo_harness.executors.gpus import gpus_here
    from zoo_harness.executors.local import launched
    from zoo_harness.job import of_file
    from zoo_harness.jobs.worker import do, end

    for need in needs or ():
        if of_file(need).result() is None:
            raise ZooError(f"{file}: not started, because {need} is not done. See log.txt beside it.")
    wanted = of_file(file)
    if wanted.processes > 1:
        sys.exit(launched(wanted, [gpu.name for gpu in gpus_here()][: wanted.processes]).wait())
    end(do(wanted, wait=True))


app.command("tune-defaults")(tune_defaults)


def main() -> None:
    """Run the command; a user's mistake ends with one message and exit code 2."""
    show_what_can_be_shown()
    try:
        app()
    except ZooError as error:
        console(stderr=True).print(f"error: {error}", style="red", soft_wrap=True)
        sys.exit(USER_ERROR)
    except OSError as error:
        if error.errno not in (28, 122):  # no space left, quota exceeded
            raise
        sys.stderr.write(
            f"error: the disk is full: {error}. What is done stays; make room and run the same command again.\n"
        )
        sys.exit(USER_ERROR)
