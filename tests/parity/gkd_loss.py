"""TRL's loss of GKD and its gradients by every weight of a model, in a process of its own.

    .parity/trl-1.16/bin/python tests/parity/gkd_loss.py FOLDER

FOLDER holds `policy` and `teacher` (causal language models) and `given.json`: `rows` (lists of [prompt tokens, response
tokens], whose prompts have one length), `betas` and `dtypes`. Prints one line of JSON: for each dtype and β the loss;
gradients are in `gradient-DTYPE-BETA.safetensors`. The loss is the trainer's own method.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from trl.experimental.gkd import GKDTrainer

IGNORED = -100


def main(folder: Path) -> None:
    """Compute and print."""
    given = json.loads((folder / "given.json").read_text())
    width = max(len(prompt) + len(response) for prompt, response in given["rows"])
    tokens = torch.zeros(len(given["rows"]), width, dtype=torch.long)
    labels, attention = torch.full_like(tokens, IGNORED), torch.zeros_like(tokens)
    for row, (prompt, response) in enumerate(given["rows"]):
        length = len(prompt) + len(response)
        tokens[row, :length] = torch.tensor([*prompt, *response])
        labels[row, len(prompt) : length] = torch.tensor(response)
        attention[row, :length] = 1
    found: dict[str, dict[str, float]] = {}
    for dtype in given["dtypes"]:
        policy, teacher = (
            AutoModelForCausalLM.from_pretrained(folder / name, dtype=getattr(torch, dtype)).eval()
            for name in ("policy", "teacher")
        )
        with torch.no_grad():
            theirs = teacher(input_ids=tokens, attention_mask=attention).logits[:, :-1]
        found[dtype] = {}
        for beta in given["betas"]:
            policy.zero_grad()
            mine = policy(input_ids=tokens, attention_mask=attention).logits[:, :-1]
            loss = GKDTrainer.generalized_jsd_loss(mine, theirs, labels=labels[:, 1:], beta=beta)
            loss.backward()
            gradients = {name: weight.grad.contiguous() for name, weight in policy.named_parameters()}
            save_file(gradients, folder / f"gradient-{dtype}-{beta}.safetensors")
            found[dtype][str(beta)] = loss.item()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
