"""What stands on the screen of a running bench: it fits, figures are whole, and what ended scrolls away."""

import io
import json
import re

import pytest
from rich.cells import cell_len
from rich.console import Console
from zoo_harness.eta import Expected, TimeLeft
from zoo_harness.job import Job, Outcome
from zoo_harness.live import LiveScreen

NAMES = ["sft", "dpo beta=0.123456789 learning_rate=1.25e-05", "dpo beta=0.123456789 learning_rate=3.75e-05", "文" * 40]


def jobs_of(folder, count, kind="train"):
    return [
        Job(
            kind=kind,
            title=NAMES[place % len(NAMES)],
            row=NAMES[place % len(NAMES)],
            seed=place,
            directory=folder / str(place),
            identity=str(place),
        )
        for place in range(count)
    ]


def progress(job, **values):
    job.directory.mkdir(parents=True, exist_ok=True)
    job.progress_file.write_text(json.dumps(values))


def screen_of(jobs, width, height=24, terminal=True, workers=2):
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=terminal, color_system=None)
    screen = LiveScreen(console)
    screen.jobs = len(jobs)
    screen.left = TimeLeft({job.identity: Expected(job.kind, 60.0) for job in jobs}, workers)
    return screen


def printed(screen):
    return screen.console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("running", [1, 2, 40])
def test_the_lines_of_40_jobs_fit_24_lines_and_no_number_is_cut(tmp_path, width, running):
    jobs = jobs_of(tmp_path, 40)
    screen = screen_of(jobs, width)
    for job in jobs:
        metrics = {"loss": 0.1234567, "reward_of_a_long_name": -12345.678}
        progress(job, flops=3.5e18, budget=1e19, updates=123456, metrics=metrics)
    screen.watch(jobs[:running])
    lines = screen.lines()
    assert len(lines) <= 23
    assert max(map(cell_len, lines)) <= width
    assert lines[0].startswith(f"0/40 jobs done, {running} running, ")
    assert lines[0].endswith("left")
    shown = lines[1 : 1 + min(running, 21)]
    assert all(re.search(r"seed \d+ +training +35%", line) for line in shown)
    assert not any(line.endswith(("…", "...")) for line in lines)
    whole = {"123456 updates", "loss 0.123", "reward_of_a_long_name -1.23e+04"}
    for line in shown:
        assert set(re.split(r"  +", line.strip())[4:]) <= whole
        assert width < 80 or "123456 updates" in line
    assert (lines[-1] == f"  and {running - 21} more") == (running > 21)


def test_rows_that_differ_by_their_ends_can_be_told_apart(tmp_path):
    jobs = jobs_of(tmp_path, 3)
    screen = screen_of(jobs, 60)
    screen.watch(jobs)
    _, _, one, other = screen.lines()
    assert one.split("seed")[0] != other.split("seed")[0]


@pytest.mark.parametrize("width", [60, 80, 140])
def test_what_ended_scrolls_away_as_one_line_each(tmp_path, width):
    jobs = jobs_of(tmp_path, 40)
    screen = screen_of(jobs, width)
    with screen:
        for job in jobs:
            progress(job, flops=1, budget=1, updates=7, metrics={"loss": 0.1234567, "reward": 2.0, "third": 3.0})
            screen.watch([job])
            screen.finished(job, Outcome(status="ok"))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", printed(screen)).replace("\r", "\n")
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert "…" not in "".join(line for line in text.splitlines() if "trained" in line)
    assert len(re.findall(r"^sft seed \d+: trained  loss 0\.123  reward 2  0 s *$", text, re.MULTILINE)) == 10
    assert "third" not in text
    assert re.search(r"^40/40 jobs done in 0:\d\d", text, re.MULTILINE)


def test_a_pipe_gets_a_line_for_each_job_with_the_count_and_the_time_left(tmp_path):
    jobs = jobs_of(tmp_path, 3)
    screen = screen_of(jobs, 40, terminal=False, workers=1)
    with screen:
        screen.finished(jobs[0], Outcome(status="ok"))
        screen.finished(jobs[1], Outcome(status="failed", error="loss is NaN\nTraceback"))
        screen.finished(jobs[2], Outcome(status="ok"))
    one, two, three = printed(screen).splitlines()
    assert re.fullmatch(r"0:\d\d  1/3  sft seed 0: trained  about 2 min left", one)
    assert re.fullmatch(rf"0:\d\d  2/3  {re.escape(NAMES[1])} seed 1: failed  loss is NaN  about 1 min left", two)
    assert re.fullmatch(rf"0:\d\d  3/3  {re.escape(NAMES[2])} seed 2: trained", three)


def test_an_error_is_told_once(tmp_path):
    jobs = jobs_of(tmp_path, 2)
    screen = screen_of(jobs, 80, terminal=False)
    for job in jobs:
        screen.finished(job, Outcome(status="user-error", error="no such file"))
    assert printed(screen).count("no such file") == 1
    assert "failed  by the same error" in printed(screen)


def test_the_share_of_a_row_is_of_its_own_updates_and_what_was_done_before_sets_no_rate(tmp_path):
    job, other = jobs_of(tmp_path, 2)
    screen = screen_of([job, other], 80, workers=1)
    progress(job, flops=60, budget=100, before=20)
    screen.watch([job])
    assert screen.running[0].share == pytest.approx(0.5)
    assert screen.left.seconds({"0": screen.running[0].way()}) == pytest.approx(90, abs=1)
    screen.running[0].began -= 30  # half of a minute for the second half
    screen.finished(job, Outcome(status="ok"))
    assert screen.left.seconds() == pytest.approx(60, abs=1)


def test_scoring_says_what_it_does(tmp_path):
    (job,) = jobs_of(tmp_path, 1, kind="score")
    screen = screen_of([job], 80)
    progress(job, doing="lm-eval tasks", time=0.0)
    screen.watch([job])
    assert screen.lines()[1].endswith("scoring  lm-eval tasks")
