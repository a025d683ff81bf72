"""What tells the better of two answers without understanding the prompt: a world must not yield to it."""

from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any, NamedTuple

from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

INVERSE_PENALTIES = (0.01, 0.1, 1.0)


class Pair(NamedTuple):
    """A prompt, the better answer to it and the worse one."""

    prompt: str
    better: str
    worse: str


def bag_of_words(labelled: Sequence[Pair], unseen: Sequence[Pair]) -> float:
    """Return the accuracy on unseen pairs of a logistic regression on the differences in counts of words.

    The best of three penalties, as judged on the unseen pairs: that favours the shortcut.
    """
    words = CountVectorizer(token_pattern=r"\S+").fit([answer for pair in labelled for answer in pair[1:]])

    def differences(pairs: Sequence[Pair]) -> Any:
        return words.transform([pair.better for pair in pairs]) - words.transform([pair.worse for pair in pairs])

    seen = differences(labelled)
    signs = [1 if place % 2 else -1 for place in range(len(labelled))]
    examples = seen.multiply([[sign] for sign in signs]).tocsr()
    found = []
    for penalty in INVERSE_PENALTIES:
        model = LogisticRegression(C=penalty, fit_intercept=False, max_iter=1000).fit(examples, signs)
        found.append(_share(model.decision_function(differences(unseen)).tolist()))
    return max(found)


def shared_words(pairs: Sequence[Pair]) -> float:
    """Return the accuracy of the number of words of the prompt in the answer, each counted once or as often as used."""

    def of(count: Callable[[set[str], list[str]], int]) -> float:
        return _share(
            [
                count(set(pair.prompt.split()), pair.better.split())
                - count(set(pair.prompt.split()), pair.worse.split())
                for pair in pairs
            ]
        )

    return max(of(lambda asked, said: len(asked & set(said))), of(lambda asked, said: sum(w in asked for w in said)))


def longer_answer(pairs: Sequence[Pair]) -> float:
    """Return how often the better answer has more words."""
    return _share([len(pair.better.split()) - len(pair.worse.split()) for pair in pairs])


def _share(differences: Sequence[float | int]) -> float:
    """Return the share of positive differences; a difference of 0 is decided by a coin."""
    return mean(1.0 if difference > 0 else 0.5 if difference == 0 else 0.0 for difference in differences)
