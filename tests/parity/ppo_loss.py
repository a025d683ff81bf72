"""What TRL's PPO computes in one update, and its gradients by every weight, in a process of its own.

    .parity/trl-1.12/bin/python tests/parity/ppo_loss.py FOLDER

FOLDER holds `policy` and `reference` (causal language models), `scorer` (a sequence classifier, the critic) and
`given.json`: `rows` (lists of [prompt tokens, response tokens]), `scores`, `end` (the EOS token), `step_size` and
`cases` (settings of PPOConfig, with `population`: whether advantages are whitened by the variance of the population,
which TRL's function can do and its trainer does not). Prints one line of JSON: for each case the `advantages` before
they are whitened and the `losses` of two epochs. Gradients of case N and epoch E, by weights of `policy` and `critic`,
are in `gradient-N-E.safetensors`.

The trainer's own `train` computes all of it. Sampling and the reward are replaced, by the responses and scores that
are given; the optimizer by a plain step of gradient descent that writes down the gradient; what only logs, by nothing.
"""

import functools
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from trl.experimental.ppo import PPOConfig, PPOTrainer, ppo_trainer
from trl.trainer.utils import disable_dropout_in_model

PAD = 0
WHITEN, VARIANCE, REWARD = ppo_trainer.masked_whiten, ppo_trainer.masked_var, ppo_trainer.get_reward


def main(folder: Path) -> None:
    """Compute and print."""
    given = json.loads((folder / "given.json").read_text())
    found = [one_update(folder, given, number, dict(case)) for number, case in enumerate(given["cases"])]
    sys.stdout.write(json.dumps(found) + "\n")


class Descent:
    """An optimizer that keeps the gradient of each step."""

    def __init__(self, model: torch.nn.Module, step_size: float) -> None:
        self.model, self.step_size = model, step_size
        self.gradients: list[dict[str, torch.Tensor]] = []

    def step(self) -> None:
        """Keep the gradient and go down it."""
        trained = {name: weight for name, weight in self.model.named_parameters() if weight.grad is not None}
        self.gradients.append({name: weight.grad.clone() for name, weight in trained.items()})
        with torch.no_grad():
            for weight in trained.values():
                weight -= self.step_size * weight.grad

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self.model.zero_grad()


def one_update(folder: Path, given: dict[str, Any], number: int, case: dict[str, Any]) -> dict[str, Any]:
    """Run the trainer's loop for one update; return advantages and losses, and write the gradients."""
    policy, reference = (
        AutoModelForCausalLM.from_pretrained(folder / name, dtype=torch.double) for name in ("policy", "reference")
    )
    critic = AutoModelForSequenceClassification.from_pretrained(folder / "scorer", dtype=torch.double)
    for model in (policy, reference, critic):
        disable_dropout_in_model(model)
    queries, responses = padded(given["rows"])
    kept: list[torch.Tensor] = []
    replace_sampling(torch.cat([queries, responses], 1), torch.tensor(given["scores"], dtype=torch.double))
    keep_advantages(kept, population=case.pop("population"))

    model = ppo_trainer.PolicyAndValueWrapper(policy, critic)
    descent, losses = Descent(model, given["step_size"]), []
    size = len(queries)
    args = PPOConfig(
        output_dir="unused", use_cpu=True, bf16=False, report_to="none", num_ppo_epochs=2, num_mini_batches=1,
        per_device_train_batch_size=size, local_rollout_forward_batch_size=size, num_sample_generations=0,
        response_length=responses.shape[1], temperature=1 - 1e-7, **case,
    )  # fmt: skip
    vars(args).update(num_total_batches=1, total_episodes=size, batch_size=size)
    vars(args).update(local_batch_size=size, local_mini_batch_size=size)
    accelerator = Accelerator(cpu=True)
    backward = accelerator.backward
    accelerator.backward = lambda loss: (losses.append(loss.item()), backward(loss))
    trainer = object.__new__(PPOTrainer)
    control = SimpleNamespace(should_save=False)
    vars(trainer).update(
        args=args, accelerator=accelerator, optimizer=descent, model=model, ref_model=reference, reward_model="given",
        processing_class=SimpleNamespace(pad_token_id=PAD, eos_token_id=given["end"]), stop_token_id=given["end"],
        dataloader=[{"input_ids": queries}], train_dataset_len=size, is_deepspeed_enabled=False, control=control,
        state=SimpleNamespace(), log=lambda _: None,
        lr_scheduler=SimpleNamespace(step=lambda: None, get_last_lr=lambda: [given["step_size"]]),
        callback_handler=SimpleNamespace(
            on_train_begin=lambda *_: control, on_step_end=lambda *_: control, on_train_end=lambda *_: control
        ),
    )  # fmt: skip
    trainer.train()
    for epoch, gradients in enumerate(descent.gradients):
        named = {name.replace("value_model", "critic"): one.contiguous() for name, one in gradients.items()}
        save_file(named, folder / f"gradient-{number}-{epoch}.safetensors")
    (advantages,) = kept
    return {"advantages": advantages.tolist(), "losses": losses}


def padded(rows: list[tuple[list[int], list[int]]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return prompts, padded on the left, and responses on the right: the longest has one place behind it, too."""
    before, after = (max(len(row[part]) for row in rows) for part in (0, 1))
    queries = [[PAD] * (before - len(prompt)) + prompt for prompt, _ in rows]
    responses = [response + [PAD] * (after + 1 - len(response)) for _, response in rows]
    return torch.tensor(queries), torch.tensor(responses)


def replace_sampling(tokens: torch.Tensor, scores: torch.Tensor) -> None:
    """Have the trainer sample these rows, whose logits are the model's own, and score them so."""

    def sample(policy: Any, queries: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        logits = ppo_trainer.forward(policy, tokens, PAD).logits
        return tokens, logits[:, queries.shape[1] - 1 : -1]

    def reward(model: Any, *arguments: Any) -> Any:
        return (None, scores.clone(), None) if model == "given" else REWARD(model, *arguments)

    ppo_trainer.batch_generation, ppo_trainer.get_reward = sample, reward
    ppo_trainer.unwrap_model_for_generation = lambda model, *_, **__: nullcontext(model)


def keep_advantages(kept: list[torch.Tensor], population: bool) -> None:
    """Keep the advantages that the trainer whitens, by one or the other variance of its own."""

    def whiten(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        kept.append(values * mask)
        return WHITEN(values, mask)

    ppo_trainer.masked_whiten = whiten
    ppo_trainer.masked_var = functools.partial(VARIANCE, unbiased=False) if population else VARIANCE


if __name__ == "__main__":
    main(Path(sys.argv[1]))
