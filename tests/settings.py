"""Write what a search chose into the plugins' READMEs: the column *tuned* of their settings, and a section *Tuning*.

python tests/settings.py

The columns *paper* and *meaning* are written by hand. The logs are plugins/*/tuning.json.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo_harness.tuning.worth import By, Tried, all_miss, differences, missing_their_objective, worth
from zoo_leaderboard.columns import number
from zoo_leaderboard.statistics import summarize

from zoo_core.records import Algorithm
from zoo_core.registry.plugins import plugins

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- tuning: from tuning.json -->", "<!-- end of tuning -->"
HEADING = "## Tuning"

Log = Mapping[str, Any]


def folder(record: Algorithm) -> Path:
    """The folder of the distribution that an algorithm comes from; it may bring several."""
    return ROOT / "plugins" / record.train.partition(".")[0].removeprefix("zoo_").replace("_", "-")


def logs(plugin: Path) -> dict[str, Log]:
    """The logs of a plugin's searches, by name; none if it was never searched."""
    file = plugin / "tuning.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def with_values(text: str, record: Algorithm, log: Log | None) -> str:
    """Return a README with defaults and tuned values in the rows of an algorithm's settings."""
    place = text.index("\n## Settings\n")
    section = text[place : text.index("\n## ", place + 1)]
    if start := re.search(rf"^### {record.name}$", section, re.MULTILINE):
        place += start.start()
    for field in dataclasses.fields(record.load_config()):
        row = re.compile(rf"^\| `{field.name}` \| [^|]* \| [^|]* \|", re.MULTILINE)
        tuned = log["winner"]["settings"].get(field.name) if log else None
        shown = "" if log is None or field.name not in log["winner"]["settings"] else f"`{tuned!r}`"
        found = row.search(text, place)
        if found:
            new = f"| `{field.name}` | `{field.default!r}` | {shown} |"
            text = text[: found.start()] + new + text[found.end() :]
    return text


def section(found: Mapping[str, Log]) -> list[str]:
    """What a README says of its plugin's searches."""
    lines = [HEADING, "", BEGIN, ""]
    for name, log in found.items():
        lines += [*([f"### {name}", ""] if len(found) > 1 else []), *_search(name, log), ""]
    return [*lines, "`docs/tuning.md` says how a search goes; `tuning.json` has every point.", "", END]


def _search(name: str, log: Log) -> Iterator[str]:
    first, second = log["rounds"]
    worlds = list(dict.fromkeys(one["world"] for one in second["found"]))
    seeds = len({one["seed"] for one in second["found"]})
    command = f"zoo tune-defaults {'--stage ' if log['by'] == 'loss' else ''}{log['algorithm']}"
    searched = "; ".join(f"`{key}` {_words(values)}" for key, values in log["space"].items())
    yield f"`{command}` searched {searched}."
    what = "loss on unseen rows, in nats" if log["by"] == "loss" else "gold of dev answers above `start`"
    rounds = (
        f"{len(log['points']) - 1} points on {first['found'][0]['world']}, then the best and the defaults before on "
        f"{', '.join(worlds)} with {seeds} seed{'s' if seeds > 1 else ''} each"
    )
    yield f"{rounds}. Means of {what}:"
    yield ""
    yield f"| point | {' | '.join(f'`{key}`' for key in log['space'])} | first round | second round |"
    yield "|---|" + "---|" * (len(log["space"]) + 2)
    means = [_means(one["found"], log["by"]) for one in (first, second)]
    sign = 1 if log["by"] == "loss" else -1
    for row in sorted(means[1], key=lambda row: sign * (means[1][row] or 0)):
        settings = " | ".join(f"`{value!r}`" for value in log["points"][row].values())
        bold = f"**{row}**" if row == log["winner"]["row"] else row
        yield f"| {bold} | {settings} | {_shown(means[0][row], log)} | {_shown(means[1][row], log)} |"
    yield ""
    yield from _remarks(log)


def _remarks(log: Log) -> Iterator[str]:
    found, none_is_left = log["rounds"][1]["found"], all_miss(log["rounds"][1]["found"], log["by"])
    if none_is_left:
        yield "All that were tried missed their own objective somewhere; the defaults that were there stay."
    elif log["winner"]["row"] == "defaults":
        yield "No point was better than the defaults that were there, which stay."
    elif log["by"] == "gold":
        yield _gained(log)
    means = [mean for mean in _means(found, log["by"]).values() if mean is not None]
    least = max(values := worth(found, log["by"]), key=lambda row: values[row] or -math.inf)
    if log["by"] == "loss" and log["winner"]["row"] != least:
        yield f"{least} has the least loss; {log['winner']['row']} is as good within a standard error."
    if log["by"] == "gold" and max(means) <= 0:
        yield "None that was tried with the whole budget takes gold above that of `start`: tuning does not help here."
    if log["beat_sft"] is not None:
        yield f"{log['beat_sft']} of {len(log['points']) - 1} points ended above `sft` in the first round."
    if log["winner"]["at_edge"]:
        edges = ", ".join(f"`{name}`" for name in log["winner"]["at_edge"])
        yield f"At the edge of its space: {edges}."
    if not none_is_left and (missing := sorted(missing_their_objective(found))):
        yield f"Not chosen, whatever their gold: {', '.join(missing)}. Somewhere they missed their own objective."
    if log["winner_by_proxy"] and log["winner_by_proxy"]["row"] != log["winner"]["row"]:
        yield f"By proxy {log['winner_by_proxy']['row']} would be chosen."


def _gained(log: Log) -> str:
    """Say how far the winner is above the defaults before, on the same worlds and seeds, and how sure that is."""
    winner = log["winner"]["row"]
    gains = summarize(differences(log["rounds"][1]["found"], winner, "defaults", "gold"))
    if gains["low"] is None:
        return f"Too few runs of the defaults before ended to say how far {winner} is above them."
    low, mean, high = (number(gains[name], 3, signed=True) for name in ("low", "mean", "high"))
    sure = "" if gains["low"] > 0 else ": the two are not told apart"
    return f"{winner} is above the defaults before by {mean} [{low}, {high}] over {gains['n']} runs{sure}."


def _means(found: Sequence[Tried], by: By) -> dict[str, float | None]:
    """By row: the mean over worlds and seeds, as it was measured; None if one of them failed."""
    values = worth(found, by)  # the more the better
    return {row: -value if by == "loss" and value is not None else value for row, value in values.items()}


def _shown(value: float | None, log: Log) -> str:
    return "failed" if value is None else number(value, 3, signed=log["by"] != "loss")


def _words(values: Mapping[str, Any]) -> str:
    if "values" in values:
        return f"({', '.join(map(str, values['values']))})"
    return f"({values['low']:g} to {values['high']:g}{', log' if values['log'] else ''})"


def with_section(text: str, found: Mapping[str, Log]) -> str:
    """Return a README with the section on its plugin's searches, before its results."""
    new = "\n".join(section(found))
    if BEGIN in text:
        return text[: text.index(HEADING)] + new + text[text.index(END) + len(END) :]
    place = text.index("\n## Result\n") if "\n## Result\n" in text else len(text)
    return text[:place].rstrip("\n") + "\n\n" + new + "\n" + text[place:]


def updated(plugin: Path, text: str) -> str:
    """Return the README of a plugin with what its logs say; as it is where there are none."""
    found = logs(plugin)
    if not found:
        return text
    text = with_section(text, found)
    for record in plugins().algorithms.values():
        if folder(record) == plugin:
            text = with_values(text, record, found.get(record.name) or found.get(f"stage {record.name}"))
    return text


def main() -> None:
    """Write all of them."""
    for plugin in sorted(ROOT.glob("plugins/*")):
        readme = plugin / "README.md"
        if readme.is_file():
            readme.write_text(updated(plugin, readme.read_text()))


if __name__ == "__main__":
    main()
