"""A causal language model in this process as a judge."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zoo_core.compute.micro_batches import forward_pass
from zoo_core.compute.precision import freeze
from zoo_core.compute.readers import reader_of
from zoo_core.compute.sampler import sample_cached
from zoo_core.datasets.chat import as_ids
from zoo_core.datasets.encoding import Encoder
from zoo_core.errors import ModelError
from zoo_core.functional import masked_sum
from zoo_core.judge import Verdict, Written
from zoo_core.models.loading import load_frozen
from zoo_core.models.tokenizers import load_tokenizer
from zoo_core.rollout import Prompts, response_logprobs
from zoo_core.rows import Text

Kind = TypeVar("Kind", bound="CausalJudge")


class CausalJudge:
    """A causal language model in this process as a judge, with its own tokenizer and chat template."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        constitution: Path | None = None,
        batch_size: int = 64,
    ) -> None:
        self.model = freeze(model)
        self.tokenizer = tokenizer
        self.constitution = constitution
        self.batch_size = batch_size
        self.longest: int = getattr(model.config, "max_position_embeddings", None) or 1024

    @classmethod
    def load(cls: type[Kind], path: Path, constitution: Path | None = None) -> Kind:
        """Load a judge from the directory of a causal language model."""
        return cls(load_frozen(path), load_tokenizer(path), constitution)

    @torch.no_grad()
    def verdicts(self, questions: Sequence[Text], answers: Sequence[str]) -> list[Verdict]:
        """Return log P(answer | question) summed over the tokens of each answer, without its end."""
        ids = [self.tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
        if all(len(one) == 1 for one in ids):
            return self._next_token(questions, [one[0] for one in ids])
        encoder = self._encoder(max(map(len, ids)))
        rows = [(question, answer) for question in questions for answer in answers]
        found: list[float] = []
        for start in range(0, len(rows), self.batch_size):
            some = rows[start : start + self.batch_size]
            batch = encoder.responses(some, [False] * len(some))
            found += masked_sum(response_logprobs(self.model, batch), batch.mask).tolist()
        return [list(found[start : start + len(answers)]) for start in range(0, len(found), len(answers))]

    def _next_token(self, questions: Sequence[Text], answers: Sequence[int]) -> list[Verdict]:
        """Return the verdicts on answers of one token each, from one forward pass per question."""
        encoder = self._encoder(1)
        found: list[Verdict] = []

        def logprobs(some: Prompts) -> Float[Tensor, "B answers"]:
            return reader_of(self.model, some).prompts().float().log_softmax(-1)[:, list(answers)]

        for start in range(0, len(questions), self.batch_size):
            prompts = encoder.prompts(questions[start : start + self.batch_size])
            found += forward_pass(logprobs, prompts, self.model).tolist()
        return found

    def write(self, questions: Sequence[Text], longest: int, temperature: float, seed: int) -> list[Written]:
        """Write a text to each question, sampled or greedy (temperature 0), of at most `longest` tokens."""
        encoder = self._encoder(longest)
        generator = torch.Generator(encoder.device).manual_seed(seed)
        written: list[Written] = []
        for start in range(0, len(questions), self.batch_size):
            tokens, _ = sample_cached(
                self.model,
                encoder.prompts(questions[start : start + self.batch_size]),
                response_tokens=longest,
                temperature=temperature,
                eos=encoder.ends,
                pad=self.tokenizer.pad_token_id,
                generator=generator,
            )
            written += [
                Written(encoder.decode(row).strip(), not encoder.ends.isdisjoint(row)) for row in tokens.tolist()
            ]
        return written

    def _encoder(self, answer_tokens: int) -> Encoder:
        room = self.longest - answer_tokens
        if room < 1:
            raise ModelError(f"the judge's context of {self.longest} tokens leaves no room before {answer_tokens}.")
        named = as_ids(self.model.generation_config.eos_token_id if self.model.generation_config else None)
        limit = f"the {{}} that the judge's context of {self.longest} tokens leaves before its answer"
        more = "give a judge with a longer context (judge: ...)"
        return Encoder(self.tokenizer, room, answer_tokens, self.model.device, named, limit, more)
