"""The labels of a judge: its preferences between two answers, and its ratings of one. Abstentions have no label."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from zoo_core.errors import SpecError
from zoo_core.judge import CountedJudge, Verdict
from zoo_core.reward import Sample
from zoo_core.rows import Text
from zoo_core.session.seeds import derive
from zoo_rlaif.constitution import Constitution, Principle, continued, plain
from zoo_rlaif.loss import clamped_preference, debiased_preference, expected_rating


@dataclass(frozen=True)
class Label:
    """A judge's preference between two answers."""

    preference: float
    """The probability that the judge prefers the first answer, averaged over both orders of showing them."""
    same_position: bool
    """Whether the judge prefers the same place in both orders, whichever answer is there."""


def drawn(principles: Sequence[Principle], count: int, generator: torch.Generator) -> list[Principle]:
    """Draw a principle for each of `count` questions, all with the same probability."""
    places = torch.randint(len(principles), (count,), generator=generator, device=generator.device)
    return [principles[place] for place in places.tolist()]


def compare(
    judge: CountedJudge,
    constitution: Constitution,
    principles: Sequence[Principle],
    prompts: Sequence[Text],
    answers: Sequence[tuple[str, str]],
    seed: int,
) -> list[Label | None]:
    """Ask which of two answers is better, in both orders. A label is None if the judge abstains in either."""
    shown, swapped = (
        _choose(judge, constitution, list(zip(principles, prompts, orders, strict=True)), seed)
        for orders in (answers, [pair[::-1] for pair in answers])
    )
    form = constitution.forms.comparison
    bounds = form.reasoning.clamp if form and form.reasoning else (0.0, 1.0)
    labels: list[Label | None] = []
    for one, other in zip(shown, swapped, strict=True):
        if one is None or other is None:
            labels.append(None)
            continue
        preference = debiased_preference(torch.tensor([one]), torch.tensor([other]))
        same_position = (one[0] > one[1]) == (other[0] > other[1])
        labels.append(Label(clamped_preference(preference, *bounds).item(), same_position))
    return labels


def _choose(
    judge: CountedJudge,
    constitution: Constitution,
    shown: Sequence[tuple[Principle, Text, tuple[str, str]]],
    seed: int,
) -> list[Verdict]:
    """Return the judge's verdicts on pairs in the order shown, after reasoning if the constitution asks for it."""
    form = constitution.forms.comparison
    assert form is not None  # `Constitution.load` has seen it
    questions = [
        constitution.question("comparison", principle, prompt=plain(prompt), first=first, second=second)
        for principle, prompt, (first, second) in shown
    ]
    if form.reasoning:
        asked = [_more(question, form.reasoning.ask) for question in questions]
        thoughts = judge.write(asked, form.reasoning.tokens, 0.0, seed)
        questions = [
            continued(question, thought.text, form.reasoning.conclude)
            for question, thought in zip(asked, thoughts, strict=True)
        ]
    return judge.verdicts(questions, form.answers)


def _more(question: Text, words: str) -> Text:
    """Return a question with more words at its end."""
    if isinstance(question, str):
        return f"{question}\n{words}"
    return [*question[:-1], {**question[-1], "content": f"{question[-1]['content']}\n{words}"}]


class Rater:
    """A reward that asks a judge to rate each answer: −1 at worst, 1 at best.

    The principle that an answer is rated by is drawn by its text, so that the same answer always has the same rating.
    Where the judge abstains, the answer is worth as much as the others of its batch on average, which teaches nothing.
    """

    def __init__(self, judge: CountedJudge, constitution: Constitution, seed: int) -> None:
        self.judge, self.constitution, self.seed = judge, constitution, seed
        self.abstained = 0.0
        """The share of the latest answers that the judge abstained on."""

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """Return the ratings of samples."""
        form = self.constitution.forms.rating
        assert form is not None  # `Constitution.load` has seen it
        questions = [
            self.constitution.question("rating", self._principle(one), prompt=plain(one.prompt), answer=one.response)
            for one in samples
        ]
        verdicts = self.judge.verdicts(questions, form.answers)
        rated = [verdict for verdict in verdicts if verdict is not None]
        if not rated:
            raise SpecError(
                f"the judge gave no rating to any of {len(samples)} answers. Try its questions by hand, and reword "
                "forms.rating of the constitution, or its answers, until it answers with one of them."
            )
        ratings = expected_rating(torch.tensor(rated)).tolist()
        self.abstained = 1 - len(rated) / len(samples)
        usual, given = sum(ratings) / len(ratings), iter(ratings)
        return [usual if verdict is None else next(given) for verdict in verdicts]

    def _principle(self, sample: Sample) -> Principle:
        choice = random.Random(derive(self.seed, plain(sample.prompt), sample.response))
        return choice.choice(self.constitution.asked("rating"))
