"""What a user should know about a plan beside its figures: of plugins, data, models and the device."""

from collections.abc import Mapping

from zoo_leaderboard.schema import IMITATES_CHOSEN, DataSet

from zoo_core.registry.plugins import plugins
from zoo_harness.planning.plan import Plan
from zoo_harness.results import Probe
from zoo_harness.spec.schema import Spec

SMALL = 5_000_000
"""Parameters of a model that a CPU is faster with: its products take a GPU less time than being told of them. On an
H100 the smoke bench took 108 s, on the 16 cores beside it 36."""


def notes_on_plugins(plan: Plan) -> list[str]:
    """Rows that are left out, and plugins that could not be loaded at all."""
    notes = [f"{one.name} is left out: {one.reason}" for one in plan.pipeline.left_out]
    return notes + [plugin.fault for plugin in plugins().unusable]


def notes_on_data(data: Mapping[str, DataSet], spec: Spec) -> list[str]:
    """What each data set was converted from, and what is not used of it, for the seed that it is most of."""
    notes = []
    if spec.imitates_chosen and "demonstrations" in data:
        notes.append(IMITATES_CHOSEN)
    for kind, found in data.items():
        notes += [f"{kind}: {note}" for note in found.get("notes", [])]
        cut, alike = max(found["cut"]), max(found["alike"])
        if cut:
            notes.append(
                f"{kind}: {cut} of {max(found['answers'])} answers are longer than response_tokens="
                f"{spec.response_tokens} and are cut: what is behind it is not learnt, nor how they end."
            )
        if alike:
            notes.append(
                f"{kind}: {alike} pairs whose answers do not differ in their first {spec.response_tokens} tokens "
                "(response_tokens) are left out and count as no label."
            )
        if max(found["dropped"]):
            notes.append(f"{kind}: {max(found['dropped'])} rows are dropped, their prompts are too long.")
    return notes


def notes_on_models(probe: Probe) -> list[str]:
    """What ends a response, where that is more than one token, and what scorers cannot read whole."""
    ends, notes = probe["base"]["ends"], list[str]()
    if len(ends) > 1:
        notes.append(f"a response ends with any of {', '.join(ends)}.")
    for ref, found in sorted(probe["cut_by_scorers"].items()):
        if found["cut"]:
            notes.append(
                f"{ref}: of {found['cut']} of {found['prompts']} prompts it reads the end only, for they do not fit "
                f"its context of {found['context']} tokens before a longest answer."
            )
    return notes


def notes_on_device(probe: Probe) -> list[str]:
    """Whether another device would be faster."""
    device, parameters = probe["environment"]["device"], probe["base"]["parameters"]
    if device == "cpu" or parameters is None or parameters > SMALL:
        return []
    return [
        f"a base of {parameters:,} parameters is faster on this machine's CPU, with a worker for each core: "
        "CUDA_VISIBLE_DEVICES= zoo bench ..."
    ]
