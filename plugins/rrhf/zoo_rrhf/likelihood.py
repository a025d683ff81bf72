"""A policy as a reward: the likelier a response under it, per token, the higher the score."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zoo_core.datasets.encoding import Encoder
from zoo_core.errors import ModelError, SpecError
from zoo_core.functional import masked_row_mean
from zoo_core.models.directories import files_sha256
from zoo_core.models.loading import load_frozen
from zoo_core.models.tokenizers import load_tokenizer
from zoo_core.registry.references import resolve
from zoo_core.reward import Sample
from zoo_core.rollout import Responses, response_logprobs


class Likelihood:
    """A reward that scores samples by p, the mean log-probability of their tokens under a policy (eq. 1)."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, identity: str = "", batch_size: int = 64
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.identity = identity
        """A hash of the loaded weights, so that no result of other weights is reused."""
        self.batch_size = batch_size
        self.longest: int = getattr(model.config, "max_position_embeddings", None) or 1024
        # Texts are those of other policies: prompts are cut here, where the response has left too little room.
        self.encoder = Encoder(tokenizer, 10**9, self.longest - 1, model.device)

    @classmethod
    def load(cls, run: str) -> "Likelihood":
        """Load the policy from the folder of a run or a model; `SpecError` if there is none."""
        final = Path(run).expanduser() / "final"
        try:
            path = final if final.is_dir() else resolve(run)
            kinds = json.loads((path / "config.json").read_text()).get("architectures") or []
            if any("Classification" in kind for kind in kinds):
                raise ModelError(f"{path} holds a scorer ({kinds[0]}), no policy. Name it without `rrhf:`.")
            return cls(load_frozen(path), load_tokenizer(path), files_sha256(path))
        except ModelError as error:
            raise SpecError(
                f"the reward 'rrhf:{run}' needs a policy: the folder of a model, or of a finished run: {error}"
            ) from None

    @torch.no_grad()
    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        """Return one score per sample, at most 0; it does not depend on the batch."""
        scores: list[float] = []
        for start in range(0, len(samples), self.batch_size):
            batch = self.encode(samples[start : start + self.batch_size])
            scores += masked_row_mean(response_logprobs(self.model, batch), batch.mask).tolist()
        return scores

    def encode(self, samples: Sequence[Sample]) -> Responses:
        """Tokenise samples. A long text keeps the beginning of its response and the end of its prompt."""
        answers = [self.encoder.response(sample.prompt, sample.response, ended=sample.ended) for sample in samples]
        prompts = [self.encoder.prompt(sample.prompt) for sample in samples]
        rows = [(prompt[len(answer) - self.longest :], answer) for prompt, answer in zip(prompts, answers, strict=True)]
        return Responses.of(rows, self.tokenizer.pad_token_id, self.model.device)
