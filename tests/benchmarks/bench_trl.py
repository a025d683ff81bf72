"""One update of an algorithm beside TRL's, in turns, each in a process of its own.

Same model, texts, batches, precision and threads; see ours.py and theirs.py. Rows are ratios: theirs over ours for
time, ours over theirs for memory, of which there are two: the whole process, and what it held above its imports.
"""

from pathlib import Path

import pytest
from materials import BASE, PROMPT_TOKENS, REAL, SHORT_PROMPT_TOKENS, write_pairs
from measure import apart, spread
from ours import DRAWN

HERE = Path(__file__).parent
PARITY = HERE.parents[1] / ".parity"
TRL = {
    name: PARITY / f"trl-{'1.12' if name == 'ppo' else '1.16'}"
    for name in ("sft", "reward", "dpo", "dpo-cached", "grpo", "rloo", "ppo")
}
COMPARED = {name: (name, name) for name in TRL} | {
    "dpo-met": ("dpo", "dpo"),
    "dpo-cached": ("dpo", "dpo-cached"),
    "ppo-hydra": ("ppo-hydra", "ppo"),
}
"""Ours and theirs, by the name of a row."""
SAME = 0.02
"""By how much the tokens of two sides that read the same may differ: special tokens are written otherwise."""

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not beside this checkout")


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """Return the files of the pairs to learn from and of those whose prompts are sampled from."""
    folder = tmp_path_factory.mktemp("texts")
    write_pairs(folder / "pairs.jsonl", PROMPT_TOKENS)
    write_pairs(folder / "few.jsonl", PROMPT_TOKENS, 32)  # two updates, which are not timed, have met them all
    write_pairs(folder / "prompts.jsonl", SHORT_PROMPT_TOKENS)
    return folder


@pytest.mark.parametrize("row", COMPARED)
def test_one_update_beside_trl(row, texts, benchmark, record, repetitions, updates, threads):
    ours, theirs = COMPARED[row]
    python = TRL[theirs] / "bin" / "python"
    if not python.exists():
        pytest.skip(f"{python} is not there; `make parity` builds it")
    rows = texts / ("prompts.jsonl" if ours in DRAWN else "few.jsonl" if row == "dpo-met" else "pairs.jsonl")
    in_order = texts / f"{row}.jsonl"
    pairs = []

    def both():
        mine = apart(HERE / "ours.py", ours, rows, updates, threads=threads)
        lines = rows.read_text().splitlines()
        in_order.write_text("".join(f"{lines[place]}\n" for place in mine["order"]))
        pairs.append((mine, apart(HERE / "theirs.py", theirs, BASE, in_order, updates, python=python, threads=threads)))

    benchmark.pedantic(both, rounds=repetitions)

    (mine, other) = pairs[-1]
    if other["tokens"]:
        assert mine["tokens"] == pytest.approx(other["tokens"], rel=SAME)
    record(
        "trl",
        row,
        speed=spread([other["seconds"] / mine["seconds"] for mine, other in pairs]),
        speed_of_processors=spread([other["cpu_seconds"] / mine["cpu_seconds"] for mine, other in pairs]),
        memory=spread([mine["peak_bytes"] / other["peak_bytes"] for mine, other in pairs]),
        memory_above_imports=spread([above(mine) / above(other) for mine, other in pairs]),
        tokens={"ours": mine["tokens"], "trl": other["tokens"], "trl_padded": other["padded_tokens"]},
        length={"ours": mine["length"], "trl": other["length"]},
        trl=other["trl"],
    )


def above(found):
    """Return the bytes that a process held above its imports."""
    return found["peak_bytes"] - found["imported_bytes"]
