"""Between text and padded token batches: one place for templates, EOS, truncation and padding."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedTokenizerBase

from zoo_core.data import Message, Text
from zoo_core.errors import DataError, ModelError
from zoo_core.rollout import Prompts, Responses

MOST_KNOWN = 2**16
"""Conversations whose token ids are remembered, at most."""


@dataclass
class Encoder:
    """Turns rows into batches: prompts padded on the left, responses on the right."""

    tokenizer: PreTrainedTokenizerBase
    prompt_tokens: int
    """Longest prompt that is accepted."""
    response_tokens: int
    """Longest response; a longer one is cut, and then does not end with EOS."""
    device: torch.device
    _known: dict[str, list[int]] = field(default_factory=dict, repr=False)
    """Token ids of conversations that were written with the template before: rows come again in every pass."""

    def prompt(self, text: Text, where: str = "prompt") -> list[int]:
        """Token ids of a prompt, template and BOS included; `DataError` if it is too long."""
        ids = self._template(text, where) if not isinstance(text, str) else self._plain(text)
        if len(ids) > self.prompt_tokens:
            raise DataError(
                f"{where}: the prompt has {len(ids)} tokens, more than prompt_tokens={self.prompt_tokens}. "
                "Shorten it, raise "
                "prompt_tokens (prompt and response must fit the model's context), or set long_prompts: drop."
            )
        return ids

    def fits(self, text: Text, where: str) -> bool:
        """Whether a prompt is short enough."""
        ids = self._template(text, where) if not isinstance(text, str) else self._plain(text)
        return len(ids) <= self.prompt_tokens

    def response(self, prompt: Text, completion: Text, where: str = "row", ended: bool = True) -> list[int]:
        """Token ids of a response: EOS at its end once, unless it was cut (at `response_tokens`, or not `ended`)."""
        eos: int = self.tokenizer.eos_token_id
        if isinstance(prompt, str) or isinstance(completion, str):
            ids = self.tokenizer(str(completion), add_special_tokens=False)["input_ids"]
        else:
            start = self._template(prompt, where)
            whole = self._apply([*prompt, *completion], False)
            if whole[: len(start)] != start:
                raise ModelError(
                    f"{where}: the chat template renders the prompt differently once an answer follows, so the "
                    "answer's tokens "
                    "cannot be told from the prompt's. Use a template whose generation prompt is the answer's "
                    "beginning."
                )
            ids = whole[len(start) :]
        ids = [*ids[: ids.index(eos)], eos] if eos in ids else [*ids, eos]
        return (ids if ended or len(ids) == 1 else ids[:-1])[: self.response_tokens]

    def prompts(self, texts: Sequence[Text]) -> Prompts:
        """Pad prompts on the left to the longest of them."""
        rows = [(self.prompt(text), ()) for text in texts]
        padded = Responses.of(rows, self.tokenizer.pad_token_id, self.device)
        return Prompts(padded.tokens, padded.attention, tuple(texts))

    def responses(self, pairs: Sequence[tuple[Text, Text]], ended: Sequence[bool] | None = None) -> Responses:
        """Join prompts (padded on the left) and their responses (padded on the right).

        `ended` tells of sampled responses which of them the policy ended itself; the others get no EOS.
        """
        ends = ended or [True] * len(pairs)
        rows = [
            (self.prompt(prompt), self.response(prompt, answer, ended=end))
            for (prompt, answer), end in zip(pairs, ends, strict=True)
        ]
        return Responses.of(rows, self.tokenizer.pad_token_id, self.device)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of a response, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text)["input_ids"] if text else []
        if ids and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]  # a tokenizer that closes every text would end the prompt before the answer
        if ids:
            return ids
        # The first response token must be predicted from something.
        start = self.tokenizer.bos_token_id
        return [self.tokenizer.eos_token_id if start is None else start]

    def _template(self, messages: Sequence[Message], where: str) -> list[int]:
        if self.tokenizer.chat_template is None:
            raise ModelError(
                f"{where}: this is a conversation, but the model's tokenizer has no chat template to write it "
                "with. Add a "
                "chat_template.jinja to the model directory, or give the rows as plain text."
            )
        return self._apply(messages, True)

    def _apply(self, messages: Sequence[Message], answer_follows: bool) -> list[int]:
        name = repr((messages, answer_follows))
        if name not in self._known:
            if len(self._known) == MOST_KNOWN:
                self._known.clear()
            self._known[name] = self._tokenize(messages, answer_follows)
        return self._known[name]

    def _tokenize(self, messages: Sequence[Message], answer_follows: bool) -> list[int]:
        # As text first: the return type of apply_chat_template(tokenize=True) has changed between releases.
        text = self.tokenizer.apply_chat_template(
            [dict(message) for message in messages], tokenize=False, add_generation_prompt=answer_follows
        )
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids
