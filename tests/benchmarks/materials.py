"""The models, texts and sessions that the benchmarks train with.

The texts are the preference pairs of the real data beside the checkout. Conversations longer than 224 tokens are left
out and answers are shortened, as text, until prompt and answer are at most 256 tokens with the base's tokenizer: so
nobody truncates anything, and everybody reads the same.
"""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel
from zoo_harness.spec.schema import Spec

from zoo_core.datasets.encoding import Encoder
from zoo_core.models.copies import scorer_from
from zoo_core.models.scorer import Scorer
from zoo_core.models.tokenizers import load_tokenizer
from zoo_core.registry.plugins import plugins
from zoo_core.registry.references import load_all
from zoo_core.reward import Calibration, Sample
from zoo_core.rollout import RolloutEngine
from zoo_core.rows import DataRow, Demonstration, Preference, Prompt
from zoo_core.session.session import Session

REAL = Path(__file__).parents[3] / "shared" / "data" / "real"
BASE = REAL / "base"
PROMPT_TOKENS, LONGEST = 224, 256
SHORT_PROMPT_TOKENS, NEW_TOKENS = 96, 48
"""Of prompts that are sampled from, and of the samples."""

ENDLESS = 1e18
"""FLOPs that no benchmark spends."""

SHAPES = {
    "1M": (128, 352, 4),
    "3.4M": (192, 512, 6),
    "10M": (320, 864, 7),
    "25M": (512, 1408, 7),
}
"""Hidden size, intermediate size and layers of a Llama with the base's vocabulary."""


def llama(size: str) -> LlamaForCausalLM:
    """Return a random Llama of about so many parameters, heads of 64 at most, embeddings tied."""
    hidden, intermediate, layers = SHAPES[size]
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=4096,
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=max(4, hidden // 64),
            max_position_embeddings=512,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            attn_implementation="sdpa",
        )
    )


@cache
def encoder(prompt_tokens: int = PROMPT_TOKENS, response_tokens: int = LONGEST) -> Encoder:
    """Return the encoder of the base's tokenizer."""
    return Encoder(load_tokenizer(BASE), prompt_tokens, response_tokens, torch.device("cpu"))


def write_pairs(path: Path, prompt_tokens: int, count: int = 512) -> None:
    """Write the first pairs whose prompt is short enough, answers cut to `LONGEST` together with it."""
    encode = encoder(prompt_tokens)
    pairs = (row for row in load_all(str(REAL / "preferences.jsonl"), "preferences", 0) if isinstance(row, Preference))
    short = [pair for pair in pairs if encode.fits(pair.prompt, pair.where)][:count]
    cut = (_cut(pair) for pair in short)
    rows = ({"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected} for pair in cut)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _cut(pair: Preference) -> Preference:
    encode = encoder()
    room = LONGEST - len(encode.prompt(pair.prompt))

    def short(answer: Any) -> Any:
        (message,) = answer
        words = message["content"].split(" ")
        while len(encode.response(pair.prompt, [{**message, "content": " ".join(words)}])) > room:
            words.pop()
        return [{**message, "content": " ".join(words)}]

    return replace(pair, chosen=short(pair.chosen), rejected=short(pair.rejected))


def read_pairs(path: Path) -> list[Preference]:
    """Read them; each says by `where` which line it is, from 0."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [Preference(row["prompt"], row["chosen"], row["rejected"], str(n)) for n, row in enumerate(rows)]


def length(samples: Sequence[Sample]) -> list[float]:
    """Score by length: a reward that costs no time."""
    return [float(len(sample.response)) for sample in samples]


def scorer_of(policy: PreTrainedModel) -> Scorer:
    """Return a reward model as large as the policy."""
    return Scorer(scorer_from(policy, seed=0).eval().requires_grad_(False), encoder().tokenizer)


def session(
    policy: PreTrainedModel,
    learns_from: Collection[str],
    pairs: Sequence[Preference],
    reward: Callable[[Sequence[Sample]], list[float]] = length,
) -> Session:
    """Return a session that its budget never ends, with the encoder that the signals need."""
    rows: dict[str, Sequence[DataRow]] = {
        "preferences": pairs,
        "demonstrations": [Demonstration(pair.prompt, pair.chosen, pair.where) for pair in pairs],
        "prompts": [Prompt(pair.prompt, pair.where) for pair in pairs],
    }
    samples = "prompts" in learns_from
    return Session(
        policy=policy,
        encoder=encoder(SHORT_PROMPT_TOKENS, NEW_TOKENS) if samples else encoder(),
        seed=0,
        budget=ENDLESS,
        rows={name: rows[name] for name in learns_from if name in rows},
        reward=reward if "reward" in learns_from else None,
        calibration=Calibration(mean=150.0, deviation=50.0) if "reward" in learns_from else None,
        engine=engine(),
    )


def engine() -> RolloutEngine:
    """Return the engine that a bench samples with unless told otherwise."""
    name = Spec.model_fields["rollout_engine"].default
    found: RolloutEngine = plugins().first("zoo_rollout_engine", name=name)
    return found
