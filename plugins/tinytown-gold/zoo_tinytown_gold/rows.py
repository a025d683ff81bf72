"""The data sets of a world as conversational rows. A seed draws the rows, the annotators and their slips."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from random import Random

from zoo_tinytown.references import AS_THEY_ARE, Dials

from zoo_tinytown_gold.annotators import draw_annotators
from zoo_tinytown_gold.pretraining import draw_skill
from zoo_tinytown_gold.requests import Request, Split, draw_request, prompts
from zoo_tinytown_gold.shares import moved
from zoo_tinytown_gold.world import World, stream
from zoo_tinytown_gold.writers import write_skilled

Message = dict[str, str]
Row = Mapping[str, str | list[Message]]
Pair = tuple[str, str]

DEMONSTRATIONS, PREFERENCES, PROMPTS = 4000, 3000, 6000
SCORED_PROMPTS = {"dev": 512, "test": 2048}
DEMONSTRATION_SKILLS = {0.3: 0.3, 0.5: 0.4, 0.65: 0.22, 0.95: 0.08}
"""The skills of the writers of demonstrations, with their shares: better on average than those of pretraining."""
PREFERENCE_SKILLS = {0.1: 0.4, 0.45: 0.2, 0.8: 0.4}
"""The skills of the writers whose answers annotators compare: far apart, so that pairs have a better answer."""
NOISE_RATE = 0.12
"""The share of demonstrations with a fault that is not due to the skill of their writer."""


def demonstrations(world: World, seed: int, dials: Dials = AS_THEY_ARE) -> Iterator[Row]:
    """Yield prompts with answers of mixed quality."""
    rng = stream(world.number, "demonstrations", seed)
    skills = dict(zip(moved(DEMONSTRATION_SKILLS, dials.demonstrations), DEMONSTRATION_SKILLS.values(), strict=True))
    for request, text in islice(prompts(world, "train", seed, use="demonstrations"), DEMONSTRATIONS):
        answer = write_skilled(world, request, rng, draw_skill(skills, rng))
        if rng.random() < NOISE_RATE:
            answer = rng.choice(_NOISES)(world, answer, rng)
        yield {"prompt": [_user(text)], "completion": [_assistant(answer)]}


def preferences(world: World, seed: int, sampled: Sequence[Pair | None], dials: Dials = AS_THEY_ARE) -> Iterator[Row]:
    """Yield pairs of answers to the first prompts of the seed's pool, labelled by its annotators.

    Every second pair is two samples of `start` (`sampled`, see `samples.start_pairs`), which vary in form, too; the
    others are by writers. `source` names which. Where two samples are alike, writers answer.
    """
    rng = stream(world.number, "preferences", seed)
    annotators = draw_annotators(world, seed, dials.slips)
    for place, (request, text) in enumerate(islice(prompts(world, "train", seed), PREFERENCES)):
        by_start = sampled[place // 2] if place % 2 == 0 else None
        answers = by_start or draw_pair(world, request, rng)
        if not rng.choice(annotators).prefers_first(world, request, answers, rng):
            answers = answers[::-1]
        yield {
            "prompt": [_user(text)],
            "chosen": [_assistant(answers[0])],
            "rejected": [_assistant(answers[1])],
            "source": "start" if by_start else "writers",
        }


def draw_pair(world: World, request: Request, rng: Random) -> Pair:
    """Draw two different answers to a request, by writers."""
    while True:
        skills = [draw_skill(PREFERENCE_SKILLS, rng) for _ in range(2)]
        first, second = (write_skilled(world, request, rng, skill) for skill in skills)
        if first != second:
            return first, second


def prompt_rows(world: World, split: Split, seed: int) -> Iterator[Row]:
    """Yield the prompts of a split in the order of a seed."""
    for _, text in islice(prompts(world, split, seed), SCORED_PROMPTS.get(split, PROMPTS)):
        yield {"prompt": [_user(text)]}


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _repeat(world: World, answer: str, rng: Random) -> str:
    pieces = [text for text, _ in world.grammar.parse_text(answer)]
    return " ".join([*pieces[:3], pieces[0]])


def _truncate(world: World, answer: str, rng: Random) -> str:
    words = answer.split()
    return " ".join(words[: rng.randint(2, len(words) - 1)])


def _mismatch(world: World, answer: str, rng: Random) -> str:
    return write_skilled(world, draw_request(world, rng), rng, 0.7)


def _scramble(world: World, answer: str, rng: Random) -> str:
    words = answer.split()
    rng.shuffle(words)
    return " ".join(words)


_NOISES: tuple[Callable[[World, str, Random], str], ...] = (_repeat, _truncate, _mismatch, _scramble)
