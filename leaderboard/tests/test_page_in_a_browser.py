"""The page in headless Chromium: the script runs under its own policy, and shows text as text."""

import html
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from zoo_leaderboard.board import build
from zoo_leaderboard.page import page

Make = Callable[..., dict[str, Any]]

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr",
)  # fmt: skip
HOSTILE = '<img src=x onerror="document.title=1">'

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")


@pytest.fixture
def rendered(make_bench: Make, make_record: Make, tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Return the DOM and the console of the page of a hostile board, after optional further script."""

    def render(then: str = "") -> tuple[str, str]:
        golds = {"start": 0.5, "low": 0.6, HOSTILE: 0.8, "mid": 0.7}
        records = [make_record(r, s, gold=g, facts=0.5) for r, g in golds.items() for s in range(5)]
        records += [make_record("bad", s, status="failed", error="</script><b>x</b>") for s in range(5)]
        for record in records:
            if record["row"] == "low":
                record["paper"] = "javascript:alert(1)"
        text = page(build(make_bench(seeds=5, name=HOSTILE), records))
        path = tmp_path / "page.html"
        if then:  # what is added must be let run: the policy is taken off for these tests only
            text = re.sub(r'<meta http-equiv="Content.*?>', "", text).replace(
                "</body>", f"<script>{then}</script></body>"
            )
        path.write_text(text)
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)

    return render


def cells(dom: str) -> list[str]:
    """Return the names in the main table, from top to bottom."""
    table = dom.split('id="ranks"')[1].split("</table>")[0]
    return [html.unescape(name) for name in re.findall(r'<a href="#row-\d+">(.*?)</a>', table)]


def sorted_by(dom: str) -> list[str]:
    """Return the order of each column that says that it is sorted."""
    return re.findall(r'aria-sort="(\w+)"', dom.split('id="ranks"')[1])


def test_the_page_draws_itself_under_its_policy_and_shows_hostile_names_as_text(
    rendered: Callable[..., tuple[str, str]],
) -> None:
    dom, console = rendered()
    assert console == ""
    assert cells(dom) == [HOSTILE, "mid", "low", "bad", "start"]
    assert "<img" not in dom.split('id="board"')[0]
    assert html.escape(HOSTILE, quote=False) in dom
    assert "Seed 0 failed: &lt;/script&gt;&lt;b&gt;x&lt;/b&gt;" in dom
    assert dom.index('class="notes"') < dom.index('id="ranks"')
    for title in ("Who differs from whom", "Reward against divergence", "What it cost", "Sample answers"):
        assert f"<h2>{title}</h2>" in dom
    assert set(re.findall(r'href="(?!#row-)(.*?)"', dom)) == {"https://arxiv.org/abs/2203.02155"}


def test_a_click_sorts_within_blocks_and_a_second_click_turns_the_order(
    rendered: Callable[..., tuple[str, str]],
) -> None:
    click = "[...document.querySelectorAll('#ranks th button')].find((b) => b.textContent === 'Gold').click();"
    dom, console = rendered(click)
    assert console == ""
    assert cells(dom) == [HOSTILE, "mid", "low", "bad", "start"]
    assert sorted_by(dom) == ["descending"]
    dom, _ = rendered(click * 2)
    assert cells(dom) == ["low", "mid", HOSTILE, "bad", "start"]
    assert sorted_by(dom) == ["ascending"]
