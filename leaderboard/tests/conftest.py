"""Hand-made plans and records, and a browser that opens their pages."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from zoo_leaderboard.page import page

Make = Callable[..., dict[str, Any]]
Open = Callable[..., Page]

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture
def make_bench() -> Make:
    def make(**changes: Any) -> dict[str, Any]:
        bench = {
            "schema_version": 1,
            "bench_id": "b0",
            "name": "test bench",
            "preset": "quick",
            "spec": {},
            "flops_budget": 1e12,
            "seeds": 3,
            "base": {"ref": "world:base", "sha256": "ab" * 32, "parameters": 800_000},
            "tasks": ["facts"],
            "algorithms": [],
            "command": "zoo bench --preset quick",
        }
        return bench | changes

    return make


@pytest.fixture
def make_record() -> Make:
    """Return a record; keyword arguments replace keys of the record or of its scores."""

    def make(row: str, seed: int = 0, *, facts: float | None = None, **changes: Any) -> dict[str, Any]:
        scores = {
            "gold": 0.5,
            "gold_best": 1.0,
            "proxy": 0.1,
            "kl_start": 2.0,
            "kl_start_per_token": 0.1,
            "win_start": 0.6,
            "length": 20.0,
            "ended": 0.9,
            "distinct": 0.5,
            "temperature": 0.5,
            "flops_per_query": 1e8,
            "pair_accuracy": {},
            "by_temperature": {
                "0": {"gold": 0.4, "proxy": 0.1, "length": 19.0, "ended": 1.0},
                "0.5": {"gold": 0.45, "proxy": 0.05, "length": 20.0, "ended": 0.9},
            },
            "tasks": {},
            "parts": {"tone": 0.9},
        }
        if facts is not None:
            scores["tasks"] = {"facts": {"score": facts, "stderr": 0.02, "chance": 0.25, "n": 200}}
        scores |= {key: changes.pop(key) for key in list(changes) if key in scores or key == "identical"}
        reference = row in ("base", "start")
        record = {
            "schema_version": 1,
            "bench_id": "b0",
            "cell_id": f"{row}-{seed}",
            "row": row,
            "kind": "reference" if reference else "algorithm",
            "algorithm": {"base": None, "start": "tune"}.get(row, row),
            "plugin": None if reference else f"zoo-{row}",
            "plugin_version": None if reference else "0.1.0",
            "paper": None if reference else "2203.02155",
            "settings": {},
            "tuning": None if reference else "default",
            "learns_from": [] if reference else ["prompts", "reward"],
            "starts_from": None if reference else "base",
            "reward": None if reference else "preferences",
            "stops_early": "",
            "seed": seed,
            "attempt": 1,
            "status": "ok",
            "error": None,
            "flags": [],
            "stages": [],
            "flops_budget": 1e12,
            "flops_used": 0.99e12,
            "flops_by_role_phase": {"policy/train": 0.6e12, "policy/sample": 0.39e12},
            "audit_ratio": 1.0,
            "labels": {"demonstrations": 2000, "preferences": 500},
            "judge_calls": 0,
            "generated_tokens": 100_000,
            "reward_queries": 5000,
            "optimizer_steps": 100,
            "updates": 100,
            "wall_seconds": 60.0,
            "peak_memory_bytes": 700_000_000,
            "models_resident": 4.0,
            "parameter_bytes": 10_000_000,
            "training_bytes": 25_000_000,
            "weights_sha256": f"{seed:02x}" * 32,
            "scores": scores,
            "items": [{"prompt": "say hi", "response": "hi", "gold": 0.5, "proxy": 0.1, "gold_start": 0.2}],
            "curve": [],
            "environment": {"torch": "2.13.0"},
        }
        record |= changes
        if record["status"] == "failed":
            record |= {"scores": None, "weights_sha256": None, "items": []}
        return record

    return make


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Open]:
    """Open the page of a board from a file; at the end nothing may have been said, asked for or run."""
    contexts: list[BrowserContext] = []
    said: list[str] = []

    def open_page(board: dict[str, Any], address: str = "", width: int = 1400, **context: Any) -> Page:
        path = tmp_path / "page.html"
        path.write_text(page(board))
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **context))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: said.append(request.url))
        tab.on("dialog", lambda dialog: said.append(dialog.message))
        tab.goto(path.as_uri() + address)
        said.remove(path.as_uri())
        return tab

    yield open_page
    for one in contexts:
        one.close()
    assert {*said} <= {(tmp_path / "page.html").as_uri()}  # the page may ask for itself alone
