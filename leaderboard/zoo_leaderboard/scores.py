"""What scoring a row and seed found: its scores, and the answers behind them.

Any measured number may be null: it was not or could not be measured. Units: FLOPs, tokens, nats; shares are fractions.
"""

from typing import Annotated, Literal, NotRequired, get_args

from pydantic import Field
from typing_extensions import TypedDict


class TaskScore(TypedDict):
    """The score of one lm-eval task; `chance` is that of blind guessing, on a scale that ends at 1."""

    metric: NotRequired[str]
    score: float | None
    stderr: float | None
    chance: Annotated[float, Field(lt=1)] | None
    n: int | None
    is_share: NotRequired[bool]
    """Whether it is a share of right answers, 0 to 1; a perplexity or a length is shown but is no capability."""


class PairAccuracy(TypedDict):
    """How often gold or proxy ranks pairs that it was not trained on as people did; ties count 1/2."""

    accuracy: Annotated[float, Field(ge=0, le=1)]
    shorter: Annotated[float, Field(ge=0, le=1)]
    """Of the baseline by which the shorter answer wins, on the same pairs."""
    pairs: Annotated[int, Field(ge=1)]


class Summary(TypedDict):
    """Means over responses."""

    gold: float | None
    proxy: float | None
    length: float | None
    """Tokens of a response."""
    ended: float | None
    """Share of the responses that ended themselves."""


class BestOf(TypedDict):
    """What the best of n samples are worth."""

    n: float
    kl_bound: float
    proxy: float | None
    gold: float | None


ScoreName = Literal[
    "gold", "gold_best", "proxy", "kl_start", "win_start", "length", "ended", "distinct", "identical",
    "temperature", "flops_per_query",
]  # fmt: skip
"""The scores that are one number."""
AVERAGED: tuple[ScoreName, ...] = tuple(
    name for name in get_args(ScoreName) if name not in ("gold_best", "temperature")
)
"""The scores that a row shows as means over its seeds."""
SHARES: tuple[ScoreName, ...] = ("win_start", "ended", "distinct", "identical")
"""Those of them that lie between 0 and 1."""


class Objective(TypedDict):
    """What a row was trained for, measured on what it was not given."""

    what: Literal["reward", "loss on demonstrations", "loss on pairs"]
    before: float
    """That of `start`; of a row that selects demonstrations, or starts from the base with pairs alone, the base's."""
    after: float
    better: bool


class Scores(TypedDict):
    """What the scorer found for the final weights, at the row's own best temperature."""

    gold: float | None
    gold_best: float | None
    proxy: float | None
    kl_start: float | None
    kl_start_per_token: float | None
    win_start: float | None
    length: float | None
    ended: float | None
    distinct: float | None
    identical: NotRequired[float | None]
    """Share of the prompts that the most frequent answer is given to."""
    temperature: float | None
    flops_per_query: float | None
    """What one answer costs; of a best-of-n row all n samples and their scores."""
    pair_accuracy: NotRequired[dict[str, PairAccuracy]]
    """On the row `start` alone: of "gold" and of "proxy"."""
    objective: NotRequired[Objective | None]
    """None where it is not measured: of what is not trained, and of what learns from a judge."""
    best_of_curve: NotRequired[list[BestOf]]
    """Of a best-of-n row: what 1, 2, 4 ... n samples are worth."""
    by_temperature: dict[str, Summary]
    """On dev prompts."""
    tasks: dict[str, TaskScore]
    parts: dict[str, float | None]


class Item(TypedDict):
    """One test prompt with the row's answer."""

    prompt: str
    response: str
    gold: float | None
    proxy: float | None
    gold_start: float | None
    ended: NotRequired[bool]
    proxy_start: NotRequired[float | None]


class Point(TypedDict):
    """One point of an unfinished run: a diagnostic, never compared with finished runs."""

    fraction: float
    flops: float | None
    gold: float | None
    proxy: float | None
    kl_start: float | None
    length: float | None
