"""The results as Markdown, with the targets beside.

table.py [RESULTS.json]      the file of a whole run by default
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

FASTER = {"sft": 1.2, "reward": 1.2, "dpo": 1.2, "grpo": 3.0, "rloo": 3.0, "ppo": 3.0}
"""How many times as fast as TRL's best a row is to be."""
SAMPLES_FASTER, OF_PEAK, OF_TIME = 3.0, 0.25, 0.02
OF_BEFORE = {"ppo small": (3.34, 41.4)}
"""Where TRL has no trainer: seconds and GB of the zoo at 26d0256, on an H100."""


def verdict(met: bool | None) -> str:
    """Return a word for a target."""
    return "" if met is None else "met" if met else "**missed**"


def best_of(sides: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return TRL's fastest setting, and what it took."""
    others = {name: one for name, one in sides.items() if name not in ("zoo", "failed")}
    return min(others.items(), key=lambda one: one[1]["median"]) if others else None


def gigabytes(one: dict[str, Any]) -> str:
    """Return GB as text."""
    return "-" if one["gigabytes"] is None else f"{one['gigabytes']:.1f}"


def seconds(one: dict[str, Any]) -> str:
    """Return the median of seconds with the least."""
    return f"{one['median']:.3g} ({one['least']:.3g})"


def trainings(found: dict[str, Any], peak: float | None) -> list[str]:
    """Return the table of updates."""
    lines = [
        "| | zoo, s | TRL's best, s | all of TRL, s | faster | target | | GB zoo / TRL | | of the peak | | tokens |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, sides in found.items():
        zoo, best, target = sides["zoo"], best_of(sides), FASTER[name.split()[0]]
        share = zoo["flops_a_second"] / peak if peak else None
        wanted = OF_PEAK if name == "sft large" else None
        if best:
            ratio, memory = best[1]["median"] / zoo["median"], best[1]["gigabytes"]
            shown = f"{seconds(best[1])} {best[0]}"
            every = ", ".join(
                f"{way} {one['median']:.3g}" for way, one in sides.items() if way not in ("zoo", "failed")
            )
        elif name in OF_BEFORE:
            ratio, memory = OF_BEFORE[name][0] / zoo["median"], OF_BEFORE[name][1]
            shown, every = f"{OF_BEFORE[name][0]} (the zoo before)", "-"
        else:
            ratio, memory, shown, every = None, None, "-", "-"
        less = None if memory is None or zoo["gigabytes"] is None else zoo["gigabytes"] <= memory
        same = all(one["same_tokens"] for way, one in sides.items() if way != "failed")
        cells = [
            name,
            seconds(zoo),
            shown,
            every,
            "-" if ratio is None else f"{ratio:.2f}",
            f"{target:g}",
            verdict(None if ratio is None else ratio >= target),
            f"{gigabytes(zoo)} / {'-' if memory is None else f'{memory:.1f}'}",
            verdict(less if target < SAMPLES_FASTER else None),
            "-" if share is None else f"{share:.1%}",
            verdict(None if wanted is None or share is None else share >= wanted),
            "same" if same else "**differ**",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def sampling(found: dict[str, Any]) -> list[str]:
    """Return the table of sampling."""
    lines = [
        "| responses x tokens | side | ms a step | tokens/s | GB | zoo faster | target | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, sides in found.items():
        rate = sides["zoo"]["tokens_a_second"]
        for side, one in sides.items():
            if side == "failed":
                continue
            ratio = rate / one["tokens_a_second"]
            aimed = side in ("autocast", "bf16 weights")
            cells = [
                name,
                side,
                f"{one['ms_a_step']:.2f}",
                f"{one['tokens_a_second']:.0f}",
                gigabytes(one),
                "" if side == "zoo" else f"{ratio:.2f}",
                f"{SAMPLES_FASTER:g}" if aimed else "",
                verdict(ratio >= SAMPLES_FASTER if aimed else None),
            ]
            lines.append(f"| {' | '.join(cells)} |")
        zoo = sides["zoo"]
        lines.append(
            f"| {name} | graphs: {zoo['graphs']}{', **refused**' if zoo['refused'] else ''}; log-probabilities "
            f"{zoo['logprobs_apart']:.2g} from training's, mean {zoo['bias']:.2g} | | | | | | |"
        )
    return lines


def checkpoints(found: dict[str, Any]) -> list[str]:
    """Return the table of checkpoints."""
    lines = ["| | s of training | checkpoints, s | GB | share | in the long run | target | |", "|---|" + "---|" * 7]
    for name, one in found.items():
        long = one.get("share in the long run")
        cells = [
            name,
            f"{one['seconds']:.0f}",
            ", ".join(f"{saved:.2f}" for saved in one["saved"]) or "none",
            f"{one['gigabytes']:.2f}",
            f"{one['share']:.1%}",
            "-" if long is None else f"{long:.1%}",
            f"{OF_TIME:.0%}",
            verdict(one["share"] <= OF_TIME),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def resume(found: dict[str, Any]) -> list[str]:
    """Return what the two benches did."""
    lines = []
    for name in ("undisturbed", "killed"):
        if name in found:
            one = found[name]
            audits = ", ".join(
                f"{row} {record['audit_ratio']:.5f}"
                for row, record in one["records"].items()
                if record["audit_ratio"] is not None
            )
            lines.append(f"- {name}: {one['seconds']:.0f} s in {one['runs']} runs; audit {audits}")
            flags = [f"{row}: {flag}" for row, record in one["records"].items() for flag in record["flags"]]
            lines += [f"  - flag of {flag}" for flag in flags]
    for row, same in found.get("equal", {}).get("weights", {}).items():
        lines.append(f"- {row}: weights {'equal' if same else '**NOT EQUAL**'} after `kill -9`")
    return lines


def failures(known: dict[str, Any]) -> list[str]:
    """Return what was left out, and why."""
    return [
        f"- {part}, {name}, {way}: {why}"
        for part in ("trainings", "sampling")
        for name, sides in known.get(part, {}).items()
        for way, why in sides.get("failed", {}).items()
    ]


def main() -> None:
    """Print all tables."""
    default = Path(os.environ.get("OUT") or "gpu-results") / "results.json"
    known = json.loads((Path(sys.argv[1]) if len(sys.argv) > 1 else default).read_text())
    peak = known.get("peak", {}).get("bf16")
    if peak:
        print(f"{peak['device']}, torch {peak['torch']}, bf16 product {peak['flops'] / 1e12:.3g} TFLOP/s\n")
    parts = {
        "One update": trainings(known.get("trainings", {}), peak["flops"] if peak else None),
        "Sampling": sampling(known.get("sampling", {})),
        "Checkpoints": checkpoints(known.get("checkpoints", {})),
        "End to end": resume(known.get("resume", {})),
        "Left out": failures(known),
    }
    for title, lines in parts.items():
        print(f"## {title}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
