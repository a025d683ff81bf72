"""TRL's loss of GRPO, or of a relative, and its gradient on given log-probabilities, in a process of its own.

    .parity/trl-1.16/bin/python tests/parity/grpo_loss.py FOLDER

FOLDER holds `numbers.json`, a list of cases, each with `logprobs`, `old_logprobs`, `reference_logprobs`, `mask`,
`advantages`, `batch_tokens` (of the batch that the rows are a minibatch of) and `settings` of GRPOConfig. Prints one
line of JSON: for each case its `loss` and its `gradient`, by `logprobs`, in float64. The loss is computed by the
trainer's own method; only the model is replaced, by the numbers it would give.
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
import torch
from accelerate import Accelerator
from trl import GRPOConfig, GRPOTrainer


def main(folder: Path) -> None:
    """Compute and print."""
    found = [loss_of(given) for given in json.loads((folder / "numbers.json").read_text())]
    sys.stdout.write(json.dumps(found) + "\n")


def loss_of(given: dict[str, Any]) -> dict[str, Any]:
    """Return loss and gradient of a case."""
    names = ("logprobs", "old_logprobs", "reference_logprobs", "advantages")
    logprobs, old, reference, advantages = (torch.tensor(given[name], dtype=torch.double) for name in names)
    logprobs.requires_grad_()
    args = GRPOConfig(
        output_dir="unused",
        use_cpu=True,
        bf16=False,
        report_to="none",
        **given["settings"],
    )
    mask = torch.tensor(given["mask"]).long()
    inputs = {
        "prompt_ids": torch.zeros(len(mask), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(mask), 1, dtype=torch.long),
        "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask,
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": torch.tensor(given["batch_tokens"]),
    }
    loss = GRPOTrainer._compute_loss(trainer(args, logprobs), torch.nn.Identity(), inputs)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return {"loss": loss.item(), "gradient": gradient.tolist()}


def trainer(args: Any, logprobs: torch.Tensor) -> Any:
    """Return what `_compute_loss` asks of a trainer."""
    zeros = torch.zeros_like(logprobs)
    return SimpleNamespace(
        args=args,
        beta=args.beta,
        epsilon_low=args.epsilon,
        epsilon_high=args.epsilon if args.epsilon_high is None else args.epsilon_high,
        loss_type=args.loss_type,
        max_completion_length=args.max_completion_length,
        importance_sampling_level=args.importance_sampling_level,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        use_vllm=False,
        current_gradient_accumulation_steps=1,
        model=SimpleNamespace(training=True),
        accelerator=Accelerator(cpu=True),
        _metrics={"train": _Ignored()},
        _get_per_token_logps_and_entropies=lambda *_, **__: (logprobs, zeros, None),
    )


class _Ignored(dict[str, list[float]]):
    """Metrics that nobody reads."""

    def __missing__(self, name: str) -> list[float]:
        return self.setdefault(name, [])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
