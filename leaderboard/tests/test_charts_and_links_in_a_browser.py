"""In Chromium: a row looks the same in all charts, their words have room, and an address keeps what is chosen."""

import re
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from zoo_leaderboard.board import build

Make = Callable[..., dict[str, Any]]
Open = Callable[..., Page]


@pytest.fixture
def thirteen(make_bench: Make, make_record: Make) -> dict[str, Any]:
    """A board with more rows than colours; two of them have no points on the way."""
    rows = ["start", *(f"algorithm-{i}" for i in range(13))]
    records = []
    for index, row in enumerate(rows):
        curve = [
            {"fraction": f, "flops": f * 1e12, "gold": 0.5 * f, "proxy": 0.1, "kl_start": 30 * f, "length": 9.0}
            for f in ((0.5, 1.0) if index > 1 else ())
        ]
        records += [
            make_record(row, seed, gold=0.9 - 0.02 * index + 0.001 * seed, kl_start=24.0 * index, curve=curve)
            for seed in range(3)
        ]
    return build(make_bench(), records)


def looks_of(tab: Page, chart: str) -> dict[str, tuple[str, bool]]:
    """Return by name the colour of the line that leads from it to its dot, and whether the dot is round."""
    looks = """(svg) => {
      const names = [...svg.querySelectorAll("text")].filter((one) => /^(start|algorithm-)/.test(one.textContent));
      const links = [...svg.querySelectorAll("g")].filter((one) => one.getAttribute("stroke-opacity") === "0.6");
      const dots = [...svg.querySelectorAll("path[transform][d]")].slice(-names.length);
      return names.map((one, i) => [
        one.textContent, [links.at(-1).children[i].getAttribute("stroke"), dots[i].getAttribute("d").includes("A")],
      ]);
    }"""
    plot = tab.locator(f"#{chart} svg.plot")
    plot.wait_for()
    return {name: (color, is_round) for name, (color, is_round) in plot.evaluate(looks)}


def test_a_row_has_one_colour_in_all_charts_and_no_two_look_alike(opened: Open, thirteen: dict[str, Any]) -> None:
    tab = opened(thirteen)
    frontier, anytime = looks_of(tab, "frontier"), looks_of(tab, "anytime")
    assert len(frontier) == 14
    assert len({*frontier.values()}) == 14
    assert len(anytime) == 12
    assert {name: color for name, (color, _) in anytime.items()} == {name: frontier[name][0] for name in anytime}


@pytest.mark.parametrize("chart", ["frontier", "anytime", "costs"])
def test_on_a_phone_no_words_of_an_axis_cover_each_other(opened: Open, thirteen: dict[str, Any], chart: str) -> None:
    tab = opened(thirteen, width=390)
    tab.locator(f"#{chart} svg.plot").wait_for()
    boxes = [one.bounding_box() for one in tab.locator(f"#{chart} svg text").all() if one.text_content()]
    for a, b in combinations([box for box in boxes if box], 2):
        apart_x = a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"]
        apart_y = a["y"] + a["height"] <= b["y"] + 4 or b["y"] + b["height"] <= a["y"] + 4
        assert apart_x or apart_y, (a, b)


def test_a_pasted_address_is_shown_and_no_later_choice_loses_it(opened: Open, thirteen: dict[str, Any]) -> None:
    tab = opened(thirteen)
    tab.evaluate("location.hash = '#sort=KL&order=ascending&a=algorithm-3&b=algorithm-5'")
    tab.locator("th[aria-sort=ascending]").wait_for()
    assert tab.locator("th[aria-sort]").inner_text() == "KL"
    tab.get_by_label("Compare", exact=True).select_option("algorithm-4")
    assert tab.url.partition("#")[2] == "sort=KL&order=ascending&a=algorithm-4&b=algorithm-5"


def test_a_run_that_was_closed_opens_again_and_the_address_says_what_is_open(
    opened: Open, thirteen: dict[str, Any]
) -> None:
    tab = opened(thirteen, "#sort=KL&order=ascending")
    first, second = (tab.locator(f"details[data-run=algorithm-{i}]") for i in (1, 2))
    for _ in range(2):
        tab.locator("#ranks a.run", has_text="algorithm-1").first.click()
        expect(tab).to_have_url(re.compile("&run=algorithm-1$"))
        assert first.get_attribute("open") is not None
        first.locator("summary").click()
        expect(tab).to_have_url(re.compile("#sort=KL&order=ascending$"))
    second.locator("summary").click()
    expect(tab).to_have_url(re.compile("run=algorithm-2$"))
    second.evaluate("one => { one.open = false; }")
    first.locator("summary").click()
    expect(tab).to_have_url(re.compile("run=algorithm-1$"))


def test_the_link_to_the_table_keeps_what_is_chosen(opened: Open, thirteen: dict[str, Any]) -> None:
    tab = opened(thirteen, "#sort=KL&order=ascending")
    tab.locator("a.skip").focus()
    tab.keyboard.press("Enter")
    expect(tab).to_have_url(re.compile("#sort=KL&order=ascending$"))


def test_a_run_shows_all_its_settings_and_which_were_set(opened: Open, make_bench: Make, make_record: Make) -> None:
    records = [
        make_record("dpo", seed, settings={"beta": 0.1}, all_settings={"rate": 1e-4, "beta": 0.1}, tuning="hand-set")
        for seed in range(3)
    ]
    tab = opened(build(make_bench(), records), "#run=dpo")
    shown = tab.locator("details.one-run dl", has_text="hand-set").last.inner_text().split()
    assert shown == ["beta", "0.1", "(hand-set)", "rate", "0.0001"]
