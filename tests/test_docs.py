"""The pages that explain the project name files, functions and links that are there."""

import re
from pathlib import Path

import pytest
from rich.cells import cell_len

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("docs/hooks/*.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
    *sorted(ROOT.glob("examples/*/README.md")),
    *sorted(ROOT.glob("*/README.md")),
    ROOT / "tests/benchmarks/README.md",
    ROOT / "tests/parity/README.md",
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
ARCHITECTURE = ROOT / "docs" / "architecture.md"
WINGS = ("zoo_core", "harness/zoo_harness", "leaderboard/zoo_leaderboard")


def heading(line: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    words = re.sub(r"[^\w\s-]", "", line.lstrip("#").strip().lower())
    return re.sub(r"\s", "-", words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target in LINK.findall(page.read_text()):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(there.read_text()), f"{page}: {target}"


def anchors(text: str) -> set[str]:
    """Return the anchors of a page: those of its headings, not of comments in its code blocks."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return {heading(line) for line in prose.splitlines() if line.startswith("#")}


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_every_page_of_docs_is_one_click_from_the_readme(page):
    targets = {target.partition("#")[0] for target in LINK.findall((ROOT / "README.md").read_text())}
    assert str(page.relative_to(ROOT)) in targets


def test_the_map_names_every_file_once_and_no_other():
    folder, named = "", []
    for line in ARCHITECTURE.read_text().partition("## The rooms")[2].partition("## Where to add")[0].splitlines():
        if found := re.match(r"\| \*\*`([\w/]+)/`\*\* \|", line):
            folder = found[1]
        elif line.startswith("| `"):
            named += [f"{folder}/{name}" for name in re.findall(r"`([\w.]+/?)`", line.split("|")[1])]
    files = [str(file.relative_to(ROOT)) for wing in WINGS for file in (ROOT / wing).rglob("*.py")]
    assert sorted(name for name in named if name.endswith(".py")) == sorted(
        name for name in files if not name.endswith("__init__.py")
    )
    assert all((ROOT / name).exists() for name in named)


def test_the_functions_that_the_map_points_to_are_where_it_says():
    found = re.findall(r"`([A-Za-z_.]+)`[^|`]* (?:in|of) `([\w/]+\.py)`", ARCHITECTURE.read_text())
    assert len(found) >= 6
    for name, file in found:
        candidates = [ROOT / file, *ROOT.glob(f"*/*/{file}"), *ROOT.glob(f"*/{file}")]
        source = next(path for path in candidates if path.exists()).read_text()
        assert re.search(rf"(def|class) {name.rpartition('.')[2]}\b", source), (name, file)


def test_the_readme_quotes_the_example_as_it_is():
    example = ROOT / "examples" / "hello-plugin" / "zoo_hello"
    sources = [path.read_text() for path in example.glob("*.py")]
    section = (ROOT / "README.md").read_text().partition("## Write a plugin")[2]
    quoted = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(quoted) == 2
    for block in quoted:
        assert any(block in source for source in sources), block


SCREENS = ROOT / "docs" / "screens"
NUMBER = re.compile(r"[+-]?\d[\d,]*(\.\d+)?(e[+-]\d+)?(%|x|s|h|/\d+|(:\d\d)+)?[.,;:]*")
"""A number as screens write it, with its unit: 1.44e+17, 98%, 3/12, 1:04:59, 12,345."""
NAMES = re.compile(r"[0-9a-f]{12}|\d+x\d+")
"""What begins with a digit and is none: a hash."""


@pytest.mark.parametrize("size", ["80x24", "140x40"])
@pytest.mark.parametrize("moment", ["plan", "running", "ended"])
def test_screens_that_were_captured_fit_the_terminal_and_cut_no_number(moment: str, size: str) -> None:
    width, height = map(int, size.split("x"))
    text = (SCREENS / f"{moment}-{size}.txt").read_text()
    lines = text.splitlines()
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    assert "…" not in text
    words = [word for word in re.split(r"[\s()\[\]]+", text) if re.match(r"[+-]?\d", word)]
    assert len(words) > 10
    assert [word for word in words if not NUMBER.fullmatch(word) and not NAMES.fullmatch(word)] == []


def test_a_narrow_terminal_shows_what_runs_and_what_the_board_is_about() -> None:
    running, ended = ((SCREENS / f"{moment}-80x24.txt").read_text() for moment in ("running", "ended"))
    assert re.search(r"^\d+/\d+ jobs done, \d running, [\d:]+ so far, .* left$", running, re.MULTILINE)
    assert re.search(r"^  \w+ +seed \d+ +training", running, re.MULTILINE)
    head = next(line for line in ended.splitlines() if line.startswith("Rank"))
    assert {"Row", "Proxy", "KL", "Seconds"} <= set(head.split())
    assert "No room for" in ended
