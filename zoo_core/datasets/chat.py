"""Chat templates and the end of a turn: one rule for sampling, training, scoring, judging and display.

Each of these ends a turn: the tokenizer's EOS, the ids that the model's generation config names, and the first special
token that the chat template writes after an answer. They often differ: a template closes a turn with <|im_end|>, EOS is
<|endoftext|>, and the generation config names both.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from zoo_core.errors import DataError, ModelError
from zoo_core.rows import Message

MOST_KNOWN = 2**16
"""Largest number of conversations whose tokens are cached."""
_MARK = "Answer7Mark"
"""An answer that no template writes by itself. The text after it is what closes a turn."""


@dataclass
class Chat:
    """Writes conversations with a tokenizer's template and finds where turns end."""

    tokenizer: PreTrainedTokenizerBase
    named: Sequence[int] = ()
    """The ids by which the model's generation config ends a response."""
    most_known: int = MOST_KNOWN
    """Largest number of cached conversations. Rows come again in every pass, sampled texts hardly ever do."""
    _written: dict[str, str] = field(default_factory=dict, repr=False)
    _known: dict[str, list[int]] = field(default_factory=dict, repr=False)
    """The token ids of texts; `_written` holds the texts of conversations."""

    @cached_property
    def ends(self) -> frozenset[int]:
        """All ids that end a response."""
        ids = [self.tokenizer.eos_token_id, self._closing[1], *self.named]
        return frozenset(one for one in ids if one is not None)

    def end_of(self, is_conversation: bool) -> int | None:
        """Return the id to put after an answer that ended: the template's in a conversation, EOS elsewhere."""
        closing = self._closing[1] if is_conversation else None
        return self.tokenizer.eos_token_id if closing is None else closing

    def prompt(self, messages: Sequence[Message], where: str) -> list[int]:
        """Return the token ids of a prompt, up to the place where an answer begins."""
        return self._ids(self._write(messages, True, where))

    def answer(self, prompt: Sequence[Message], answer: Sequence[Message], where: str) -> list[int] | None:
        """Return the token ids of an answer without the close of its turn; None if the template changes the prompt."""
        start = self._write(prompt, True, where)
        text = self._write([*prompt, *answer], False, where)
        if not text.startswith(start):
            return None
        whole, before = self._ids(self._open(text)), self._ids(start)
        if whole[: len(before)] == before:
            return whole[len(before) :]
        # The tokenizer merges the end of the prompt with the answer. A policy answers after the prompt's own tokens.
        return self._ids(self._open(text).removeprefix(start))

    def open_turn(self, messages: Sequence[Message], where: str) -> list[int]:
        """Return the token ids of a conversation without the close of its last turn."""
        return self._ids(self._open(self._write(messages, False, where)))

    def cut(self, ids: Sequence[int]) -> list[int]:
        """Return the ids before the first one that ends a response."""
        return list(ids[: next((place for place, one in enumerate(ids) if one in self.ends), len(ids))])

    @cached_property
    def _closing(self) -> tuple[str, int | None]:
        """The text with which the template closes an answer, and the first special token in it, if there is one."""
        if not self.tokenizer.chat_template:
            return "", None
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARK}]
        try:
            text = self._write(messages, False, "a question with its answer")
        except DataError:  # it wants other conversations; the rows will tell which, each by its place
            return "", None
        behind = text.rpartition(_MARK)[2]
        end = next((one for one in self._ids(behind) if one in self.special), None)
        if end is not None:
            word = str(self.tokenizer.decode([end], skip_special_tokens=False)).strip()
            return behind[behind.find(word) :] if word in behind else behind, end
        # Without an EOS token, the text that the template writes is the only sign of an end.
        return (behind, None) if self.tokenizer.eos_token_id is not None else ("", None)

    @cached_property
    def special(self) -> frozenset[int]:
        """The ids of tokens that are not text: special tokens, and others that were added to the vocabulary."""
        added = (number for word, number in self.tokenizer.get_added_vocab().items() if word.strip())
        return frozenset([*self.tokenizer.all_special_ids, *added])

    def _open(self, text: str) -> str:
        behind = self._closing[0]
        return text.removesuffix(behind) if behind else text

    def _write(self, messages: Sequence[Message], answer_follows: bool, where: str) -> str:
        if self.tokenizer.chat_template is None:
            raise ModelError(
                f"{where}: this is a conversation, but the model's tokenizer has no chat template to write it with. "
                "Add a chat_template.jinja to the model directory, or give the rows as plain text."
            )
        name = repr((messages, answer_follows))
        if name not in self._written:
            if len(self._written) == self.most_known:
                self._written.clear()
            self._written[name] = self._render(messages, answer_follows, where)
        return self._written[name]

    def _render(self, messages: Sequence[Message], answer_follows: bool, where: str) -> str:
        # As text: the return type of apply_chat_template(tokenize=True) has changed between releases.
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [dict(message) for message in messages], tokenize=False, add_generation_prompt=answer_follows
                )
            )
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            roles, whose = ", ".join(message["role"] for message in messages), self.tokenizer.name_or_path
            raise DataError(
                f"{where}: the chat template of {whose or 'the tokenizer'} refuses these messages ({roles}): "
                f"{error or type(error).__name__}. Change the row, or the template (chat_template.jinja)."
            ) from None

    def _ids(self, text: str) -> list[int]:
        if text not in self._known:
            if len(self._known) == self.most_known:
                self._known.clear()
            self._known[text] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return self._known[text]


def named_ends(directory: Path) -> tuple[int, ...]:
    """Return the ids by which the generation config of a model directory, or else its config, ends a response."""
    for name in ("generation_config.json", "config.json"):
        file = directory / name
        try:
            found = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id") if file.is_file() else None
        except (ValueError, AttributeError) as error:
            raise ModelError(f"{file}: is not a JSON object ({error}). Save the model again.") from None
        if found is not None:
            ids = found if isinstance(found, list) else [found]
            if not all(type(one) is int and one >= 0 for one in ids):
                raise ModelError(f"{file}: eos_token_id is {found!r}; it must be the id of a token, or a list of ids.")
            return tuple(ids)
    return ()


def as_ids(found: int | Iterable[int] | None) -> tuple[int, ...]:
    """Return the ids in a setting that may hold none, one or several of them."""
    if found is None:
        return ()
    return (found,) if isinstance(found, int) else tuple(found)
