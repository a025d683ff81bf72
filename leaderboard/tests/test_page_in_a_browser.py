"""The page in Chromium: what a reader sees, clicks and prints, under the page's own policy, from a file."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from zoo_leaderboard.board import build
from zoo_leaderboard.page import page

Make = Callable[..., dict[str, Any]]
Open = Callable[..., Page]

HOSTILE = '<img src=x onerror="document.title=1">'
TURNED = "\u202egnp.exe\u2066"


@pytest.fixture
def hostile(make_bench: Make, make_record: Make) -> dict[str, Any]:
    """A board whose texts try to be more than text."""
    golds = {"start": 0.5, "low": 0.6, HOSTILE: 0.8, "mid": 0.7, TURNED: 0.65}
    records = [make_record(r, s, gold=g, facts=0.5) for r, g in golds.items() for s in range(5)]
    records += [make_record("bad", s, status="failed", error="</script><b>x</b>") for s in range(5)]
    item = {"prompt": "<script>document.title=2</script>", "response": HOSTILE * 300, "gold": None, "proxy": None}
    for record in records:
        if record["row"] == "low":
            record["paper"] = "javascript:alert(1)"
            record["settings"] = {"=1+1": "javascript:alert(1)", "kl": float("nan")}
        if record["row"] == HOSTILE:
            record["items"] = [item | {"gold_start": None}]
            record["plugin"] = HOSTILE
    return build(make_bench(seeds=5, name=HOSTILE), records)


@pytest.fixture
def twenty(make_bench: Make, make_record: Make) -> dict[str, Any]:
    """A board as large as one gets: twenty algorithms, ten seeds, curves, tasks, answers of a hundred words."""
    tasks = {f"task{i}": {"score": 0.5, "stderr": 0.1, "chance": 0.25, "n": 200} for i in range(6)}
    answer = "word " * 100
    curve = [
        {"fraction": f, "flops": f * 1e12, "gold": 0.5, "proxy": 0.1, "kl_start": 4 * f, "length": 9.0}
        for f in (0.25, 0.5, 0.75)
    ]
    records = [
        make_record(
            row, seed, gold=0.4 + 0.01 * index + 0.003 * ((7 * seed + 3 * index) % 10), kl_start=1.0 + 0.01 * index,
            tasks=tasks, curve=curve,
            items=[
                {"prompt": f"{n} {answer}", "response": f"{row} {answer}", "gold": 0.5, "proxy": 0.1, "gold_start": 0.4}
                for n in range(40)
            ],
        )
        for index, row in enumerate(["start", *(f"algorithm-{i}" for i in range(20))])
        for seed in range(10)
    ]  # fmt: skip
    return build(make_bench(seeds=10), records)


def names(tab: Page) -> list[str]:
    """Return the names in the main table, from top to bottom, that are shown."""
    return [line.inner_text() for line in tab.locator("#ranks a.run").all() if line.is_visible()]


def test_hostile_texts_are_shown_as_text_and_run_nothing(opened: Open, hostile: dict[str, Any]) -> None:
    tab = opened(hostile, "#run=bad")
    assert names(tab) == [HOSTILE, "mid", "gnp.exe", "low", "bad", "start"]
    assert tab.title() == f"{HOSTILE} · RLHF Zoo"
    assert tab.locator("h1").inner_text() == HOSTILE
    assert tab.get_by_text("Seed 0 failed: </script><b>x</b>").is_visible()
    for summary in tab.locator("details.one-run summary").all():
        summary.click()
    assert tab.locator("main img, main b, main script").count() == 0
    links = {link.get_attribute("href") for link in tab.locator("a").all()}
    assert {link for link in links if not link.startswith("#")} <= {"https://arxiv.org/abs/2203.02155"}
    for prompt in ("Compare", "with"):
        tab.get_by_label(prompt, exact=True).select_option(HOSTILE)
    assert tab.title() == f"{HOSTILE} · RLHF Zoo"
    assert "more characters" in tab.locator("#pair").inner_text()


def test_a_text_of_ten_megabytes_is_cut_and_said_to_be(opened: Open, make_bench: Make, make_record: Make) -> None:
    item = {"prompt": "p", "response": "x" * 10_000_000, "gold": 0.5, "proxy": 0.5, "gold_start": 0.5}
    board = build(make_bench(seeds=1), [make_record("start", items=[item]), make_record("ppo", items=[item])])
    assert len(page(board)) < 1_000_000
    assert "(9998000 more characters)" in opened(board).locator("#pair").inner_text()


def test_without_a_script_the_answer_the_notes_and_the_table_are_there(
    browser: Browser, hostile: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(page(hostile))
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto((tmp_path / "page.html").as_uri())
    assert names(tab)[0] == HOSTILE
    assert tab.get_by_text(hostile["answer"][0]).is_visible()
    assert tab.get_by_text(hostile["conditional_notes"][0]).is_visible()
    context.close()


def test_a_click_sorts_within_blocks_a_second_turns_the_order_and_a_link_keeps_it(
    opened: Open, hostile: dict[str, Any]
) -> None:
    tab = opened(hostile)
    ranked, last = names(tab)[:4], names(tab)[4:]
    gold = tab.get_by_role("button", name="Gold", exact=True)
    gold.click()
    assert names(tab) == [*ranked, *last]
    gold.press("Enter")
    assert names(tab) == [*reversed(ranked), *last]
    assert tab.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    linked = opened(hostile, "#" + tab.url.partition("#")[2])
    assert names(linked) == [*reversed(ranked), *last]


def test_rows_are_found_by_name_and_by_what_they_need(opened: Open, make_bench: Make, make_record: Make) -> None:
    needs = {"ppo": ["prompts", "reward"], "sft": ["demonstrations"], "start": []}
    records = [make_record(row, seed, learns_from=learns) for row, learns in needs.items() for seed in range(3)]
    tab = opened(build(make_bench(), records))
    tab.get_by_label("Show").select_option("no-reward")
    assert names(tab) == ["sft", "start"]
    tab.get_by_label("Find").fill("zoo-SFT")
    assert names(tab) == ["sft"]


def test_two_rows_stand_side_by_side_with_the_better_answer_marked(
    opened: Open, make_bench: Make, make_record: Make
) -> None:
    def items(golds: list[float], text: str) -> list[dict[str, Any]]:
        return [
            {"prompt": f"p{n}", "response": f"{text}{n}", "gold": gold, "proxy": 0.0, "gold_start": 0.5}
            for n, gold in enumerate(golds)
        ]

    golds = {"start": [0.5, 0.5, 0.5], "dpo": [0.9, 0.1, 0.5], "ppo": [0.2, 0.1, 0.9]}
    records = [make_record(row, s, items=items(by, row)) for row, by in golds.items() for s in range(3)]
    tab = opened(build(make_bench(), records), "#a=dpo&b=ppo")
    shown = tab.locator("#pair")
    assert "On 9 test prompts of all seeds" in shown.inner_text()
    assert [one.inner_text().splitlines()[0] for one in shown.locator(".better").all()] == ["dpo", "ppo"]
    tab.get_by_label("on", exact=True).select_option("a")
    assert shown.locator(".asked").all_inner_texts() == ["p0"]
    assert "show=a" in tab.url


def test_who_wins_at_which_budget_is_drawn_for_each_price_of_a_token(
    opened: Open, make_bench: Make, make_record: Make
) -> None:
    records = [make_record("start", seed, gold=0.5) for seed in range(5)]
    for row, golds in {"dpo": {1: 0.7, 4: 0.72}, "ppo": {1: 0.6, 4: 0.9}}.items():
        for share, gold in golds.items():
            own = {} if share == 1 else {"budget_share": share, "at_share_of": row}
            records += [
                make_record(
                    row if share == 1 else f"{row}-{share}x",
                    seed,
                    gold=gold + 0.002 * seed,
                    flops_budget=share * 1e12,
                    flops_used=share * 1e12,
                    **own,
                )
                for seed in range(5)
            ]
    board = build(make_bench(seeds=5), records)
    tab = opened(board)
    shown = tab.locator("#budgets")
    shown.locator("svg.plot").wait_for()
    assert "dpo is above ppo; from there on it is the other way round" in shown.inner_text()
    (change,) = board["budgets"]["changes"]
    assert change in tab.locator("section.answer").inner_text()
    before = shown.locator("li").inner_text()
    tab.get_by_label("A sampled token costs").select_option("20")
    shown.locator("svg.plot").wait_for()
    assert shown.locator("li").inner_text() != before
    assert "price=20" in tab.url


def test_a_page_of_twenty_algorithms_and_ten_seeds_is_light_and_no_labels_cover_each_other(
    opened: Open, twenty: dict[str, Any]
) -> None:
    assert len(page(twenty).encode()) < 3_000_000
    tab = opened(twenty)
    tab.locator("#frontier svg.plot").wait_for()
    labels = [one for one in tab.locator("#frontier svg text").all() if "algorithm" in one.inner_html()]
    boxes = [box for one in labels if (box := one.bounding_box())]
    assert len(boxes) == 20
    tops = sorted(box["y"] for box in boxes)
    assert all(lower - upper >= 13 for upper, lower in pairwise(tops))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_axe_finds_nothing_serious(opened: Open, make_bench: Make, make_record: Make, width: int, scheme: str) -> None:
    rows = {"start": 0.5, "sft": 0.55, "dpo": 0.8, "ppo": 0.7}
    curve = [{"fraction": 0.5, "flops": 5e11, "gold": 0.5, "proxy": 0.1, "kl_start": 1.0, "length": 9.0}]
    records = [
        make_record(row, seed, gold=gold + 0.01 * seed, facts=0.6, curve=curve)
        for row, gold in rows.items()
        for seed in range(5)
    ]
    tab = opened(build(make_bench(seeds=5), records), "#run=dpo", width, color_scheme=scheme)
    tab.locator("#frontier svg.plot").wait_for()
    bad = [
        f"{one['id']}: {node['html'][:150]}"
        for one in Axe().run(tab).response["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert bad == []


def test_a_phone_shows_rank_name_and_interval_without_scrolling(opened: Open, hostile: dict[str, Any]) -> None:
    tab = opened(hostile, width=390)
    table = tab.locator("#ranks").bounding_box()
    assert table
    assert table["width"] <= 390
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    heads = [head.inner_text() for head in tab.locator("#ranks thead th").all() if head.is_visible()]
    assert heads == ["Rank", "Algorithm", "Headroom gained", "95 % interval"]
    tab.get_by_role("button", name="All columns").click()
    assert tab.locator("#ranks thead th").last.is_visible()


@pytest.mark.parametrize("width", [1400, 390])
def test_the_table_fits_and_a_flag_is_seen_where_a_row_has_one(
    opened: Open, make_bench: Make, make_record: Make, width: int
) -> None:
    flag = "the last update was discarded: it would have passed the budget"
    records = [
        make_record(row, seed, gold=0.5 + 0.1 * place, flags=[flag] if row == "reinforce-pp-baseline" else [])
        for place, row in enumerate(("start", "sft", "dpo", "reinforce-pp-baseline"))
        for seed in range(3)
    ]
    tab = opened(build(make_bench(), records), width=width)
    table = tab.locator("#ranks").bounding_box()
    assert table
    assert table["width"] <= width
    (chip,) = tab.locator("#ranks .chip").all()
    box = chip.bounding_box()
    assert box
    assert chip.inner_text() == flag
    assert 0 <= box["x"] < box["x"] + box["width"] <= width


def test_the_same_board_makes_the_same_bytes(hostile: dict[str, Any]) -> None:
    assert page(hostile) == page(json.loads(json.dumps(hostile)))
    assert HOSTILE not in page(hostile)
