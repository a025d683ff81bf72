"""From a judge's preferences to a reward model: the two loops that RLAIF and Constitutional AI share."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from transformers import PreTrainedModel
from zoo_reward_model.loss import soft_label_loss

from zoo_core.errors import SpecError
from zoo_core.models.copies import scorer_from
from zoo_core.models.scorer import row_scores
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_rlaif.cai_config import CAIConfig
from zoo_rlaif.config import RLAIFConfig
from zoo_rlaif.constitution import Constitution, jsonable
from zoo_rlaif.labels import compare, drawn

Pair = dict[str, Any]
"""A prompt, two answers of the policy and whether each ended, the principle, and the judge's preference."""


def label_pairs(
    config: RLAIFConfig | CAIConfig, run: Run, constitution: Constitution, pairs: list[Pair]
) -> Iterator[dict[str, float]]:
    """Sample two answers to each prompt, ask the judge which is better, and add the labelled pairs to `pairs`."""
    for update in run.updates(math.ceil(config.pairs / config.pairs_per_update)):
        prompts = run.prompts.batch(update, config.pairs_per_update)
        samples = run.sample(prompts.repeat(2), config.temperature).samples
        couples = list(zip(samples[::2], samples[1::2], strict=True))

        principles = drawn(constitution.asked("comparison"), len(couples), run.rng(update, "principles"))
        answers = [(first.response, second.response) for first, second in couples]
        labels = compare(run.judge, constitution, principles, prompts.texts, answers, update)

        given = [label for label in labels if label is not None]
        for (first, second), principle, label in zip(couples, principles, labels, strict=True):
            if label is not None:
                pairs.append(
                    {
                        "prompt": jsonable(first.prompt),
                        "first": first.response,
                        "second": second.response,
                        "ended": [first.ended, second.ended],
                        "principle": principle.name,
                        "first_preferred": label.preference,
                    }
                )
        asked = max(1, len(given))
        yield {
            "answered": len(given) / len(labels),
            "same_position": sum(label.same_position for label in given) / asked,
            "decided": sum(abs(2 * label.preference - 1) for label in given) / asked,
        }


def blank_scorer(run: Run) -> PreTrainedModel:
    """Return a scorer on the policy's body whose score of every text is 0.

    The labels of an unsure judge are hundredths of a nat apart, and the differences of a random head would drown them.
    """
    scorer = scorer_from(run.policy, run.seed)
    torch.nn.init.zeros_(scorer.get_parameter("score.weight"))
    return scorer


def fit_reward_model(
    config: RLAIFConfig | CAIConfig, run: Run, scorer: PreTrainedModel, pairs: list[Pair]
) -> Iterator[dict[str, float]]:
    """Fit the scorer to the judge's soft labels, pass by pass."""
    if not pairs:
        raise SpecError(
            "the judge abstained on every pair. Try its questions by hand, and reword forms.comparison of the "
            "constitution, or its answers, until it answers with one of them."
        )
    optimizer = run.keep("optimizer", AdamW(scorer.parameters(), weight_decay=0.0, fused=True))
    batches = math.ceil(len(pairs) / config.reward_batch_size)

    for update in run.updates(math.ceil(config.reward_epochs * batches)):
        rows = run.batch_of(pairs, update, config.reward_batch_size)
        both = [(row["prompt"], row[which]) for which in ("first", "second") for row in rows]
        answers = run.encode(both, [row["ended"][which] for which in (0, 1) for row in rows])
        first, second = row_scores(scorer, answers.rows).chunk(2)
        preferred = torch.tensor([row["first_preferred"] for row in rows], device=first.device)
        loss = soft_label_loss(first, second, preferred)

        set_learning_rate(optimizer, config.reward_learning_rate, run.progress)
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(scorer.parameters(), config.max_grad_norm)
        optimizer.step()

        # Undecided labels have no order to agree with.
        agrees = ((first > second) == (preferred > 0.5))[preferred != 0.5]
        yield {"loss": loss.item(), "agreement": agrees.float().sum().item() / max(1, len(agrees))}

    optimizer.zero_grad()  # the rest needs the scores only, and gradients are as large as the model
