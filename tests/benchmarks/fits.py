"""What fits on one GPU, by `zoo plan`: the memory of trainings of models from 0.5 to 8 B, with what saves memory.

    python tests/benchmarks/fits.py > table.md

Updates are measured on a model of 0.5 M parameters with prompts of 512 tokens and answers of up to 512, and scaled by
the configurations below. Nothing larger is loaded. A row of the table is one call of `zoo plan --base-config`.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from torch import nn
from transformers import LlamaConfig, PreTrainedConfig, Qwen2Config

from zoo_core.testing.tiny import tiny_policy, tiny_tokenizer

TOKENS = 512
CARDS = (24, 40, 80)
"""Gigabytes of a GPU."""
ROOM = 0.9
"""The share of a GPU that a training may fill: a workspace of kernels and fragments come on top."""


def qwen(hidden: int, layers: int, heads: int, inner: int, *, tied: bool, vocabulary: int = 151_936) -> Qwen2Config:
    """Return the configuration of a model of Qwen 2.5."""
    return Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=4 if hidden > 2048 else 2,
        intermediate_size=inner,
        tie_word_embeddings=tied,
        max_position_embeddings=32_768,
    )


MODELS: dict[str, PreTrainedConfig] = {
    "Qwen 2.5 0.5 B": qwen(896, 24, 14, 4864, tied=True),
    "Qwen 2.5 1.5 B": qwen(1536, 28, 12, 8960, tied=True),
    "Qwen 2.5 7 B": qwen(3584, 28, 28, 18_944, tied=False, vocabulary=152_064),
    "Llama 3.1 8 B": LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131_072,
    ),
}
PARTS = {"micro_batch": 2 * TOKENS, "gradient_checkpointing": True}
ARRANGEMENTS: dict[str, dict[str, Any]] = {
    "all weights": {"precision": "bf16"},
    "in parts, frozen ones in bf16": {"precision": "bf16", "weights": "bf16", **PARTS},
    "the same, moments of 8 bits": {"precision": "bf16", "weights": "bf16", "optimizer": "adamw-8bit", **PARTS},
    "adapter, in parts, frozen ones in bf16": {"precision": "bf16", "weights": "bf16", "lora": {"rank": 16}, **PARTS},
}
ROWS = [
    {"name": "sft", "batch_size": 16},
    {"name": "dpo", "batch_size": 8},
    {"name": "grpo", "batch_size": 16, "group_size": 4, "minibatch_size": 16},
    {"name": "ppo", "batch_size": 16, "minibatch_size": 16, "epochs": 1},
]


def rows_of(arrangement: str) -> list[dict[str, Any]]:
    """Return the rows; with adapters, PPO's critic is one on the same base."""
    models = {"models": "lora", "lora_rank": 16} if "lora" in ARRANGEMENTS[arrangement] else {}
    return [{**row, **(models if row["name"] == "ppo" else {})} for row in ROWS]


def write_world(folder: Path) -> None:
    """Write a base, rows of `TOKENS` tokens and a reward that is a rule, so that no reward model is in memory."""
    # The base has the grouping of its targets, so that it can tell keys from hidden states.
    policy = tiny_policy(
        vocab_size=4096,
        hidden_size=48,
        intermediate_size=112,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4 * TOKENS,
    )
    nn.init.zeros_(policy.lm_head.weight)  # every token is as likely as the one that ends: answers are long
    policy.save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    words = [f"{number:03}".translate(LETTERS) * (TOKENS // 3 - 2) for number in range(300)]
    prompts = [[{"role": "user", "content": word}] for word in words]
    answers = {kind: [{"role": "assistant", "content": kind * (TOKENS - 1)}] for kind in "ab"}
    rows = [{"prompt": prompt, "chosen": answers["a"], "rejected": answers["b"]} for prompt in prompts]
    write(folder / "pairs.jsonl", rows)
    write(folder / "demonstrations.jsonl", [{"prompt": prompt, "completion": answers["a"]} for prompt in prompts])
    write(folder / "prompts.jsonl", [{"prompt": prompt} for prompt in prompts])
    (folder / "rule.py").write_text("def score(samples):\n    return [float(len(one.response)) for one in samples]\n")
    for name, config in MODELS.items():
        (folder / f"{name}.json").write_text(config.to_json_string(use_diff=False))


LETTERS = str.maketrans("0123456789", "bcdefghijk")


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def gigabytes(folder: Path, arrangement: str, model: str) -> dict[str, float]:
    """Return what one device holds at most, by row."""
    spec = {
        "name": f"fits-{list(ARRANGEMENTS).index(arrangement)}",
        "base": "base",
        "demonstrations": "demonstrations.jsonl",
        "preferences": "pairs.jsonl",
        "prompts": "prompts.jsonl",
        "reward": "rule:score",
        "gold": "rule:score",
        "tasks": [],
        "algorithms": rows_of(arrangement),
        "references": False,
        "seeds": 1,
        "budget": 1e21,
        "prompt_tokens": TOKENS,
        "response_tokens": TOKENS,
        "limits": {"demonstrations": 64, "preference_labels": 64},
        "evaluation": {"temperatures": [1], "dev_prompts": 8, "test_prompts": 8, "curve_prompts": 8, "best_of": []},
        **ARRANGEMENTS[arrangement],
    }
    file = folder / f"{spec['name']}.yaml"
    file.write_text(yaml.safe_dump(spec))
    command = ["zoo", "plan", str(file), "--base-config", str(folder / f"{model}.json"), "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return {row["row"]: row["memory"]["ddp_device"] / 1e9 for row in json.loads(done.stdout)["rows"]}


def main() -> None:
    """Print the table."""
    names = [row["name"] for row in ROWS]
    print("| model | trained | " + " | ".join(f"{name} GB" for name in names) + " | fits all four |")
    print("|---|---|" + "---|" * (len(names) + 1))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_world(folder)
        for model in MODELS:
            for arrangement in ARRANGEMENTS:
                found = gigabytes(folder, arrangement, model)
                most = max(found.values())
                card = next((f"{size} GB" for size in CARDS if most <= ROOM * size), "none")
                cells = [f"{found[name]:.0f}" for name in names]
                print(f"| {model} | {arrangement} | {' | '.join(cells)} | {card} |", flush=True)


if __name__ == "__main__":
    main()
