"""TRL's loss of RLOO and its gradients by every weight of a model, in a process of its own.

    .parity/trl-1.16/bin/python tests/parity/rloo_loss.py FOLDER

FOLDER holds `policy` and `reference` (causal language models) and `given.json`: `rows` (lists of [prompt tokens,
response tokens], those of one prompt next to each other), `scores`, `group_size`, `beta` and `dtypes`. Prints one line
of JSON: for each dtype the `advantages` and the `loss`; gradients are in `gradient-DTYPE.safetensors`. Both are
computed by the trainer's own methods; only sampling and the reward are replaced, by what is given.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from pair_losses import made, with_head
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from trl import RLOOTrainer

OUTPUTS = ("log_probs", "entropy")


def main(folder: Path) -> None:
    """Compute and print."""
    given = json.loads((folder / "given.json").read_text())
    found = {}
    for dtype in given["dtypes"]:
        policy, reference = (
            AutoModelForCausalLM.from_pretrained(folder / name, dtype=getattr(torch, dtype)).eval()
            for name in ("policy", "reference")
        )
        advantages, loss = advantages_and_loss(with_head(policy, OUTPUTS).eval(), with_head(reference).eval(), given)
        loss.backward()
        gradients = {name: weight.grad.contiguous() for name, weight in policy.named_parameters()}
        save_file(gradients, folder / f"gradient-{dtype}.safetensors")
        found[dtype] = {"advantages": advantages.tolist(), "loss": loss.item()}
    sys.stdout.write(json.dumps(found) + "\n")


def advantages_and_loss(
    model: torch.nn.Module, reference: torch.nn.Module, given: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the trainer makes of a batch that the policy has just sampled."""
    prompts, responses = zip(*given["rows"], strict=True)
    scores = torch.tensor(given["scores"], dtype=torch.double).unsqueeze(1)
    settings = {
        "beta": given["beta"], "epsilon_low": 0.2, "epsilon_high": 0.2, "normalize_advantages": False,
        "num_generations_eval": given["group_size"], "num_generations": given["group_size"],
        "reward_weights": torch.ones(1, dtype=torch.double), "reward_clip_range": None,
        "reward_func_names": ["given"], "pad_to_multiple_of": None, "mask_truncated_completions": False,
        "_tokenizer": SimpleNamespace(pad_token_id=0), "_logs": defaultdict(list, rewards=defaultdict(list)),
        "_pending_extra_logs": {}, "_pending_metrics": {}, "log_multimodal": False,
        "args": SimpleNamespace(gradient_checkpointing_kwargs=None, per_device_eval_batch_size=len(prompts)),
        "_generate": lambda _: (prompts, responses, [""] * len(prompts)),
        "_calculate_rewards": lambda *_: scores,
    }  # fmt: skip
    trainer = made(RLOOTrainer, model, reference, settings)
    batch = trainer._generate_and_score_completions([{"prompt": ""} for _ in prompts])
    return batch["advantages"], trainer._compute_loss(model, batch)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
