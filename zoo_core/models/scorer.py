"""Scorers: sequence classifiers with one output, which read text with a tokenizer and template of their own."""

from collections.abc import Sequence
from itertools import groupby, takewhile
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zoo_core.compute.data_parallel import TokenRows, across_ranks
from zoo_core.compute.packing import Packing, TokenRow, packs
from zoo_core.datasets.chat import Chat
from zoo_core.errors import ModelError
from zoo_core.models.loading import load_scorer
from zoo_core.models.tokenizers import load_scorer_tokenizer
from zoo_core.reward import Sample


def row_scores(scorer: PreTrainedModel, rows: Sequence[TokenRow]) -> Float[Tensor, " B"]:
    """Score of each row, by a sequence classifier with one output; a causal one reads it at the row's last token."""
    return across_ranks(lambda some: _row_scores(scorer, some.rows), TokenRows(rows), scorer)


def _row_scores(scorer: PreTrainedModel, rows: Sequence[TokenRow]) -> Float[Tensor, " B"]:
    head = getattr(scorer, "score", None)
    if not isinstance(head, nn.Module) or not packs(scorer):
        ids = [torch.tensor([*shared, *own]) for shared, own in rows]
        tokens = pad_sequence(ids, batch_first=True, padding_value=scorer.config.pad_token_id)
        attention = pad_sequence([torch.ones_like(one) for one in ids], batch_first=True)
        logits = scorer(input_ids=tokens.to(scorer.device), attention_mask=attention.to(scorer.device)).logits
        return logits.squeeze(-1)  # type: ignore[no-any-return]
    # Classifiers read the last token that is no padding. Where a tokenizer pads with EOS, that is the one before it.
    packing = Packing.of([(shared, _unpadded(own, scorer.config.pad_token_id)) for shared, own in rows], scorer.device)
    every: list[Tensor] = []
    # The classifier itself looks for one last token of each batch row, and a packed batch is one row.
    hook = head.register_forward_hook(lambda _, __, scores: every.append(scores))
    try:
        scorer(**packing.inputs, use_cache=False)
    finally:
        hook.remove()
    return every[0][0, packing.ends].squeeze(-1)


def _unpadded(own: Sequence[int], pad: int | None) -> Sequence[int]:
    end = len(own)
    while end and own[end - 1] == pad:
        end -= 1
    return own[:end]


class Scorer:
    """A sequence classifier with one output, reading text with its own tokenizer and template."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 64) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.model.config.pad_token_id = tokenizer.pad_token_id  # the score is read at the last token that is none
        self.tokenizer.truncation_side = "left"  # the answer stands at the end
        self.chat = Chat(tokenizer, most_known=1024)  # what it reads are samples, which are rarely the same
        self.batch_size = batch_size
        positions = getattr(model.config, "max_position_embeddings", None) or 512
        self.longest = min(positions, tokenizer.model_max_length)

    @classmethod
    def load(cls, path: Path) -> "Scorer":
        """Load it from a model directory."""
        return cls(load_scorer(path), load_scorer_tokenizer(path))

    @torch.no_grad()
    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """One score per sample, the same in whatever batch it is asked."""
        scores: list[float] = []
        for start in range(0, len(samples), self.batch_size):
            scores += row_scores(self.model, self.rows(samples[start : start + self.batch_size])).tolist()
        return scores

    def rows(self, samples: Sequence[Sample]) -> list[TokenRow]:
        """Token ids of samples: what neighbours with the same prompt begin with alike, and the rest of each."""
        found: list[TokenRow] = []
        for _, group in groupby(samples, key=lambda sample: sample.prompt):
            ids = [self.encode(sample) for sample in group]
            # What the first and the last in order begin with alike, all between them do; each keeps a token of its own.
            alike = [
                one for one, other in takewhile(lambda pair: pair[0] == pair[1], zip(min(ids), max(ids), strict=False))
            ]
            shared = alike[: min(map(len, ids)) - 1] if len(ids) > 1 else []
            found += [(shared, one[len(shared) :]) for one in ids]
        return found

    def encode(self, sample: Sample, where: str = "a text to be scored") -> list[int]:
        """Token ids of prompt and response together, closed if the response ended, where the tokenizer has a way to.

        A conversation is written with the scorer's own chat template; a scorer without one judges the answer alone. Of
        a text that is too long for the scorer the end is kept.
        """
        end = self.tokenizer.eos_token_id
        if isinstance(sample.prompt, str) and end is not None:
            # In two parts, as a policy reads them: the boundary between prompt and response is not merged away.
            response = self.tokenizer(sample.response, add_special_tokens=False)["input_ids"]
            ids = [*self._plain(sample.prompt), *response]
        elif isinstance(sample.prompt, str):
            ids = self._plain(sample.prompt + sample.response)
        elif self.tokenizer.chat_template is None:
            ids = self._plain(sample.response)
        else:
            end = self.chat.end_of(True)
            # In the same tokens as the pairs that a reward model of the bench was trained on.
            answer = [{"role": "assistant", "content": sample.response}]
            said = self.chat.answer(sample.prompt, answer, where)
            ids = (
                self.chat.open_turn([*sample.prompt, *answer], where)
                if said is None
                else [*self.chat.prompt(sample.prompt, where), *said]
            )
        if end is not None:
            while ids and ids[-1] == end:
                ids = ids[:-1]
            # A response that was cut has no end, here as in the pairs that the scorer was trained on.
            ids = [*ids, end] if sample.ended or not ids else ids
        return ids[-self.longest :]

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, truncation=True, max_length=self.longest)["input_ids"]
        if not ids and self.tokenizer.eos_token_id is None:
            raise ModelError("the scorer's tokenizer turns an empty text into no tokens at all and has no EOS token.")
        return ids
