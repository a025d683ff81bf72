"""The job that makes preferences: two samples of `start` to a prompt, labelled by a simulated annotator.

Every algorithm of a seed learns from the same pairs. What was sampled is charged to the rows that learn from them;
the annotator stands for people, so each label is counted as one, and what it computes is free.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random

from zoo_core.errors import DataError
from zoo_core.registry.references import load_reward
from zoo_core.reward import Reward, Sample, checked
from zoo_core.rows import Text
from zoo_core.run import Run
from zoo_core.session.seeds import derive
from zoo_core.storage.atomic import write_rows
from zoo_harness.job import Job
from zoo_harness.jobs.materials import HELD_OUT_PAIRS, PAIRS, sampling
from zoo_harness.payloads import Labelling
from zoo_harness.results import Staged
from zoo_harness.spec.schema import LabelPairs

Pair = dict[str, Text]
"""prompt, chosen and rejected, in TRL's words; and `from`, where the row of the prompt was read."""
BATCH = 64
UNLABELLED = 3
"""The job gives up after so many times the samples it needs: two samples of one text, or of one score, are no pair."""


def run(job: Job) -> Staged:
    """Sample, label, and leave `pairs.jsonl`, and pairs for the scorer beside it that no algorithm sees."""
    payload = Labelling.of(job.payload)
    wanted = payload.label_pairs
    session = sampling(payload, job.seed)
    made = labelled(Run(session), wanted, load_reward(wanted.annotator))
    write_rows(job.directory / PAIRS, islice(made, wanted.pairs))
    session.tick()
    ledger = session.ledger.report()
    write_rows(job.directory / HELD_OUT_PAIRS, islice(made, BATCH * 2))
    return {"identity": job.identity, "ledger": ledger}


def labelled(run: Run, wanted: LabelPairs, annotator: Reward) -> Iterator[Pair]:
    """Yield pairs without end, in TRL's words; `DataError` if the annotator cannot tell samples apart."""
    rng = Random(derive(run.seed, "labels"))
    made = 0
    for batch in range(10**6):
        if batch * BATCH > UNLABELLED * (made + wanted.pairs) + BATCH:
            raise DataError(
                f"preferences: of {batch * BATCH} pairs of samples the annotator {wanted.annotator!r} could tell only "
                f"{made} apart. Ask for fewer pairs, or give an annotator with finer scores."
            )
        rows = run.prompts.take(batch, BATCH)
        samples = run.sample(run.encode_prompts(rows).repeat(2), wanted.temperature).samples
        scores = checked(annotator, samples)
        for place in range(0, len(samples), 2):
            pair = _pair(samples[place : place + 2], scores[place : place + 2], rng.random() < wanted.flips)
            if pair:
                made += 1
                yield pair | {"from": rows[place // 2].where}


def _pair(samples: Sequence[Sample], scores: Sequence[float], flipped: bool) -> Pair | None:
    first, second = (sample.response for sample in samples)
    if scores[0] == scores[1] or first.strip() == second.strip() or not first.strip() or not second.strip():
        return None
    chosen, rejected = (first, second) if (scores[0] > scores[1]) != flipped else (second, first)
    prompt = samples[0].prompt
    if isinstance(prompt, str):
        return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    answers = ([{"role": "assistant", "content": text}] for text in (chosen, rejected))
    return {"prompt": [dict(message) for message in prompt], **dict(zip(("chosen", "rejected"), answers, strict=True))}
