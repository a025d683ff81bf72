"""Make the tables of docs/speed.md and of the benchmarks' README from results.json.

python tests/benchmarks/table.py        write them where they belong
"""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BEGIN, END = "<!-- {}: from tests/benchmarks/results.json -->", "<!-- end of {} -->"
SPEED = {
    "sft": ("SFT", 3.0),
    "reward": ("reward model", 2.5),
    "dpo": ("DPO, in the first pass over the pairs", 5.0),
    "dpo-met": ("DPO, from the second pass over the pairs on", 5.0),
    "dpo-cached": ("DPO, TRL with the reference computed beforehand", None),
    "grpo": ("GRPO", 3.0),
    "rloo": ("RLOO", 3.0),
    "ppo": ("PPO, four models", 3.0),
    "ppo-hydra": ("PPO, shared trunk", 5.0),
}
"""What a row is called, and how many times faster than TRL it is to be."""
SAMPLING = {"64": 3.0, "256": 2.0}
"""How many times the tokens a second of `model.generate`, by the rows of the batch."""
MEMORY = 0.6
UTILISATION = 0.75
BF16 = 1.6


def speed(results: dict[str, Any]) -> list[str]:
    """Return the table of what is compared with others, under the options it was measured with."""
    options = {
        f"{found[name]} {name}" for name in ("repetitions", "threads") for found in results.get("trl", {}).values()
    }
    machine = results["machine"]
    caption = f"Measured on a CPU ({machine['system']}, {machine['cores']} cores) with {', '.join(sorted(options))}."
    lines = [
        caption,
        "",
        "| one update, beside TRL | times as fast | target | memory | above imports |",
        "|---|---|---|---|---|",
    ]
    for row, (name, target) in SPEED.items():
        if found := results.get("trl", {}).get(row):
            memory, above = (f"{found[part]['median']:.2f}" for part in ("memory", "memory_above_imports"))
            wanted = f"{target:g}" if target else ""
            lines.append(f"| {name} (trl {found['trl']}) | {times(found['speed'])} | {wanted} | {memory} | {above} |")
    lines += ["", "| | measured | target |", "|---|---|---|"]
    for rows, target in SAMPLING.items():
        if found := results.get("sampling", {}).get(rows):
            lines.append(f"| sampling {rows} responses, beside `generate` | {times(found['speed'])} | {target:g} |")
    if found := results.get("compute", {}).get("utilisation of fp32"):
        share = found["share"]
        measured = f"{share['median']:.0%} ({share['least']:.0%} to {share['most']:.0%})"
        lines.append(f"| share of the fastest matrix product's FLOPs a second, 25 M | {measured} | {UTILISATION:.0%} |")
    if found := results.get("compute", {}).get("training in bf16 over fp32"):
        apart = f"losses at most {abs(found['loss_apart']):.1g} of themselves apart"
        lines.append(f"| training in bf16, beside fp32, 25 M; {apart} | {times(found['speed'])} | {BF16:g} |")
    if found := results.get("compute", {}).get("products in bf16 over fp32"):
        lines.append(f"| matrix products in bf16, beside fp32 | {times(found['speed'])} | |")
    for command, found in sorted(results.get("start", {}).items()):
        lines.append(f"| `{command}` | {found['seconds']['median']:.2f} s | 0.2 s |")
    return lines


def curves(results: dict[str, Any]) -> list[str]:
    """Return the tables of how costs grow."""
    lines = []
    for curve, what in [("tokens", "responses a batch"), ("sizes", "parameters")]:
        if points := results.get("curves", {}).get(curve):
            lines += [f"| {what} | tokens | time | FLOPs | MiB above imports |", "|---|---|---|---|---|"]
            lines += [
                f"| {name} | {point['tokens']} | {point['seconds']['median']:g} | {point['flops']:.3g} | "
                f"{point['mebibytes']} |"
                for name, point in sorted(points.items(), key=lambda item: item[1]["flops"])
            ]
            lines.append("")
    if points := results.get("curves", {}).get("cells"):
        lines += ["| seeds of a bench | time |", "|---|---|"]
        lines += [f"| {count} | {points[count]['seconds']:g} |" for count in sorted(points, key=int)]
    return lines


def times(found: dict[str, float]) -> str:
    """Write a ratio with its spread."""
    return f"**{found['median']:.2f}** ({found['least']:.2f} to {found['most']:.2f})"


def between(text: str, name: str, lines: list[str]) -> str:
    """Return a text with these lines between the markers of that name."""
    begin, end = BEGIN.format(name), END.format(name)
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return "\n".join([f"{head}{begin}", "", *lines, "", f"{end}{tail}"])


TABLES = [(HERE.parents[1] / "docs" / "speed.md", "speed", speed), (HERE / "README.md", "curves", curves)]
"""The file of each table, the name of its markers, and what makes it."""


def main() -> None:
    """Write every table."""
    results = json.loads((HERE / "results.json").read_text())
    for path, name, make in TABLES:
        path.write_text(between(path.read_text(), name, make(results)))


if __name__ == "__main__":
    main()
