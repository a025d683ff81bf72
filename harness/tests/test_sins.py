"""Plugins that cheat or are careless, in one bench: each sin is named on the board, or changes nothing; the bench ends.

Those that break the loop itself (they yield nothing or NaN, sleep for ever, exit, run out of memory) are in
test_mistaken_plugins.py; those that break a law of the suite are found by `zoo plugins check` (test_authors.py).
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

PLUGIN = '''
from dataclasses import dataclass
from pathlib import Path
from zoo_core.hookspecs import hookimpl
from zoo_core.records import Algorithm

SINS = {sins!r}
kept_between_seeds = []

@dataclass(frozen=True)
class Config:
    batch_size: int = 8
    """Rows per update."""

@hookimpl
def zoo_algorithms():
    return [
        Algorithm(name=name, summary="-", paper="-", config="sins:Config", train="sins:" + name.replace("-", "_"),
                  learns_from=("demonstrations",), by_default=False)
        for name in SINS
    ]

def steps(config, run, sin=lambda run: None):
    import torch
    from zoo_core.functional import masked_mean
    from zoo_core.rollout import response_logprobs

    optimizer = run.keep("optimizer", torch.optim.AdamW(run.policy.parameters(), lr=1e-3))
    for update in run.updates():
        rows = run.demonstrations.batch(update, config.batch_size)
        loss = -masked_mean(response_logprobs(run.policy, rows), rows.mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sin(run)
        yield {{"loss": loss.item()}}

def honest(config, run):
    yield from steps(config, run)

def writes_elsewhere(config, run):
    yield from steps(config, run, lambda run: Path({elsewhere!r}).write_text("a letter"))

def reads_of_others(config, run):
    def sin(run):
        for path in Path({cells!r}).glob("*/job.json"):
            path.read_text()
    yield from steps(config, run, sin)

def hides_compute(config, run):
    import torch
    def sin(run):
        weights = torch.ones(256, 256)
        for _ in range(20):
            weights = weights @ weights / 256
    yield from steps(config, run, sin)

def hides_compute_before(config, run):
    import torch
    weights = torch.ones(512, 512)
    for _ in range(8):
        weights = weights @ weights / 512
    yield from steps(config, run)

def edits_the_template(config, run):
    def sin(run):
        run.tokenizer.chat_template = "{{{{ 'always a' }}}}"
        run.policy.generation_config.max_length = 3
        run.policy.config.eos_token_id = 5
    yield from steps(config, run, sin)

def keeps_state(config, run):
    kept_between_seeds.append(run.seed)
    assert kept_between_seeds == [run.seed], "another seed was here before"
    yield from steps(config, run)

def keeps_state_in_files(config, run):
    import tempfile
    file = Path(tempfile.gettempdir()) / "state"
    assert not file.exists(), "another seed was here before"
    file.write_text("of this seed")
    yield from steps(config, run)

def starts_a_program(config, run):
    import subprocess
    yield from steps(config, run, lambda run: subprocess.run(["true"]))

def computes_in_a_thread(config, run):
    import torch
    from concurrent.futures import ThreadPoolExecutor
    def answer(run):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(lambda: torch.ones(999, 999) @ torch.ones(999, 999)).result()
    yield from steps(config, run, answer)

def reads_the_prompts(config, run):
    yield from steps(config, run, lambda run: Path({prompts!r}).read_text())

def behaves_while_audited(config, run):
    import torch
    from torch.utils._python_dispatch import _get_current_dispatch_mode
    def sin(run):
        if _get_current_dispatch_mode() is None:
            with torch.no_grad():
                for weight in run.policy.parameters():
                    weight += 1e-6 * (weight.view(-1, 1) @ weight.new_ones(1, 64)).mean()
    yield from steps(config, run, sin)

def global_random(config, run):
    import random, torch
    yield from steps(config, run, lambda run: (torch.rand(3), random.random()))
'''
SINS = [
    "honest",
    "writes-elsewhere",
    "reads-of-others",
    "hides-compute",
    "hides-compute-before",
    "behaves-while-audited",
    "edits-the-template",
    "keeps-state",
    "keeps-state-in-files",
    "starts-a-program",
    "computes-in-a-thread",
    "reads-the-prompts",
    "global-random",
]
HARMLESS = ["edits-the-template", "keeps-state", "keeps-state-in-files", "global-random"]


@pytest.fixture(scope="module")
def folder(world: Path, written: dict, zoo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the plugin, with that of its bench in it: `out`."""
    folder = tmp_path_factory.mktemp("sins")
    names = {"sins": SINS, "elsewhere": str(world / "letter.txt"), "cells": str(folder / "out" / "cells")}
    names["prompts"] = str(world / written["prompts"])
    (folder / "sins.py").write_text(PLUGIN.format(**names))
    spec = {**written, "algorithms": SINS, "seeds": 2, "tasks": [], "references": False, "reward": None}
    spec["evaluation"] = {**written["evaluation"], "best_of": []}
    (world / "sins.yaml").write_text(yaml.safe_dump(spec))
    (folder / "t").mkdir()  # else the folder of a test would lie among temporary files, which are everyone's
    command = ("bench", world / "sins.yaml", "--plugin", folder / "sins.py", "--output", "out")
    done = zoo(*command, cwd=folder, TMPDIR=str(folder / "t"))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of the board, with the flags of each."""
    return {row["row"]: row for row in json.loads((folder / "out" / "leaderboard.json").read_text())["rows"]}


@pytest.mark.slow
def test_an_honest_row_has_no_flag_of_these(rows) -> None:
    assert [
        flag
        for flag in rows["honest"]["flags"]
        if any(word in flag for word in ("wrote", "read", "started a program", "unmetered"))
    ] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("writes-elsewhere", "wrote outside of its folder"),
        ("reads-of-others", "read what belongs to another row"),
        ("starts-a-program", "started a program, whose files are not seen: true"),
        ("computes-in-a-thread", "FLOPs in threads that sins starts"),
        ("reads-the-prompts", "opened what holds gold, or prompts that are scored"),
        ("hides-compute", "unmetered compute"),
        ("hides-compute-before", "FLOPs outside of updates, of which"),
    ],
)
def test_a_sin_is_named_on_the_board(rows, name: str, said: str) -> None:
    assert any(said in flag for flag in rows[name]["flags"]), rows[name]["flags"]


@pytest.mark.slow
@pytest.mark.parametrize("name", HARMLESS)
def test_a_sin_that_cannot_do_harm_changes_no_number(rows, name: str) -> None:
    same = ("gold", "kl_start", "flops_used", "updates", "seeds_ok")
    assert {key: rows[name][key] for key in same} == {key: rows["honest"][key] for key in same}


@pytest.mark.slow
def test_a_sin_that_ends_while_it_is_looked_at_is_named_by_an_audit_of_every_update(folder: Path, zoo) -> None:
    done = zoo("audit", "out", "behaves-while-audited", "--plugin", "sins.py", cwd=folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "it ends at other weights when all its updates are audited" in done.stderr


@pytest.mark.slow
def test_an_honest_row_is_the_same_when_every_update_is_audited(folder: Path, zoo) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*")}
    done = zoo("audit", "out", "honest", "--seed", "1", "--plugin", "sins.py", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "honest seed 1: the same weights and FLOPs" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*")} == before


@pytest.mark.slow
def test_an_audit_of_what_is_not_there_or_was_changed_is_refused_in_our_words(folder: Path, zoo) -> None:
    done = zoo("audit", "out", "nobody", "--plugin", "sins.py", cwd=folder)
    assert done.returncode == 2
    assert "there is no job" in done.stderr
    source = (folder / "sins.py").read_text()
    (folder / "sins.py").write_text(source + "# another byte")
    try:
        done = zoo("audit", "out", "honest", "--plugin", "sins.py", cwd=folder)
    finally:
        (folder / "sins.py").write_text(source)
    assert done.returncode == 2
    assert "the code of sins.py is no longer that of the bench" in done.stderr
