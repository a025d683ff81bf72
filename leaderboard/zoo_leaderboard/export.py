"""A board in the formats of others: Every Eval Ever, and the `model-index` of a Hugging Face model card.

Each row is a model: what its algorithm makes of the base. Scores are means over seeds, with the board's intervals.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

from zoo_leaderboard.statistics import LEVEL

EEE_VERSION = "0.3.0"
"""Version of the Every Eval Ever schema that is written."""
DEVELOPER = "rlhf-zoo"

Score = tuple[str, str, Mapping[str, Any], bool]
"""Name, description, the mean with its interval and n, and whether it is a share of 1."""


def every_eval_ever(board: Mapping[str, Any], version: str, retrieved: int) -> dict[str, dict[str, Any]]:
    """Return an evaluation log for each finished row, by its path in a repository of Every Eval Ever.

    `version` is that of the zoo, `retrieved` the time of the export in seconds since 1970, which the format asks for.
    """
    found = {}
    for row in _finished(board):
        model = f"{_part(board['name'])}-{_part(row['row'])}"
        digest = hashlib.sha256(f"{board['bench_id']} {row['row']}".encode()).digest()
        path = f"data/{DEVELOPER}/{DEVELOPER}/{model}/{UUID(bytes=digest[:16], version=4)}.json"
        found[path] = _log(board, row, model, version, retrieved)
    return found


def model_index(board: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return for each finished row what stands under `model-index` in the card of its model."""
    found = {}
    for row in _finished(board):
        results = [
            {
                "task": {"type": "text-generation"},
                "dataset": {"name": board["name"], "type": _part(board["name"]), "split": "test"},
                "metrics": [{"type": name, "name": words, "value": value["mean"]}],
            }
            for name, words, value, _ in _scores(board, row)
        ]
        found[row["row"]] = [{"name": f"{board['name']}: {row['row']}", "results": results}]
    return found


def _finished(board: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (row for row in board["rows"] if row["seeds_ok"])


def _scores(board: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[Score]:
    """Yield the scores of a row that are there."""
    every: list[Score] = [
        ("gold", "Gold score of test answers", row["gold"], False),
        ("proxy", "Reward that algorithms see, in standard deviations of start", row["proxy"], False),
        ("win_start", "Share of test prompts answered better than by start", row["win_start"], True),
        ("kl_start", "KL divergence from start, nats a response", row["kl_start"], False),
    ]
    if row["kind"] == "algorithm" and board["headline"] == "headroom":
        every.insert(0, ("headroom", "Share of start's headroom that was gained", row["headline"], False))
    every += [(f"task:{name}", f"lm-eval task {name}", task, True) for name, task in sorted(row["tasks"].items())]
    return (score for score in every if score[2]["mean"] is not None)


def _log(board: Mapping[str, Any], row: Mapping[str, Any], model: str, version: str, retrieved: int) -> dict[str, Any]:
    details = {
        "algorithm": row["algorithm"],
        "plugin": row["plugin"],
        "plugin_version": row["plugin_version"],
        "paper": row["paper"],
        "base": board["base"]["ref"],
        "base_sha256": board["base"]["sha256"],
        "flops_used": row["flops_used"],
        "settings_from": row["tuning"],
        "seeds": len(row["seeds"]),
    }
    return {
        "schema_version": EEE_VERSION,
        "evaluation_id": f"{DEVELOPER}/{DEVELOPER}/{model}/{retrieved}",
        "retrieved_timestamp": str(retrieved),
        "source_metadata": {
            "source_name": board["name"],
            "source_type": "evaluation_run",
            "source_organization_name": DEVELOPER,
            "evaluator_relationship": "other",
            "additional_details": {"bench_id": board["bench_id"]},
        },
        "eval_library": {"name": "rlhf-zoo", "version": version},
        "model_info": {
            "name": row["row"],
            "id": f"{DEVELOPER}/{model}",
            "additional_details": {key: str(value) for key, value in details.items() if value is not None}
            | {"deployment_type": "self_deployed", "model_availability": "unknown"},
        },
        "evaluation_results": [_result(board, *score) for score in _scores(board, row)],
    }


def _result(
    board: Mapping[str, Any], name: str, words: str, value: Mapping[str, Any], is_share: bool
) -> dict[str, Any]:
    bounds: dict[str, Any] = {"min_score": 0.0, "max_score": 1.0} if is_share else {}
    bounds = bounds or {"min_score": "-Infinity", "max_score": "Infinity"}
    score: dict[str, Any] = {"score": value["mean"]}
    if value["low"] is not None:
        interval = {"lower": value["low"], "upper": value["high"], "confidence_level": LEVEL, "method": "t over seeds"}
        score["uncertainty"] = {"confidence_interval": interval, "num_samples": value["n"]}
    return {
        "evaluation_name": words,
        "source_data": {"dataset_name": board["name"], "source_type": "other"},
        "metric_config": {
            "evaluation_description": words,
            "metric_id": f"{DEVELOPER}.{name}",
            "metric_name": words,
            "lower_is_better": name == "kl_start",
            "score_type": "continuous",
            **bounds,
        },
        "score_details": score,
    }


def _part(text: str) -> str:
    """Return text that can be one part of a path."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"
