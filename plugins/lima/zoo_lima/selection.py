"""The curation of demonstrations, as pure functions: rules of quality, then quotas over kinds of prompts.

Zhou et al. 2023, "LIMA: Less Is More for Alignment", arXiv:2305.11206, section 2. A rule takes all rows and returns,
for each, whether it breaks the rule.
"""

import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import compress, pairwise
from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer


class Pair(NamedTuple):
    """A demonstration as plain text."""

    prompt: str
    answer: str


class Kinds(NamedTuple):
    """Kinds of prompts."""

    labels: list[int]
    """The kind of each prompt, from 0."""
    names: list[str]
    """The words that tell each kind from the others."""
    flops: int
    """FLOPs of the distances to the centres."""


Rule = Callable[[Sequence[Pair]], list[bool]]

CLOSING = re.compile(r"""[.!?:;)\]}"'”’»…`。！？]\s*$""")
FIRST_PERSON = re.compile(r"\b(i(?!\.e\b|\))|me|my|mine|myself)\b", re.IGNORECASE)
ELSEWHERE = re.compile(
    r"\b(as|like) (others have |\w+ )?(mentioned|said|noted|stated|explained|pointed out)\b"
    r"|\b(other|previous|above|accepted|earlier) (answers?|posts?|comments?|repl(y|ies)|responses?)\b"
    r"|\bsee (above|below)\b|https?://|www\.|<\w+[^<>]*>",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"[.!?]+(?=\s|$)|\n")
RUN = 3
"""Number of consecutive words that are compared between texts."""
ALIKE = 0.8
"""Share of common runs of words from which on two texts count as the same."""
STRANGE = 0.95
"""Quantile of the share of word pairs that no other answer has; above it an answer is strange."""


def odd_lengths(pairs: Sequence[Pair], shortest: float, longest: float) -> list[bool]:
    """Return which answers are shorter or longer than these quantiles of the pool (paper: 1,200, 4,096 characters)."""
    lengths = [len(pair.answer) for pair in pairs]
    low, high = np.quantile(lengths, [shortest, longest])
    return [not low <= length <= high for length in lengths]


def cut_off(pairs: Sequence[Pair]) -> list[bool]:
    """Return which answers do not end with a closing mark, in a pool where most do."""
    opened = [not CLOSING.search(pair.answer) for pair in pairs]
    return opened if 2 * sum(opened) < len(pairs) else [False] * len(pairs)


def first_person(pairs: Sequence[Pair]) -> list[bool]:
    """Return which answers are in the first person ("I", "my")."""
    return [bool(FIRST_PERSON.search(pair.answer)) for pair in pairs]


def refers_elsewhere(pairs: Sequence[Pair]) -> list[bool]:
    """Return which answers refer to other answers ("as mentioned", "other answers"), or have links or HTML."""
    return [bool(ELSEWHERE.search(pair.answer)) for pair in pairs]


def repeats_itself(pairs: Sequence[Pair]) -> list[bool]:
    """Return which answers have a sentence of some length twice."""
    sentences = [[runs(sentence) for sentence in SENTENCE_END.split(pair.answer)] for pair in pairs]
    long = [[sentence for sentence in answer if len(sentence) > 1] for answer in sentences]
    return [len(set(answer)) < len(answer) for answer in long]


def copies_the_prompt(pairs: Sequence[Pair]) -> list[bool]:
    """Return which answers have mostly runs of words that are in their prompt."""
    texts = [(runs(pair.prompt), runs(pair.answer)) for pair in pairs]
    return [len(prompt & answer) >= ALIKE * len(answer) for prompt, answer in texts]


def unlike_others(pairs: Sequence[Pair]) -> list[bool]:
    """Return which answers have a share of unique word pairs above the quantile `STRANGE` (word salad)."""
    found = [set(pairwise(re.findall(r"\w+", pair.answer.lower()))) for pair in pairs]
    answers = Counter(two for answer in found for two in answer)
    alone = [sum(answers[two] == 1 for two in answer) / max(1, len(answer)) for answer in found]
    most = float(np.quantile(alone, STRANGE))
    return [share > most for share in alone]


def near_duplicates(pairs: Sequence[Pair]) -> list[bool]:
    """Return which rows are almost the same as an earlier, kept row, by Jaccard similarity |A∩B| / |A∪B|."""
    duplicates: list[bool] = []
    kept: list[frozenset[str]] = []
    holders: dict[str, list[int]] = {}
    for pair in pairs:
        text = runs(f"{pair.prompt}\n{pair.answer}")
        common = Counter(other for run in text for other in holders.get(run, ()))
        alike = (n >= ALIKE * (len(text) + len(kept[other]) - n) for other, n in common.items())
        duplicates.append(any(alike))
        if not duplicates[-1]:
            for run in text:
                holders.setdefault(run, []).append(len(kept))
            kept.append(text)
    return duplicates


def runs(text: str) -> frozenset[str]:
    """Return every run of three words in a row, without case and punctuation; all words of a shorter text."""
    words = re.findall(r"\w+", text.lower())
    return frozenset(" ".join(words[place : place + RUN]) for place in range(max(1, len(words) - RUN + 1)))


def sift(pairs: Sequence[Pair], shortest: float, longest: float) -> tuple[list[int], dict[str, list[int]]]:
    """Apply the rules one by one, each to the rows left; return the kept rows, and the rejected rows by rule."""
    rules: dict[str, Rule] = {
        "its length is out of bounds": lambda left: odd_lengths(left, shortest, longest),
        "it is cut off": cut_off,
        "it is in the first person": first_person,
        "it refers elsewhere": refers_elsewhere,
        "it repeats itself": repeats_itself,
        "it copies the prompt": copies_the_prompt,
        "it is unlike all others": unlike_others,
        "it is a near duplicate": near_duplicates,
    }
    kept, rejected = [*range(len(pairs))], {}
    for name, rule in rules.items():
        broken = rule([pairs[row] for row in kept]) if kept else []
        rejected[name] = list(compress(kept, broken))
        kept = sorted({*kept} - {*rejected[name]})
    return kept, rejected


def find_kinds(prompts: Sequence[str], count: int, seed: int) -> Kinds:
    """Group prompts by k-means over their words (TF-IDF), into fewer kinds than `count` if there are fewer prompts."""
    if not any(re.search(r"\w", prompt) for prompt in prompts):
        return Kinds([0] * len(prompts), ["no words"], 0)
    tfidf = TfidfVectorizer(token_pattern=r"\w+")
    points = tfidf.fit_transform(prompts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct prompts than kinds: then fewer kinds
        found = KMeans(min(count, len(prompts)), random_state=seed).fit(points)
    words = tfidf.get_feature_names_out()
    telling = (found.cluster_centers_ - found.cluster_centers_.mean(0)).argsort(1)[:, :-4:-1]
    # Each step multiplies every word of every prompt with K centres; k-means++ before it as often for 2 + ln K trials.
    steps = found.n_iter_ + 2 + int(math.log(found.n_clusters))
    flops = 2 * points.nnz * found.n_clusters * steps
    return Kinds(found.labels_.tolist(), [", ".join(words[centre]) for centre in telling], flops)


def quotas(sizes: Sequence[int], total: int, temperature: float) -> list[int]:
    """Divide exactly `total` rows among kinds of these sizes in proportion to n^(1/τ); no kind gets more than it has.

    qₖ ∝ nₖ^(1/τ), the next row to the kind with the largest nₖ^(1/τ) / (qₖ + ½) that has one left
    """
    given = [0] * len(sizes)
    for _ in range(min(total, sum(sizes))):
        open_kinds = [kind for kind, size in enumerate(sizes) if given[kind] < size]
        given[max(open_kinds, key=lambda kind: sizes[kind] ** (1 / temperature) / (given[kind] + 0.5))] += 1
    return given
