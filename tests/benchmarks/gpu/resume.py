"""`zoo bench` of the big model from end to end: undisturbed, and killed with `kill -9` in the middle of trainings.

    resume.py [--tiny]

The process group is killed once for each training, when that has taken its first checkpoint, and the same command is
run again. Both benches must end with the same weights, bit for bit.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import base
from results import Results, arguments

PART = "resume"
ROWS = ("sft", "dpo", "ppo", "grpo")
SPEC: dict[str, Any] = {
    "preferences": "pairs.jsonl",
    "precision": "bf16",
    "seeds": 1,
    "prompt_tokens": 96,
    "response_tokens": 48,
    "limits": {"preference_labels": 256, "demonstrations": 256, "prompts": 256},
    "evaluation": {"temperatures": [1.0], "dev_prompts": 16, "test_prompts": 16, "best_of": [], "curve_prompts": 8},
    "tasks": [],
}
BIG = {
    "reward": "preferences",
    "budget": 1.2e15,
    "checkpoint_seconds": 2,
    "algorithms": [
        {"name": "sft", "batch_size": 16},
        {"name": "dpo", "batch_size": 16},
        {"name": "ppo", "batch_size": 32, "minibatch_size": 16},
        {"name": "grpo", "batch_size": 32, "group_size": 4, "minibatch_size": 32},
    ],
}
TINY = {
    "reward": "at_once:length",
    "gold": "at_once:length",
    "budget": 3e10,
    "response_tokens": 24,
    "checkpoint_seconds": 0,
    "algorithms": list(ROWS),
}
AT_ONCE = '''
"""A reward, and the paths of GPUs on a CPU: whoever imports the reward gets them."""
from zoo_core.compute import packing, row_attention, sampler

packing.AT_ONCE.add("cpu")
sampler.FIXED.add("cpu")
row_attention.MOST_PADDING = float("inf")


def length(samples):
    return [float(len(sample.response)) for sample in samples]
'''


def prepared(folder: Path, tiny: bool) -> Path:
    """Return the path of the spec, with all that it names beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    model = base.made(folder.parent, tiny)
    # Prompts so short that batches differ in the columns that their samples need.
    longest, prompt_tokens = (64, 60) if tiny else (160, 90)
    base.write(base.pairs(model, tiny, 640, longest, prompt_tokens), folder / "pairs.jsonl")
    (folder / "at_once.py").write_text(AT_ONCE)
    spec = {"base": str(model), **SPEC, **(TINY if tiny else BIG)}
    (folder / "spec.yaml").write_text(json.dumps(spec))  # JSON is YAML
    return folder / "spec.yaml"


class Bench:
    """One bench in a folder, which may be run several times, and its time."""

    def __init__(self, spec: Path, name: str) -> None:
        self.out, self.log = spec.parent / name, spec.parent / f"{name}.log"
        shutil.rmtree(self.out, ignore_errors=True)
        self.command = [sys.executable, "-m", "zoo_harness.start", "bench", str(spec), "--output", str(self.out)]
        self.command += ["--workers", "1"]
        self.environment = os.environ | {"ZOO_CACHE": str(spec.parent / f"{name}-cache"), "HF_HUB_OFFLINE": "1"}
        shutil.rmtree(self.environment["ZOO_CACHE"], ignore_errors=True)
        self.seconds = 0.0
        self.killed: dict[str, None] = {}

    def run(self, until_killed: bool) -> int:
        """Run the command; kill it and all of its processes when a training that was not killed has a checkpoint."""
        began = time.monotonic()
        with self.log.open("a") as log:
            process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
            while process.poll() is None:
                new = self.in_the_middle() if until_killed else None
                if new is not None:
                    self.killed[new] = None
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                time.sleep(0.005)
        self.seconds += time.monotonic() - began
        return process.returncode

    def in_the_middle(self) -> str | None:
        """Return the name of a training with a checkpoint, without a result, and not killed yet."""
        for checkpoint in self.out.glob("*/*/now.safetensors"):
            name = checkpoint.parent.name
            if name not in self.killed and not (checkpoint.parent / "result.json").exists():
                return name
        return None

    def records(self) -> dict[str, dict[str, Any]]:
        """Return the records by row."""
        found = [json.loads(path.read_text()) for path in (self.out / "records").glob("*.json")]
        return {record["row"]: record for record in found}

    def tail(self) -> str:
        """Return the end of what was printed."""
        return self.log.read_text()[-2500:] if self.log.exists() else ""


def measured(folder: Path, tiny: bool, name: str) -> dict[str, Any]:
    """Run the bench of this name to its end; return what its records say."""
    bench = Bench(prepared(folder, tiny), name)
    bench.log.unlink(missing_ok=True)
    code, runs = 1, 0
    while runs < 12:
        runs += 1
        code = bench.run(until_killed=name == "killed")
        if code != -signal.SIGKILL:
            break
        print(f"resume: killed in {', '.join(bench.killed)}; run again", flush=True)
    if code:
        return {"error": f"the bench ended with {code}\n{bench.tail()}"}
    kept = ("weights_sha256", "flops_used", "audit_ratio", "flags", "wall_seconds", "peak_memory_bytes")
    records = bench.records()
    return {
        "seconds": bench.seconds,
        "runs": runs,
        "killed": sorted(bench.killed),
        "records": {row: {key: record.get(key) for key in kept} for row, record in records.items()},
    }


def compare(results: Results) -> None:
    """Print and keep whether both benches ended with the same weights."""
    known = results.read().get(PART, {})
    if not {"undisturbed", "killed"} <= known.keys():
        return
    one, other = known["undisturbed"]["records"], known["killed"]["records"]
    equal = {row: one[row]["weights_sha256"] == other.get(row, {}).get("weights_sha256") for row in sorted(one)}
    spent = {row: one[row]["flops_used"] == other.get(row, {}).get("flops_used") for row in sorted(one)}
    for row, same in equal.items():
        print(f"resume {row}: weights {'equal' if same else 'NOT EQUAL'}, FLOPs {'equal' if spent[row] else 'NOT'}")
    results.keep(PART, "equal", {"weights": equal, "flops": spent})


def main() -> None:
    """Run both benches if they are not known, and compare them."""
    given = arguments(__doc__.splitlines()[0]).parse_args()
    results = Results(given.tiny)
    folder = Path(tempfile.gettempdir()) / "zoo-gpu" / ("tiny-bench" if given.tiny else "bench")
    try:
        results.through(PART, ["undisturbed", "killed"], given.minutes, lambda name: measured(folder, given.tiny, name))
        compare(results)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # tens of GB


if __name__ == "__main__":
    main()
