"""The jobs of a tuned row: each trial's training and score, and behind them all the run with what they chose."""

from collections.abc import Mapping

from pydantic import JsonValue

from zoo_core.registry.plugins import plugins
from zoo_harness.job import Job, identify
from zoo_harness.payloads import Candidate, ToScore, Training
from zoo_harness.spec.schema import Entry
from zoo_harness.spec.settings import configure
from zoo_harness.trials import FINAL_PART, part_of_a_trial, space

Settings = dict[str, JsonValue]


def trial_jobs(entry: Entry, cell: Job, score: Job) -> list[Job]:
    """Return the jobs that stand for `cell` in a bench: a training and a score for each trial; the run itself is last.

    `cell` would train the row with the settings that it is given, for its whole budget; `score` would score that.
    """
    whole, found = Training.of(cell.payload), list[Job]()
    for number, settings in enumerate(points(entry, cell.seed), start=1):
        found += _trial(entry, cell, score, number, settings)
    trainings, scores = found[::2], found[1::2]
    candidates = [
        Candidate(
            settings=Training.of(training.payload).settings,
            training=training.directory,
            training_identity=training.identity,
            score=scored.directory,
            score_identity=scored.identity,
        )
        for training, scored in zip(trainings, scores, strict=True)
    ]
    by = "gold" if ToScore.of(score.payload).spec.gold else "proxy"
    payload = whole.model_copy(update={"part": FINAL_PART, "candidates": candidates, "chosen_by": by})
    after = tuple(one.identity for one in scores)
    update = {"after": after, "identity": identify(cell.identity, after, FINAL_PART, by), "payload": payload.to_json()}
    return [*found, cell.model_copy(update=update)]


def _trial(entry: Entry, cell: Job, score: Job, number: int, settings: Settings) -> list[Job]:
    """Return training and score of one trial."""
    part, title = part_of_a_trial(entry), f"{entry.row} trial {number} of {entry.trials}"
    payload = Training.of(cell.payload).model_copy(update={"settings": settings, "part": part, "trial": True})
    folder = cell.directory.parent.parent / "trials" / f"{entry.row}-seed{cell.seed}-{number:02d}"
    training = cell.model_copy(
        update={
            "title": title,
            "trial": number,
            "directory": folder,
            "identity": identify(cell.identity, "trial", number, part, settings),
            "payload": payload.to_json(),
        }
    )
    looked_at = ToScore.of(score.payload)
    # Of the spec nothing is left that is not looked at. Nothing stands on how a trial does beside `start`.
    blind = looked_at.model_copy(
        update={
            "spec": looked_at.spec.model_copy(update={"tasks": []}),
            "weights": folder / "final",
            "trained": None,
            "start": None,
            "start_result": None,
            "learns_from": [],
            "selects": False,
            "dev_only": True,
        }
    )
    scored = score.model_copy(
        update={
            "title": f"score {title}",
            "trial": number,
            "directory": folder.with_name(f"{folder.name}-score"),
            "needs": tuple(training.identity if need == cell.identity else need for need in score.needs),
            "identity": identify(score.identity, "dev", training.identity),
            "payload": blind.to_json(),
        }
    )
    return [training, scored]


def points(entry: Entry, seed: int) -> list[Settings]:
    """Return the settings of a row's trials for a seed: those it is given, then points of its algorithm's space."""
    algorithm = plugins().algorithm(entry.name)
    searched, present = space(algorithm), vars(configure(algorithm, entry.settings))
    given: Mapping[str, JsonValue] = {setting: present[setting] for setting in searched}
    return [entry.settings, *({**entry.settings, **one} for one in _drawn(entry.name, entry.trials - 1, seed, given))]


_known: dict[str, list[Settings]] = {}
"""A plan asks for its jobs several times."""


def _drawn(name: str, count: int, seed: int, present: Mapping[str, JsonValue]) -> list[Settings]:
    from zoo_harness.tuning.points import sequence  # optuna, which no other bench needs

    key = identify(name, count, seed, present)
    if key not in _known:
        _known[key] = sequence(space(plugins().algorithm(name)), present, count, seed)
    return _known[key]
