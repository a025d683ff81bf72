"""One process of the comparison with TRL: its trainer, on a model and on rows in the order they are given.

    .parity/trl-1.16/bin/python tests/benchmarks/theirs.py ALGORITHM BASE ROWS UPDATES

Prints one line of JSON (see measure.py). ALGORITHM is sft, reward, dpo, dpo-cached (the reference's log-probabilities
computed beforehand, and not timed), grpo, rloo (trl 1.16), or ppo (trl 1.12, the last with it). The settings are those
of ours.py, which makes the rows as well.
"""

import json
import os
import sys
import tempfile
import warnings
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
warnings.filterwarnings("ignore")
import torch  # noqa: E402
import trl  # noqa: E402
from datasets import Dataset  # noqa: E402
from measure import Clock  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)

PAIRS, RESPONSES, GROUP, NEW_TOKENS, LONGEST = 16, 64, 4, 48, 256


class Stamping(TrainerCallback):
    """Stamps the end of each update."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Called by every trainer."""
        self.clock.stamp()


class Counting:
    """A collator that adds up the real and the padded tokens of the batches it makes."""

    def __init__(self, collator: Any) -> None:
        self.collator, self.real, self.padded, self.batches = collator, 0, 0, 0

    def __call__(self, rows: Any) -> Any:
        """Make a batch."""
        batch = self.collator(rows)
        if "attention_mask" in batch:
            self.real += int(batch["attention_mask"].sum())
            self.padded += batch["attention_mask"].numel()
            self.batches += 1
        return batch


def main(algorithm: str, base: str, rows_file: str, updates: int) -> None:
    """Train for so many updates."""
    sampled: list[int] = []

    def length(completions: Any, completion_ids: Any, **_: Any) -> list[float]:
        sampled.extend(map(len, completion_ids))
        return [float(len(completion[0]["content"])) for completion in completions]

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    name, build = TRAINERS[algorithm]
    module = import_module("trl.experimental.ppo") if name == "PPO" else trl
    config, trainer_of = getattr(module, f"{name}Config"), getattr(module, f"{name}Trainer")
    clock = Clock()
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = [json.loads(line) for line in Path(rows_file).read_text().splitlines()]
    with tempfile.TemporaryDirectory() as directory:
        trainer = build(
            partial(
                config,
                output_dir=directory,
                per_device_train_batch_size=RESPONSES if name in ("GRPO", "RLOO", "PPO") else PAIRS,
                use_cpu=True,
                bf16=False,
                report_to="none",
                save_strategy="no",
                gradient_checkpointing=False,
                logging_steps=10_000,
                disable_tqdm=True,
                seed=0,
            ),
            partial(trainer_of, processing_class=tokenizer, callbacks=[Stamping(clock)]),
            base=base,
            tokenizer=tokenizer,
            rows=rows,
            reward=length,
            updates=updates,
        )
        trainer.data_collator = counting = Counting(trainer.data_collator)
        trainer.train()
    clock.report(
        tokens=counting.real / counting.batches if counting.batches else None,
        padded_tokens=counting.padded / counting.batches if counting.batches else None,
        length=sum(sampled) / len(sampled) if sampled else None,
        trl=trl.__version__,
    )


def sft(config: Any, trainer: Any, base: str, rows: list[Any], updates: int, **_: Any) -> Any:
    """TRL's default loss on prompts with completions: of the completion's tokens alone."""
    data = Dataset.from_list([{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows])
    args = config(max_steps=updates, max_length=LONGEST, train_sampling_strategy="sequential")
    return trainer(base, args=args, train_dataset=data)


def reward_model(config: Any, trainer: Any, base: str, rows: list[Any], updates: int, **_: Any) -> Any:
    """A classifier trained on pairs."""
    args = config(max_steps=updates, max_length=LONGEST, train_sampling_strategy="sequential")
    return trainer(classifier(base), args=args, train_dataset=Dataset.from_list(rows))


def dpo(config: Any, trainer: Any, base: str, rows: list[Any], updates: int, **_: Any) -> Any:
    """The sigmoid loss."""
    args = config(max_steps=updates, max_length=LONGEST, beta=0.1, train_sampling_strategy="sequential")
    return trainer(base, args=args, train_dataset=Dataset.from_list(rows))


def dpo_cached(config: Any, trainer: Any, **given: Any) -> Any:
    """The same with the reference's log-probabilities computed before the first update."""
    return dpo(partial(config, precompute_ref_log_probs=True), trainer, **given)


def groups(
    config: Any, trainer: Any, base: str, rows: list[Any], reward: Any, updates: int, own: dict[str, Any], **_: Any
) -> Any:
    """GRPO or RLOO: one optimizer step a batch, with a reference."""
    args = config(
        max_steps=updates, num_generations=GROUP, max_completion_length=NEW_TOKENS, shuffle_dataset=False, **own
    )
    data = Dataset.from_list([{"prompt": row["prompt"]} for row in rows])
    return trainer(base, reward_funcs=reward, args=args, train_dataset=data)


def ppo(config: Any, trainer: Any, base: str, tokenizer: Any, rows: list[Any], updates: int, **_: Any) -> Any:
    """Four epochs of one minibatch; it always samples the full length, and then cuts at EOS."""
    texts = [tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True) for row in rows]
    data = Dataset.from_list([{"input_ids": tokenizer(text, add_special_tokens=False)["input_ids"]} for text in texts])
    args = config(
        total_episodes=RESPONSES * updates,
        num_ppo_epochs=4,
        num_mini_batches=1,
        response_length=NEW_TOKENS,
        local_rollout_forward_batch_size=RESPONSES,
        num_sample_generations=0,
        stop_token="eos",
        missing_eos_penalty=1.0,
    )
    return trainer(
        args=args,
        model=causal(base),
        ref_model=causal(base),
        reward_model=classifier(base),
        value_model=classifier(base),
        train_dataset=data,
        eval_dataset=data,
    )


def causal(base: str) -> Any:
    """The policy, in float32."""
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


def classifier(base: str) -> Any:
    """A scorer on the policy's body, in float32."""
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)


TRAINERS = {
    "sft": ("SFT", sft),
    "reward": ("Reward", reward_model),
    "dpo": ("DPO", dpo),
    "dpo-cached": ("DPO", dpo_cached),
    # The KL of the 2024 paper, as on our side; TRL's own default multiplies it by the importance ratio.
    "grpo": ("GRPO", partial(groups, own={"beta": 0.04, "use_bias_correction_kl": False})),
    "rloo": ("RLOO", partial(groups, own={"beta": 0.05})),
    "ppo": ("PPO", ppo),
}

if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
