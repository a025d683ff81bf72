"""The process of TRL: its trainers, and transformers' ways of sampling. It imports nothing of the zoo.

trl_side.py FOLDER [--tiny]      serves; see serving.py
"""

import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
warnings.filterwarnings("ignore")
import torch  # noqa: E402
import trl  # noqa: E402
from base import made  # noqa: E402
from datasets import Dataset, disable_progress_bars  # noqa: E402
from rows import (  # noqa: E402
    AUTOCAST,
    CONTINUOUS,
    GROUP,
    LEARNING_RATE,
    UNPADDED,
    Row,
    row_of,
    texts_of,
)
from serving import begin_memory, free, highest_memory, serve, synchronise  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
    TrainerCallback,
)


class Stamping(TrainerCallback):
    """Stamps the beginning of the training and the end of each update."""

    def __init__(self) -> None:
        self.stamps: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Called by every trainer."""
        self.on_step_end()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Called by every trainer."""
        synchronise()
        self.stamps.append(time.perf_counter())


class Counting:
    """A collator that adds up the real and the computed tokens of the batches it makes."""

    def __init__(self, collator: Any) -> None:
        self.collator, self.real, self.computed, self.batches = collator, 0, 0, 0

    def __call__(self, rows: Any) -> Any:
        """Make a batch."""
        batch = self.collator(rows)
        if "input_ids" in batch:
            mask = batch.get("attention_mask")
            self.computed += batch["input_ids"].numel()
            self.real += batch["input_ids"].numel() if mask is None else int(mask.sum())
            self.batches += 1
        return batch


class Trl:
    """What the other side asks for."""

    def __init__(self, folder: Path, tiny: bool) -> None:
        self.folder, self.tiny = folder, tiny
        self.base = made(folder, tiny)
        self.tokenizer = AutoTokenizer.from_pretrained(self.base)

    def block(self, name: str, way: str, order: list[int]) -> dict[str, Any]:
        """Train for the updates of a block on rows in this order; return seconds, memory and tokens."""
        row = row_of(name, self.tiny)
        held, clock, lengths = begin_memory(), Stamping(), list[int]()
        texts = texts_of(row, self.folder, self.tiny)
        rows = [texts[place] for place in order]

        def length(completions: Any, completion_ids: Any, **_: Any) -> list[float]:
            lengths.extend(map(len, completion_ids))
            return [float(len(completion[0]["content"])) for completion in completions]

        with tempfile.TemporaryDirectory() as directory:
            trainer = self.trainer(row, way, rows, length, clock, directory)
            trainer.data_collator = counting = Counting(trainer.data_collator)
            trainer.train()
        seconds = [after - before for before, after in zip(clock.stamps, clock.stamps[1:], strict=False)]
        tokens = counting.real / counting.batches if counting.batches else self.sampled(row, rows, lengths)
        found = {
            "seconds": seconds[row.warm_up :],
            "gigabytes": highest_memory(),
            "held": held,
            "tokens": tokens,
            "computed": counting.computed / counting.batches if counting.batches else None,
            "weights": str(next(trainer.model.parameters()).dtype),
            "attention": trainer.model.config._attn_implementation,
            "device": str(trainer.model.device),
            "trl": trl.__version__,
        }
        trainer.accelerator.free_memory()
        return found

    def sampled(self, row: Row, rows: list[Any], lengths: list[int]) -> float:
        """Return tokens an update of prompts and samples."""
        prompts = [one["prompt"] for one in rows]
        texts = [self.tokenizer.apply_chat_template(p, tokenize=False, add_generation_prompt=True) for p in prompts]
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        updates = row.warm_up + row.timed
        return (GROUP * sum(map(len, ids)) + sum(lengths)) / updates

    def trainer(self, row: Row, way: str, rows: list[Any], reward: Any, clock: Stamping, directory: str) -> Any:
        """Return the trainer of a row."""
        loading: dict[str, Any] = {"dtype": "float32" if way == AUTOCAST else "bfloat16"}
        if way == UNPADDED:
            loading["attn_implementation"] = "sdpa" if self.tiny else "flash_attention_2"
        settings: dict[str, Any] = {
            "output_dir": directory,
            "per_device_train_batch_size": row.batch,
            "max_steps": row.warm_up + row.timed,
            "learning_rate": LEARNING_RATE,
            "bf16": way == AUTOCAST,
            "use_cpu": not torch.cuda.is_available(),
            "report_to": "none",
            "save_strategy": "no",
            "gradient_checkpointing": False,
            "logging_steps": 10_000,
            "disable_tqdm": True,
            "seed": 0,
        }
        given: dict[str, Any] = {"processing_class": self.tokenizer, "callbacks": [clock]}
        if row.samples:
            settings |= {"num_generations": GROUP, "max_completion_length": row.longest, "shuffle_dataset": False}
            settings["use_transformers_continuous_batching"] = way == CONTINUOUS
            # The KL of the 2024 paper, as on our side; TRL's own default multiplies it by the importance ratio.
            settings |= {"beta": 0.04, "use_bias_correction_kl": False} if row.name == "grpo" else {"beta": 0.05}
            given |= {"train_dataset": Dataset.from_list([{"prompt": one["prompt"]} for one in rows])}
            given["reward_funcs"] = reward
        else:
            settings |= {"max_length": row.longest, "train_sampling_strategy": "sequential"}
            given["train_dataset"] = Dataset.from_list(rows)
        if row.name == "sft":
            given["train_dataset"] = Dataset.from_list(
                [{"prompt": one["prompt"], "completion": one["chosen"]} for one in rows]
            )
            if way == UNPADDED:
                settings |= {"padding_free": True, "max_length": None}
        kind = {"sft": "SFT", "reward": "Reward", "dpo": "DPO", "grpo": "GRPO", "rloo": "RLOO"}[row.name]
        model: Any = str(self.base)
        if row.name == "reward":
            torch.manual_seed(0)
            loading["dtype"] = getattr(torch, loading["dtype"])
            model = AutoModelForSequenceClassification.from_pretrained(self.base, num_labels=1, **loading)
        else:
            settings["model_init_kwargs"] = loading
        args = getattr(trl, f"{kind}Config")(**settings)
        return getattr(trl, f"{kind}Trainer")(model, args=args, **given)

    def sample(self, way: str, rows: int, tokens: int, turns: int) -> dict[str, Any]:
        """Sample with transformers; return seconds, steps and tokens of each turn."""
        found: dict[str, Any] = {"seconds": [], "steps": [], "tokens": []}
        held = begin_memory()
        texts = texts_of(Row("grpo", 4, tokens, 1, 1), self.folder, self.tiny)[:rows]
        written = [
            self.tokenizer.apply_chat_template(one["prompt"], tokenize=False, add_generation_prompt=True)
            for one in texts
        ]
        dtype = torch.float32 if way == AUTOCAST else torch.bfloat16
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = AutoModelForCausalLM.from_pretrained(self.base, dtype=dtype).to(device).eval()
        sample = self.continuous if way == CONTINUOUS else self.generate
        for turn in range(turns + 1):
            synchronise()
            began = time.perf_counter()
            torch.manual_seed(turn)
            with torch.autocast(device, torch.bfloat16, enabled=way == AUTOCAST):
                count, steps = sample(model, written, min(tokens, 16) if turn == 0 and way != CONTINUOUS else tokens)
            synchronise()
            if turn:
                found["seconds"].append(time.perf_counter() - began)
                found["steps"].append(steps)
                found["tokens"].append(count)
        del model
        free()
        return found | {"gigabytes": highest_memory(), "held": held}

    def settings(self, tokens: int) -> dict[str, Any]:
        """Return the settings of sampling: temperature 1 without top-k or top-p."""
        ends = {"pad_token_id": self.tokenizer.pad_token_id, "eos_token_id": self.tokenizer.eos_token_id}
        return {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": tokens, **ends}

    @torch.no_grad()
    def generate(self, model: Any, texts: list[str], tokens: int) -> tuple[int, int]:
        """Sample with `generate`; return the tokens up to the ends, and the steps."""
        batch = self.tokenizer(texts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
        ids, mask = batch["input_ids"].to(model.device), batch["attention_mask"].to(model.device)
        some = model.generate(input_ids=ids, attention_mask=mask, **self.settings(tokens))[:, ids.shape[1] :]
        is_end = (some == self.tokenizer.eos_token_id).long()
        return int((is_end.cumsum(1) - is_end == 0).sum()), some.shape[1]

    @torch.no_grad()
    def continuous(self, model: Any, texts: list[str], tokens: int) -> tuple[int, int]:
        """Sample with continuous batching; return the tokens, and the most of a row."""
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        found = model.generate_batch(
            inputs=ids, generation_config=GenerationConfig(**self.settings(tokens)), persistent_manager=True
        )
        sizes = [len(one.generated_tokens) for one in found.values()]
        if len(sizes) != len(texts):
            raise RuntimeError(f"{len(texts)} prompts were given and {len(sizes)} answered")
        return sum(sizes), max(sizes)


def main(folder: Path, tiny: bool) -> None:
    """Serve."""
    disable_progress_bars()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    side = Trl(folder, tiny)
    serve({"block": side.block, "sample": side.sample})


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--tiny" in sys.argv)
