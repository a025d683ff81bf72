"""The gates of a world: figures that must hold, or a comparison of algorithms on it would mean nothing.

Models are trained and sampled by the zoo's own algorithms (models.py), so that a gate is about what a bench does.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from statistics import mean, stdev

import torch
from transformers import PreTrainedModel

from zoo_core.models.causal_judge import CausalJudge
from zoo_core.models.copies import copied
from zoo_core.models.loading import load_policy
from zoo_core.reward import Calibration, Reward, Sample
from zoo_tinytown_gold.gold import Gold
from zoo_tinytown_gold.judgements import kindness
from zoo_tinytown_gold.models import answers, climb, conversation, encoder_of, fine_tuned, reward_model
from zoo_tinytown_gold.requests import draw_request, prompts
from zoo_tinytown_gold.rows import Row, demonstrations, draw_pair, preferences
from zoo_tinytown_gold.samples import SEEN, start_pairs
from zoo_tinytown_gold.shortcuts import Pair, bag_of_words, longer_answer, shared_words
from zoo_tinytown_gold.tasks import facts, sums
from zoo_tinytown_gold.world import World, stream
from zoo_tinytown_gold.writers import write_oracle

TEMPERATURES = (0.0, 0.3, 0.5, 0.7, 1.0)
TEST_PROMPTS = 512
DISTINCT = 20_000
CANDIDATES = 2_000
DRAWS = 16
HELD_OUT = 1_200
"""Pairs that reward models are tested on, before those on whose order gold is undecided are left out."""
LABELS = {300: 6.0, 1000: 2.0, 3000: 2.0}
"""Numbers of labels, with the passes that help a reward model of each."""
UPDATES = 40
"""Updates of the policy gradients; 96 samples each."""


@dataclass(frozen=True)
class Gate:
    """One figure, and the bounds that it must be within; no bounds if it is only reported."""

    name: str
    figure: float
    low: float | None = None
    high: float | None = None
    rule: str = ""
    """The bounds in words, where they depend on other figures."""

    @property
    def passes(self) -> bool:
        """Return whether the figure is within its bounds."""
        return (self.low is None or self.low <= self.figure) and (self.high is None or self.figure <= self.high)

    @property
    def must_be(self) -> str:
        """Return the bounds in words; "" if there are none."""
        if self.rule:
            return self.rule
        if self.low is None and self.high is None:
            return ""
        if self.low is None:
            return f"at most {self.high:.2f}"
        return f"at least {self.low:.2f}" if self.high is None else f"{self.low:.2f} to {self.high:.2f}"


class Gates:
    """The gates of a world whose base model is in a directory, each measured when it is asked for."""

    def __init__(self, world: World, base: Path) -> None:
        self.world, self.base, self.gold = world, base, Gold(world)
        self.asked = list(islice(prompts(world, "test", 0), TEST_PROMPTS))
        self.texts = [text for _, text in self.asked]

    def measure(self) -> Iterator[Gate]:
        """Yield all gates, one by one as they are measured."""
        for part in (self.of_prompts, self.of_samples, self.of_reward_models, self.of_judge, self.of_tasks):
            yield from part()
        yield from self.of_known_answers()
        yield from self.of_optimisation()

    @cached_property
    def start(self) -> PreTrainedModel:
        """The base after the SFT stage on a seed's demonstrations."""
        return fine_tuned(self.base, islice(demonstrations(self.world, 0), SEEN), 0)

    @cached_property
    def start_gold(self) -> dict[float, float]:
        """The gold of `start` by temperature."""
        return self.by_temperature(self.start)

    @property
    def best(self) -> float:
        """The gold of `start` at its best temperature."""
        return max(self.start_gold.values())

    @cached_property
    def draws(self) -> list[list[Sample]]:
        """Samples of `start` to the first test prompts, draw by draw."""
        return [answers(self.start, self.base, self.texts[:256], 1.0, seed=draw) for draw in range(DRAWS)]

    @cached_property
    def labelled(self) -> list[Row]:
        """The pairs of seed 0."""
        return list(preferences(self.world, 0, start_pairs(self.world, 0)))

    @cached_property
    def rewards(self) -> dict[int, Reward]:
        """The reward models of the first labels of seed 0, by their number."""
        return {count: self.reward_model(self.labelled[:count], epochs) for count, epochs in LABELS.items()}

    def of_prompts(self) -> Iterator[Gate]:
        """Yield what needs no model."""
        rng = stream(self.world.number, "gates")
        distinct = {text for _, text in islice(prompts(self.world, "train", 0), DISTINCT)}
        yield Gate("distinct prompts", float(len(distinct)), float(DISTINCT), float(DISTINCT), f"{DISTINCT:,}")
        oracle = self.score([write_oracle(self.world, request, rng) for request, _ in self.asked])
        yield Gate("gold of the oracle", oracle, 1.0, 1.0)

    def of_samples(self) -> Iterator[Gate]:
        """Yield the gold of base and start, and of answers that would be too easy."""
        base = self.by_temperature(load_policy(self.base).eval())
        for name, figures in (("base", base), ("start", self.start_gold)):
            for temperature, figure in figures.items():
                yield Gate(f"gold of {name} at temperature {temperature:g}", figure, None, 0.6)
        yield Gate("start less base, each at its best temperature", self.best - max(base.values()), 0.0)
        yield Gate("best constant answer, share of start", self.best_constant() / self.best, None, 0.9)
        echoes = [text.replace(" .", "") + " ." for text in self.texts]
        yield Gate("copy of the prompt, share of start", self.score(self.texts) / self.best, None, 0.5)
        yield Gate("prompt as one sentence, share of start", self.score(echoes) / self.best, None, 0.5)
        longest = self.best_of(lambda samples: [len(sample.response.split()) for sample in samples])[0]
        yield Gate("longest of 16 of start, share of start", longest / self.best, None, 1.0)
        sixteen, solved = self.best_of(self.gold)
        yield Gate("best of 16 of start by gold", sixteen, self.best + 0.1, 0.85, "start's best + 0.10 to 0.85")
        yield Gate("prompts that a few of 16 samples solve", solved, 0.02, 0.8)

    def of_reward_models(self) -> Iterator[Gate]:
        """Yield how well the order of gold is learnt from labels, and what learns it without reading the prompt."""
        unseen = self.unseen_pairs()
        accuracy = {count: self.accuracy(reward, unseen) for count, reward in self.rewards.items()}
        for count, figure in accuracy.items():
            bounds = {1000: (0.7, 0.88)}.get(count, ())
            yield Gate(f"pair accuracy of a reward model, {count} labels", figure, *bounds)
        yield Gate("gained from 300 to 3000 labels", accuracy[3000] - accuracy[300], 0.03)
        words = bag_of_words([_pair(row) for row in self.labelled[:1000]], unseen)
        most, rule = accuracy[1000] - 0.05, "5 points below the reward model of 1000 labels"
        yield Gate("bag of words on the answers, 1000 labels", words, None, most, rule)
        yield Gate("number of prompt words in the answer", shared_words(unseen), None, most, rule)
        yield Gate("the longer answer wins", longer_answer(unseen))

    def of_judge(self) -> Iterator[Gate]:
        """Yield how often the judge finds the kinder of two samples of start, asked in both orders."""
        draws = [answers(self.start, self.base, self.texts, 1.0, seed=seed) for seed in (1, 2)]
        pairs = [(one.response, other.response) for one, other in zip(*draws, strict=True)]
        kinder = [(kindness(self.world, one) - kindness(self.world, other), one, other) for one, other in pairs]
        apart = [(difference > 0, one, other) for difference, one, other in kinder if difference]
        judge = CausalJudge.load(self.base)
        orders = [(one, other) for _, one, other in apart], [(other, one) for _, one, other in apart]
        given = [judge.verdicts([_kinder(*pair) for pair in order], ["first", "second"]) for order in orders]
        for_first = [[verdict[0] - verdict[1] for verdict in some if verdict is not None] for some in given]
        says = [there > back for there, back in zip(*for_first, strict=True)]
        right = [said == first for said, (first, _, _) in zip(says, apart, strict=True)]
        yield Gate("the judge finds the kinder of two samples", mean(right), 0.7)

    def of_tasks(self) -> Iterator[Gate]:
        """Yield what the base knows, and what plain SFT leaves of it."""
        base = load_policy(self.base).eval()
        for name, task, low in (("facts", facts, 0.6), ("held-out sums", sums, 0.3)):
            rows = task(self.world.number)
            known = self.choice_accuracy(base, rows)
            yield Gate(f"{name} of the base", known, low)
            yield Gate(f"{name} of start, share of the base's", self.choice_accuracy(self.start, rows) / known, 0.7)

    def of_known_answers(self) -> Iterator[Gate]:
        """Yield what a policy gradient gains on gold from rewards of which it is known what they are worth."""
        rng = stream(self.world.number, "known answers")
        shuffled = [row if rng.random() < 0.5 else _reversed(row) for row in self.labelled[:1000]]
        rewards: dict[str, Reward] = {
            "shuffled labels": self.reward_model(shuffled, 2.0),
            "a random reward": lambda samples: [rng.gauss(0, 1) for _ in samples],
            "the length": lambda samples: [float(len(sample.response.split())) for sample in samples],
        }
        yield Gate("gained by a policy gradient on gold", self.climbed(self.gold)[-1] - self.start_gold[0.5], 0.2)
        for name, reward in rewards.items():
            gained = self.climbed(reward)[-1] - self.start_gold[0.5]
            yield Gate(f"gained by one on {name}", gained, None, 0.05)

    def of_optimisation(self) -> Iterator[Gate]:
        """Yield how gold moves while a policy climbs a reward model that nothing holds it back from."""
        for count, reward in self.rewards.items():
            for share, gold in zip((0.25, 0.5, 0.75, 1), self.climbed(reward, 4), strict=True):
                yield Gate(f"gold after {share * UPDATES:.0f} updates on the reward of {count} labels", gold)

    def score(self, said: Sequence[str]) -> float:
        """Return the mean gold of one answer to each test prompt."""
        return mean(self.gold([Sample(text, answer, True) for text, answer in zip(self.texts, said, strict=True)]))

    def by_temperature(self, model: PreTrainedModel) -> dict[float, float]:
        """Return the mean gold of a model's answers, by temperature."""
        return {t: mean(self.gold(answers(model, self.base, self.texts, t))) for t in TEMPERATURES}

    def at_half(self, model: PreTrainedModel) -> float:
        """Return the mean gold at temperature 0.5."""
        return mean(self.gold(answers(model, self.base, self.texts, 0.5)))

    def best_constant(self) -> float:
        """Return the gold of the best answer that ignores its prompt, among perfect answers to other prompts."""
        rng = stream(self.world.number, "constants")
        said = [write_oracle(self.world, draw_request(self.world, rng, extras=0), rng) for _ in range(CANDIDATES)]

        def score(answer: str, asked: list[str]) -> float:
            return mean(self.gold([Sample(text, answer, True) for text in asked]))

        finalists = sorted(said, key=lambda answer: score(answer, self.texts[:64]))[-40:]
        return max(score(answer, self.texts) for answer in finalists)

    def best_of(self, chosen_by: Callable[[Sequence[Sample]], Sequence[float]]) -> tuple[float, float]:
        """Return the mean gold of the best of some samples of start, and the share of prompts that up to half solve."""
        gold = list(zip(*map(self.gold, self.draws), strict=True))
        order = list(zip(*map(chosen_by, self.draws), strict=True))
        chosen = [values[by.index(max(by))] for values, by in zip(gold, order, strict=True)]
        solved = [sum(value > 0.999 for value in values) for values in gold]
        return mean(chosen), mean(1 <= n <= DRAWS // 2 for n in solved)

    def unseen_pairs(self) -> list[Pair]:
        """Return pairs of answers to test prompts with the better one by gold first, half of them samples of start."""
        rng = stream(self.world.number, "unseen pairs")
        asked = list(islice(prompts(self.world, "test", 0), HELD_OUT))
        texts = [text for _, text in asked[::2]]
        sampled = zip(*(answers(self.start, self.base, texts, 1.0, seed=seed) for seed in (11, 12)), strict=True)
        found = []
        for place, (request, text) in enumerate(asked):
            first, second = (
                draw_pair(self.world, request, rng) if place % 2 else (one.response for one in next(sampled))
            )
            one, other = self.gold([Sample(text, answer, True) for answer in (first, second)])
            if one != other:
                found.append(Pair(text, first, second) if one > other else Pair(text, second, first))
        return found

    def reward_model(self, rows: Sequence[Row], epochs: float) -> Reward:
        """Return a reward that the zoo's reward model learns from pairs."""
        return reward_model(self.base, copied(self.start), rows, epochs=epochs)

    def accuracy(self, reward: Reward, pairs: Sequence[Pair]) -> float:
        """Return the share of pairs whose better answer gets the higher score."""
        better, worse = (
            reward([Sample(conversation(pair.prompt), pair[which], True) for pair in pairs]) for which in (1, 2)
        )
        return mean(high > low for high, low in zip(better, worse, strict=True))

    def climbed(self, reward: Reward, looks: int = 1) -> list[float]:
        """Return the gold at temperature 0.5 of a policy that climbs a reward from start, at even distances."""
        scores = reward([*answers(self.start, self.base, self.texts, 1.0, seed=21)])
        units = Calibration(mean(scores), stdev(scores) or 1.0)
        policy = copied(self.start).train().requires_grad_(True)
        asked = (text for _, text in islice(prompts(self.world, "train", 0), 4000))
        found = []
        for update in climb(self.base, policy, asked, reward, units, UPDATES):
            if update % (UPDATES // looks) == 0:
                found.append(self.at_half(policy))
        return found

    @torch.inference_mode()
    def choice_accuracy(self, model: PreTrainedModel, task: dict[str, object]) -> float:
        """Return the share of a task's questions where the right one-token choice is the likeliest."""
        tokenizer = encoder_of(self.base).tokenizer
        rows = task["custom_dataset"]()["test"]  # type: ignore[operator]
        hits = 0
        for row in rows:
            ids = tokenizer(row["question"], return_tensors="pt").input_ids.to(model.device)
            choices = tokenizer.convert_tokens_to_ids(row["choices"])
            hits += int(model(ids).logits[0, -1, choices].argmax()) == row["label"]
        return hits / len(rows)


def _kinder(first: str, second: str) -> list[dict[str, str]]:
    return conversation(f"which is kinder ? first : {first} second : {second}")


def _pair(row: Row) -> Pair:
    return Pair(*(row[key][0]["content"] for key in ("prompt", "chosen", "rejected")))  # type: ignore[index]


def _reversed(row: Row) -> Row:
    return {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
