"""The first phase of Constitutional AI: answers are criticised and revised, and the policy learns the revisions."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from zoo_sft.loss import sft_loss

from zoo_core.errors import SpecError
from zoo_core.judge import CountedJudge
from zoo_core.rollout import response_logprobs
from zoo_core.rows import Text
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_rlaif.cai_config import CAIConfig
from zoo_rlaif.constitution import Constitution, Principle, jsonable, plain
from zoo_rlaif.labels import drawn

Revision = dict[str, Any]
"""A prompt, the revised answer and whether it ended, and the principle and critique of the revision."""


def revise(
    config: CAIConfig, run: Run, constitution: Constitution, revisions: list[Revision]
) -> Iterator[dict[str, float]]:
    """Answer prompts; have the judge criticise and revise the answers step by step; keep all revisions."""
    for update in run.updates(math.ceil(config.revised_prompts / config.prompts_per_update)):
        samples = run.sample(run.prompts.batch(update, config.prompts_per_update), config.temperature).samples
        prompts, answers = [sample.prompt for sample in samples], [sample.response for sample in samples]
        written = changed = 0
        for step in range(config.revisions):
            generator = run.rng(update, f"revision {step}")
            principles = drawn(constitution.asked("revision"), len(prompts), generator)
            critiques = criticise(run.judge, constitution, principles, prompts, answers, config.temperature, generator)
            questions = [
                constitution.question("revision", principle, prompt=plain(prompt), answer=answer, critique=critique)
                for principle, prompt, answer, critique in zip(principles, prompts, answers, critiques, strict=True)
            ]
            revised = run.judge.write(
                questions, constitution.tokens("revision"), config.temperature, generator.initial_seed()
            )
            for row, one in enumerate(revised):
                if one.text:  # a judge that writes nothing has no revision: the answer stays what it was
                    written, changed = written + 1, changed + (one.text != answers[row])
                    answers[row] = one.text
                    revision = {
                        "prompt": jsonable(prompts[row]),
                        "response": one.text,
                        "ended": one.ended,
                        "step": step,
                    }
                    revisions.append(revision | {"principle": principles[row].name, "critique": critiques[row]})
        asked = config.revisions * len(prompts)
        yield {"written": written / asked, "changed": changed / asked}


def criticise(
    judge: CountedJudge,
    constitution: Constitution,
    principles: Sequence[Principle],
    prompts: Sequence[Text],
    answers: Sequence[str],
    temperature: float,
    generator: torch.Generator,
) -> list[str]:
    """Return the judge's critique of each answer; empty if the principle asks for none."""
    questions = {
        row: constitution.question("critique", principle, prompt=plain(prompt), answer=answer)
        for row, (principle, prompt, answer) in enumerate(zip(principles, prompts, answers, strict=True))
        if principle.critique is not None
    }
    if not questions:
        return [""] * len(answers)
    # Another seed than the revision's, which would draw the same numbers again.
    seed = generator.initial_seed() + 1
    found = judge.write(list(questions.values()), constitution.tokens("critique"), temperature, seed)
    critiques = dict(zip(questions, found, strict=True))
    # A critique that was cut off is used as it is, because no model imitates it.
    return [critiques[row].text if row in critiques else "" for row in range(len(answers))]


def tune(config: CAIConfig, run: Run, revisions: list[Revision]) -> Iterator[dict[str, float]]:
    """Fine-tune the policy on the revisions as answers to the original prompts."""
    if not revisions:
        raise SpecError(
            "the judge wrote no revision at all. Try its questions by hand, and reword forms.revision of the "
            "constitution until it answers."
        )
    optimizer = run.keep("optimizer", AdamW(run.policy.parameters(), weight_decay=0.0, fused=True))
    batches = math.ceil(len(revisions) / config.tuning_batch_size)

    for update in run.updates(math.ceil(config.tuning_epochs * batches)):
        rows = run.batch_of(revisions, update, config.tuning_batch_size)
        # An answer that was cut off is imitated without an end, or the policy would learn to stop in the middle.
        batch = run.encode([(row["prompt"], row["response"]) for row in rows], [row["ended"] for row in rows])
        loss = sft_loss(response_logprobs(run.policy, batch), batch.mask)

        set_learning_rate(optimizer, config.tuning_learning_rate, run.progress)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(run.policy.parameters(), config.max_grad_norm)
        optimizer.step()

        yield {"loss": loss.item()}
