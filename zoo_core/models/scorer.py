"""Scorers read text with their own tokenizer and template: sequence classifiers with one output, ratios of policies."""

from collections.abc import Sequence
from itertools import groupby, takewhile
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zoo_core.compute.data_parallel import TokenRows
from zoo_core.compute.micro_batches import forward_pass
from zoo_core.compute.packing import Packing, TokenRow, packs
from zoo_core.datasets.chat import Chat
from zoo_core.errors import ModelError
from zoo_core.models.loading import load_scorer
from zoo_core.models.log_ratio import LogRatioScorer
from zoo_core.models.tokenizers import load_scorer_tokenizer
from zoo_core.reward import Sample


def row_scores(scorer: PreTrainedModel | LogRatioScorer, rows: Sequence[TokenRow]) -> Float[Tensor, " B"]:
    """Return the score of each row; a causal classifier reads it at the last token of the row. Collective.

    The two parts of a row must be prompt and answer where the scorer is a ratio.
    """
    if isinstance(scorer, LogRatioScorer):
        return scorer(rows)  # type: ignore[no-any-return]
    return forward_pass(lambda some: _row_scores(scorer, some.rows), TokenRows(rows), scorer)


def _row_scores(scorer: PreTrainedModel, rows: Sequence[TokenRow]) -> Float[Tensor, " B"]:
    head = getattr(scorer, "score", None)
    if not isinstance(head, nn.Module) or not packs(scorer):
        ids = [torch.tensor([*shared, *own]) for shared, own in rows]
        tokens = pad_sequence(ids, batch_first=True, padding_value=scorer.config.pad_token_id)
        attention = pad_sequence([torch.ones_like(one) for one in ids], batch_first=True)
        logits = scorer(input_ids=tokens.to(scorer.device), attention_mask=attention.to(scorer.device)).logits
        return logits.squeeze(-1)  # type: ignore[no-any-return]
    # Classifiers read the last token that is not padding. If a tokenizer pads with EOS, it is the one before EOS.
    packing = Packing.of([(shared, _unpadded(own, scorer.config.pad_token_id)) for shared, own in rows], scorer.device)
    every: list[Tensor] = []
    # The classifier would look for one last token per batch row, and a packed batch is a single row.
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
    """A reward made of a sequence classifier or a ratio of policies, with its own tokenizer and template."""

    def __init__(
        self, model: PreTrainedModel | LogRatioScorer, tokenizer: PreTrainedTokenizerBase, batch_size: int = 64
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.model.config.pad_token_id = tokenizer.pad_token_id  # the score is read before the padding
        self.tokenizer.truncation_side = "left"  # the answer is at the end
        self.chat = Chat(tokenizer, most_known=1024)  # samples are hardly ever equal
        self.batch_size = batch_size
        positions = getattr(model.config, "max_position_embeddings", None) or 512
        self.longest = min(positions, tokenizer.model_max_length)

    @classmethod
    def load(cls, path: Path) -> "Scorer":
        """Load a scorer from a model directory."""
        return cls(load_scorer(path), load_scorer_tokenizer(path))

    @torch.no_grad()
    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """Return one score per sample; it does not depend on the batch."""
        scores: list[float] = []
        for start in range(0, len(samples), self.batch_size):
            scores += row_scores(self.model, self.rows(samples[start : start + self.batch_size])).tolist()
        return scores

    @property
    def models(self) -> list[PreTrainedModel]:
        """The models that score."""
        if isinstance(self.model, LogRatioScorer):
            return [model for model in (self.model.policy, self.model.start) if model is not None]
        return [self.model]

    def rows(self, samples: Sequence[Sample]) -> list[TokenRow]:
        """Return the token ids of samples in two parts: a prefix shared by neighbours with one prompt, and the rest.

        A ratio of policies gets prompts and answers.
        """
        if isinstance(self.model, LogRatioScorer):
            return [self._asked_and_said(sample) for sample in samples]
        found: list[TokenRow] = []
        for _, group in groupby(samples, key=lambda sample: sample.prompt):
            ids = [self.encode(sample) for sample in group]
            # A prefix of the first and the last in sorted order is a prefix of all. Each keeps at least one own token.
            alike = [
                one for one, other in takewhile(lambda pair: pair[0] == pair[1], zip(min(ids), max(ids), strict=False))
            ]
            shared = alike[: min(map(len, ids)) - 1] if len(ids) > 1 else []
            found += [(shared, one[len(shared) :]) for one in ids]
        return found

    def encode(self, sample: Sample, where: str = "a text to be scored") -> list[int]:
        """Return the token ids of prompt and response, with an end if the response ended and the tokenizer has one.

        A conversation is written with the scorer's chat template; a scorer without one reads the answer alone. A text
        that is too long for the scorer loses its beginning.
        """
        asked, said = self._parts(sample, where)
        return [*asked, *said][-self.longest :]

    def _asked_and_said(self, sample: Sample, where: str = "a text to be scored") -> TokenRow:
        asked, said = self._parts(sample, where)
        if not asked:
            raise ModelError(
                f"{where}: this reward is a ratio of two policies, and their tokenizer cannot tell the answer from its "
                "prompt. Use a chat template whose generation prompt is the answer's beginning."
            )
        return asked[-max(1, self.longest - len(said)) :], said[: self.longest - 1]

    def _parts(self, sample: Sample, where: str) -> tuple[list[int], list[int]]:
        """The token ids of prompt and response; all in the second where they cannot be told apart."""
        end = self.tokenizer.eos_token_id
        asked: list[int] = []
        if isinstance(sample.prompt, str) and end is not None:
            # In two parts, as a policy reads them, so that no token spans the boundary of prompt and response.
            asked = self._plain(sample.prompt)
            said: list[int] = self.tokenizer(sample.response, add_special_tokens=False)["input_ids"]
        elif isinstance(sample.prompt, str):
            said = self._plain(sample.prompt + sample.response)
        elif self.tokenizer.chat_template is None:
            said = self._plain(sample.response)
        else:
            end = self.chat.end_of(True)
            # The same tokens as those of the pairs that the reward model was trained on.
            answer = [{"role": "assistant", "content": sample.response}]
            found = self.chat.answer(sample.prompt, answer, where)
            if found is None:
                said = self.chat.open_turn([*sample.prompt, *answer], where)
            else:
                asked, said = self.chat.prompt(sample.prompt, where), [*found]
        if end is not None:
            while said and said[-1] == end:
                said = said[:-1]
            while not said and asked and asked[-1] == end:
                asked = asked[:-1]
            # A response that was cut off has no end, as in the pairs that the scorer was trained on.
            said = [*said, end] if sample.ended or not [*asked, *said] else said
        return asked, said

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, truncation=True, max_length=self.longest)["input_ids"]
        if not ids and self.tokenizer.eos_token_id is None:
            raise ModelError("the scorer's tokenizer turns an empty text into no tokens at all and has no EOS token.")
        return ids
