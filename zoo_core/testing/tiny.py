"""A model, rows, a reward and a judge that take milliseconds, for tests."""
# ruff: noqa: D102  # `Judge` says what its methods do

import atexit
import re
import tempfile
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, get_args

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from zoo_core.accounting.attention import use_metered_attention
from zoo_core.datasets.encoding import Encoder
from zoo_core.judge import Judge, Written
from zoo_core.records import Signal
from zoo_core.reward import Calibration, Reward, Sample
from zoo_core.rows import DataRow, Demonstration, Preference, Prompt, Text
from zoo_core.run import Run
from zoo_core.session.session import Session

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "<user>", "<assistant>", "<system>")
LETTERS = "abcdefghijklmnopqrstuvwxyz .,!?\n"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SIGNALS: tuple[Signal, ...] = get_args(Signal)
PLENTY = 1e15
"""A budget that no tiny run spends."""


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per letter, BOS, EOS, a separate pad token and a chat template."""
    words = [*SPECIAL, *LETTERS]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        extra_special_tokens=["<user>", "<assistant>", "<system>"],
        chat_template=TEMPLATE,
    )


def tiny_policy(seed: int = 0, **settings: Any) -> LlamaForCausalLM:
    """Return a random Llama of 2 layers and width 32; the settings change its `LlamaConfig`."""
    use_metered_attention()
    torch.manual_seed(seed)
    shape: dict[str, Any] = {
        "vocab_size": len(SPECIAL) + len(LETTERS),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "attn_implementation": "sdpa",
    }
    return LlamaForCausalLM(LlamaConfig(**{**shape, **settings}))


EARLY = "abcdefghijklm"
"""The first half of the alphabet."""


def tiny_rows(signals: Collection[Signal] = SIGNALS, count: int = 24) -> dict[str, list[DataRow]]:
    """Return rows for each signal that is a data set. The better answer has more of the letter a."""
    rows: dict[str, list[DataRow]] = {"demonstrations": [], "preferences": [], "prompts": []}
    for number in range(count):
        prompt: Text = [{"role": "user", "content": _letters(number, 1 + number % 5)}]
        good: Text = [{"role": "assistant", "content": "a" * (1 + number % 3)}]
        bad: Text = [{"role": "assistant", "content": _letters(number + 7, 1 + number % 4)}]
        rows["demonstrations"].append(Demonstration(prompt, good, f"demonstration {number}"))
        rows["preferences"].append(Preference(prompt, good, bad, f"preference {number}"))
        rows["prompts"].append(Prompt(prompt, f"prompt {number}"))
    return {name: some for name, some in rows.items() if name in signals}


def share_of_a(samples: Sequence[Sample]) -> list[float]:
    """Score texts by the share of the letter a, 0 to 1: a reward whose best answers are known."""
    return [_share(sample.response, "a") for sample in samples]


def share_of_early(samples: Sequence[Sample]) -> list[float]:
    """Score texts by the share of the letters a to m, 0 to 1: a reward that a tiny policy meets often by chance."""
    return [_share(sample.response, EARLY) for sample in samples]


class LikesA:
    """A judge without a model. It prefers texts with a larger share of the letter a, and sometimes abstains.

    It reads the texts after "first:" and "second:" (each on its own line), or after "text:", from the question.
    """

    parameters = 0
    tokens = 0
    constitution: ClassVar[Path | None] = None
    letters: ClassVar[str] = "a"

    def verdicts(self, questions: Sequence[Text], answers: Sequence[str]) -> list[list[float] | None]:
        return [None if number % 7 == 6 else self.verdict(text, answers) for number, text in enumerate(questions)]

    def verdict(self, question: Text, answers: Sequence[str]) -> list[float]:
        asked = question if isinstance(question, str) else question[-1]["content"]
        shares = [
            _share(text, self.letters) for text in re.findall(r"^(?:first|second|text): ?(.*)$", asked, re.MULTILINE)
        ]
        if len(shares) == len(answers):
            return [4.0 * share for share in shares]
        # One text on a scale: the answers stand for levels from low to high.
        level = shares[0] * (len(answers) - 1) if shares else 0.0
        return [-abs(place - level) for place in range(len(answers))]

    def write(self, questions: Sequence[Text], longest: int, temperature: float, seed: int) -> list[Written]:
        return [Written("a" * (1 + number % min(3, longest)), ended=True) for number, _ in enumerate(questions)]


class LikesEarly(LikesA):
    """The same for the letters a to m."""

    letters = EARLY


def _share(text: str, letters: str) -> float:
    return sum(letter in letters for letter in text) / max(1, len(text))


def tiny_session(
    signals: Collection[Signal] = SIGNALS,
    *,
    seed: int = 0,
    budget: float = PLENTY,
    directory: Path | None = None,
    policy: PreTrainedModel | None = None,
    encoder: Encoder | None = None,
    rows: Mapping[str, Sequence[DataRow]] | None = None,
    reward: Reward = share_of_a,
    judge: Judge | None = None,
    audited: float = Session.audited,
) -> Session:
    """Return a session with these signals; with a directory it takes a checkpoint at every boundary."""
    return Session(
        policy=policy or tiny_policy(),
        encoder=encoder or tiny_encoder(),
        seed=seed,
        budget=budget,
        rows=tiny_rows(signals) if rows is None else rows,
        reward=reward if "reward" in signals else None,
        calibration=Calibration(0.0, 1.0) if "reward" in signals else None,
        judge=(judge or LikesA()) if "judge" in signals else None,
        directory=directory,
        audited=audited,
        checkpoint_seconds=0.0,
    )


@cache
def tiny_folder() -> Path:
    """Return a folder that holds the tiny policy and its tokenizer; it goes with the process."""
    folder = tempfile.TemporaryDirectory(prefix="tiny-")
    atexit.register(folder.cleanup)
    tiny_policy().save_pretrained(folder.name)
    tiny_tokenizer().save_pretrained(folder.name)
    return Path(folder.name)


def tiny_encoder(response_tokens: int = 6) -> Encoder:
    """Return an encoder with the tiny tokenizer, on the CPU."""
    return Encoder(tiny_tokenizer(), prompt_tokens=16, response_tokens=response_tokens, device=torch.device("cpu"))


def tiny_run(**settings: Any) -> Run:
    """Return the run of a `tiny_session`."""
    return Run(tiny_session(**settings))


def _letters(number: int, length: int) -> str:
    """Return letters that look random and never change: b to z only."""
    return "".join(chr(ord("b") + (number * 11 + place * place * 3 + place) % 25) for place in range(length))
