"""From text to padded token batches: the one place for templates, EOS, truncation and padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import PreTrainedTokenizerBase

from zoo_core.datasets.chat import Chat
from zoo_core.errors import DataError, ModelError
from zoo_core.rollout import Prompts, Responses
from zoo_core.rows import Columns, DataRow, Text


@dataclass
class Encoder:
    """Turns texts into batches: prompts padded on the left, responses on the right."""

    tokenizer: PreTrainedTokenizerBase
    prompt_tokens: int
    """The largest number of tokens of a prompt."""
    response_tokens: int
    """The largest number of tokens of a response. A longer one is cut off and then has no EOS."""
    device: torch.device
    named_ends: Sequence[int] = ()
    """The ids by which the model's generation config ends a response; see `zoo_core.datasets.chat`."""
    limit: str = "prompt_tokens={}"
    """The name of the bound on prompts in an error message, with a place for the number."""
    room: str = "raise prompt_tokens (prompt and response must fit the model's context), or set long_prompts: drop"
    """The advice in an error message on a prompt that is too long, besides shortening it."""

    @cached_property
    def chat(self) -> Chat:
        """The tokenizer's chat template and the ends of turns."""
        return Chat(self.tokenizer, self.named_ends)

    @property
    def ends(self) -> frozenset[int]:
        """All ids that end a response."""
        return self.chat.ends

    def prompt(self, text: Text, where: str = "prompt") -> list[int]:
        """Return the token ids of a prompt, with template and BOS; `DataError` if it is too long."""
        ids = self._prompt(text, where)
        if len(ids) > self.prompt_tokens:
            raise DataError(
                f"{where}: the prompt has {len(ids)} tokens, more than {self.limit.format(self.prompt_tokens)}. "
                f"Shorten it, or {self.room}."
            )
        return ids

    def fits(self, text: Text, where: str) -> bool:
        """Return whether a prompt is short enough."""
        return len(self._prompt(text, where)) <= self.prompt_tokens

    def response(self, prompt: Text, completion: Text, where: str = "row", ended: bool = True) -> list[int]:
        """Return the token ids of a response. It has one end unless it was cut off (by length, or not `ended`)."""
        ids = self.whole_response(prompt, completion, where)
        return (ids if ended or len(ids) == 1 else ids[:-1])[: self.response_tokens]

    def whole_response(self, prompt: Text, completion: Text, where: str = "row") -> list[int]:
        """Return the token ids of a response that ended, of any length."""
        if isinstance(prompt, str) or isinstance(completion, str):
            ids: list[int] = self.tokenizer(str(completion), add_special_tokens=False)["input_ids"]
        else:
            found = self.chat.answer(prompt, completion, where)
            if found is None:
                raise ModelError(
                    f"{where}: the chat template renders the prompt differently once an answer follows, so the "
                    "answer's tokens cannot be told from the prompt's. Use a template whose generation prompt is the "
                    "answer's beginning."
                )
            ids = found
        before = self.chat.cut(ids)
        # An end in the text itself stays; without one, the response gets the end of its form.
        end = ids[len(before)] if len(before) < len(ids) else self.chat.end_of(not isinstance(prompt, str))
        return [*before, end] if end is not None else before

    def prompts(self, prompts: Sequence[Text | DataRow]) -> Prompts:
        """Return a batch of prompts, padded on the left. Those that are given as data rows keep their columns."""
        texts = tuple(prompt.prompt if isinstance(prompt, DataRow) else prompt for prompt in prompts)
        columns = [prompt.columns if isinstance(prompt, DataRow) else Columns() for prompt in prompts]
        rows = [(self.prompt(text), ()) for text in texts]
        padded = Responses.of(rows, self.tokenizer.pad_token_id, self.device)
        return Prompts(padded.tokens, padded.attention, texts, given=padded.given, columns=columns)

    def responses(self, pairs: Sequence[tuple[Text, Text]], ended: Sequence[bool] | None = None) -> Responses:
        """Return a batch of prompts, padded on the left, with one response each, padded on the right.

        `ended` says which responses ended by themselves (None: all of them); the others get no EOS.
        """
        ends = ended or [True] * len(pairs)
        rows = [
            (self.prompt(prompt), self.response(prompt, answer, ended=end))
            for (prompt, answer), end in zip(pairs, ends, strict=True)
        ]
        return Responses.of(rows, self.tokenizer.pad_token_id, self.device)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of a response up to its end, without special tokens."""
        return str(self.tokenizer.decode(self.chat.cut(ids), skip_special_tokens=True))

    def _prompt(self, text: Text, where: str) -> list[int]:
        return self._plain(text) if isinstance(text, str) else self.chat.prompt(text, where)

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text)["input_ids"] if text else []
        if ids and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]  # a tokenizer that closes every text would end the prompt before the answer
        if ids:
            return ids
        # The first response token must be predicted from something.
        start = self.tokenizer.bos_token_id
        return [self.tokenizer.eos_token_id if start is None else start]
