"""TRL's losses on pairs, and their gradients by every weight of a model, in a process of its own.

    .parity/trl-1.16/bin/python tests/parity/pair_losses.py FOLDER

FOLDER holds `policy` and `reference` (causal language models), `scorer` (a sequence classifier), `rows.json`
(`chosen` and `rejected`: lists of [prompt tokens, response tokens]) and `cases.json` (a list of {"trainer", "dtype",
"settings"}). Prints one line of JSON with the losses, and writes the gradients of case N to `gradient-N.safetensors`.
Losses are computed by the trainers' own methods on batches as their collators make them.
"""

import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
import torch
from accelerate import Accelerator
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel
from trl import DPOTrainer, KTOTrainer, RewardTrainer, SFTTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.utils import add_fused_lm_head

Rows = list[tuple[list[int], list[int]]]
IGNORED = -100
OUTPUTS = ("log_probs", "entropy", "mean_logits", "is_top1")


def main(folder: Path) -> None:
    """Compute and print."""
    rows = json.loads((folder / "rows.json").read_text())
    losses = []
    for number, case in enumerate(json.loads((folder / "cases.json").read_text())):
        scores = case["trainer"] == "reward"
        auto = AutoModelForSequenceClassification if scores else AutoModelForCausalLM
        policy, reference = (
            auto.from_pretrained(folder / name, dtype=getattr(torch, case["dtype"])).eval()
            for name in (("scorer", "scorer") if scores else ("policy", "reference"))
        )
        loss = LOSSES[case["trainer"]](policy, reference, rows["chosen"], rows["rejected"], case["settings"])
        loss.backward()
        gradients = {name: weight.grad for name, weight in policy.named_parameters() if weight.grad is not None}
        save_file(
            {name: one.contiguous() for name, one in gradients.items()}, folder / f"gradient-{number}.safetensors"
        )
        losses.append(loss.item())
    sys.stdout.write(json.dumps(losses) + "\n")


class InItsOwnPrecision(torch.nn.Module):
    """A model whose log-probabilities have the dtype of its weights; TRL's fused head has them in float32."""

    is_gradient_checkpointing = False

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, labels: torch.Tensor, fused_lm_head: bool, **inputs: Any) -> SimpleNamespace:
        """Return what the fused head would; figures that are only logged are 0."""
        logits, next_ones = self.model(**inputs).logits[:, :-1], labels[:, 1:]
        known = next_ones != IGNORED
        every = logits.log_softmax(-1).gather(-1, next_ones.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        nothing = torch.zeros_like(every)
        return SimpleNamespace(
            log_probs=every * known, entropy=nothing, mean_logits=nothing, is_top1=torch.zeros_like(known)
        )


def with_head(model: PreTrainedModel, outputs: tuple[str, ...] = ("log_probs",)) -> torch.nn.Module:
    """Return a model that answers as TRL's trainers ask: with their own head, or in float64."""
    if model.dtype == torch.float64:
        return InItsOwnPrecision(model)
    add_fused_lm_head(model, outputs=outputs)
    return model


def made(kind: type, policy: torch.nn.Module, reference: torch.nn.Module | None, settings: dict[str, Any]) -> Any:
    """Return a trainer with what its loss reads, without data, files or a tokenizer."""
    trainer = object.__new__(kind)
    vars(trainer).update(
        model=policy, ref_model=reference, accelerator=Accelerator(cpu=True), aux_loss_enabled=False,
        precompute_ref_logps=False, ld_alpha=None, f_divergence_type="reverse_kl", loss_weights=[1.0],
        use_weighting=False, label_smoothing=0.0, calculate_KL=True, desirable_weight=1.0, undesirable_weight=1.0,
        is_encoder_decoder=False, pad_token_id=0, padding_value=0, alpha=0.0, cpo_alpha=0.0, simpo_gamma=0.0,
        _tp_size=1, _total_train_tokens=0, _metrics={"train": defaultdict(list), "eval": defaultdict(list)},
        _peft_has_been_casted_to_bf16=False,
        args=type("Args", (), {"gradient_checkpointing_kwargs": None})(),
    )  # fmt: skip
    vars(trainer).update(settings)
    return trainer


def batch_of(rows: Rows) -> dict[str, torch.Tensor]:
    """Return a batch that is padded on the right, as TRL's collators pad."""
    width = max(len(prompt) + len(response) for prompt, response in rows)
    tokens, attention, completion = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3))
    for row, (prompt, response) in enumerate(rows):
        length = len(prompt) + len(response)
        tokens[row, :length] = torch.tensor([*prompt, *response])
        attention[row, :length] = 1
        completion[row, len(prompt) : length] = 1
    return {"input_ids": tokens, "attention_mask": attention, "completion_mask": completion}


def dpo(policy: PreTrainedModel, reference: PreTrainedModel, chosen: Rows, rejected: Rows, settings: Any) -> Any:
    """DPO and its relatives, by `loss_types`."""
    model, held = with_head(policy, OUTPUTS), with_head(reference)
    trainer = made(DPOTrainer, model, held, settings)
    return trainer._compute_loss(model, batch_of([*chosen, *rejected]), False)


def kto(policy: PreTrainedModel, reference: PreTrainedModel, chosen: Rows, rejected: Rows, settings: Any) -> Any:
    """KTO; each prompt has the answer of the next row for the reference point."""
    model, held = with_head(policy, OUTPUTS), with_head(reference)
    rows = [*chosen, *rejected]
    mixed = [(prompt, rows[(row + 1) % len(rows)][1]) for row, (prompt, _) in enumerate(rows)]
    good = torch.arange(len(rows)) < len(chosen)
    inputs = {**batch_of(rows), **{f"KL_{name}": one for name, one in batch_of(mixed).items()}, "label": good}
    trainer = made(KTOTrainer, model, held, {"loss_type": "kto", **settings})
    return trainer._compute_loss(model, inputs, False)


def sides(chosen: Rows, rejected: Rows) -> dict[str, torch.Tensor]:
    """Return chosen and rejected rows as CPO and ORPO have them: each side by itself, prompts without labels."""
    found = {}
    for name, rows in (("chosen", chosen), ("rejected", rejected)):
        batch = batch_of(rows)
        labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORED)
        found |= {f"{name}_{key}": one for key, one in batch.items()} | {f"{name}_labels": labels}
    return found


def cpo(policy: PreTrainedModel, _: PreTrainedModel, chosen: Rows, rejected: Rows, settings: Any) -> Any:
    """CPO, and SimPO, by `loss_type`."""
    return made(CPOTrainer, policy, None, settings).get_batch_loss_metrics(policy, sides(chosen, rejected))[0]


def orpo(policy: PreTrainedModel, _: PreTrainedModel, chosen: Rows, rejected: Rows, settings: Any) -> Any:
    """The odds-ratio term of ORPO: the loss less the likelihood, in which TRL takes prompts."""
    trainer = made(ORPOTrainer, policy, None, settings)
    liked, other, *_ = trainer.concatenated_forward(policy, sides(chosen, rejected))
    return -trainer.odds_ratio_loss(liked, other)[0].mean()


def sft(policy: PreTrainedModel, _: PreTrainedModel, chosen: Rows, __: Rows, settings: Any) -> Any:
    """Imitation of the chosen answers: the loss that SFTTrainer leaves to the model."""
    assert SFTTrainer
    batch = batch_of(chosen)
    labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, IGNORED)
    return policy(**batch, labels=labels).loss


def reward(scorer: PreTrainedModel, _: PreTrainedModel, chosen: Rows, rejected: Rows, settings: Any) -> Any:
    """The reward model's loss, with or without a `center_rewards_coefficient`."""
    trainer = made(RewardTrainer, scorer, None, {"args": SimpleNamespace(**settings)})
    batch = batch_of([*chosen, *rejected])
    del batch["completion_mask"]
    return trainer.compute_loss(scorer, batch)


LOSSES = {"dpo": dpo, "kto": kto, "cpo": cpo, "orpo": orpo, "sft": sft, "reward": reward}

if __name__ == "__main__":
    main(Path(sys.argv[1]))
