"""Every hook has a page that says what the code says, and an example that works."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zoo_core import hookspecs
from zoo_core.errors import DataError, ModelError, SpecError
from zoo_core.records import Finished, Progress, Training, load_path
from zoo_core.registry.plugins import load
from zoo_core.registry.uninstalled import VARIABLE, use_plugins
from zoo_core.reward import Sample
from zoo_core.run import Run
from zoo_core.testing.tiny import tiny_session

spec = importlib.util.spec_from_file_location("hooks", Path(__file__).parent / "hooks.py")
hooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hooks)
NAMES = list(hooks.hooks())


@pytest.fixture(scope="module")
def plugins():
    """The installed plugins and all examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "")
        use_plugins(sorted(hooks.EXAMPLES.glob("*.py")))
        yield load()


@pytest.fixture
def training(tmp_path):
    """A training that is watched."""
    return Training(
        name="dpo-seed0", row="dpo", stage="", seed=0, algorithm="dpo", settings={"beta": 0.1}, budget=1e9,
        identity="abc", directory=tmp_path, bench="made", output=tmp_path, tracker="lines",
    )  # fmt: skip


def progress(update, loss):
    return Progress(update=update, stage="", flops=10, share=0.1, metrics={"loss": loss})


def test_the_pages_are_those_of_the_hooks_and_of_no_others():
    assert [name for name in vars(hookspecs) if name.startswith("zoo_")] == NAMES
    assert sorted(path.stem for path in hooks.PAGES.glob("*.md")) == sorted(NAMES)
    assert sorted(hooks.EXAMPLES.glob("*.py")) == sorted(map(hooks.example_of, NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_what_the_code_says(name):
    written = (hooks.PAGES / f"{name}.md").read_text()
    assert written == hooks.page_of(hooks.hooks()[name]), "run python tests/hooks.py"


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_a_plugin_with_its_hook(plugins, name):
    (plugin,) = (one for one in plugins.plugins if one.path == str(hooks.example_of(name)))
    assert plugin.status == "ok", plugin.reason
    assert name in plugin.hooks
    assert plugin.notes == []


def test_the_algorithm_learns(plugins):
    algorithm = plugins.algorithm("imitate")
    session = tiny_session(algorithm.learns_from, budget=2e9)
    losses = [one["loss"] for one in algorithm.load_train()(algorithm.load_config()(learning_rate=1e-2), Run(session))]
    assert losses[-1] < losses[0] - 0.5


def test_the_task_is_one_of_lm_eval(plugins):
    from lm_eval.api.task import ConfigurableTask

    task = ConfigurableTask(config=load_path(plugins.tasks["colours"].config)())
    asked = list(task.test_docs())
    assert [task.doc_to_choice(row)[task.doc_to_target(row)] for row in asked] == ["red", "blue", "green", "white"]


def test_the_command_greets(plugins):
    done = CliRunner().invoke(load_path(plugins.commands["hello"].app), ["there", "--name", "zoo"])
    assert done.stdout == "hello, zoo\n"


def test_the_executor_runs_a_process_a_job(plugins, tmp_path):
    from zoo_harness.job import Job

    job = Job(
        kind="train", title="t", directory=tmp_path / "cell", identity="i", payload={"spec": {"name": "no such key"}}
    )
    job.directory.mkdir()
    ended = {}

    def finished(job, outcome):
        ended[job.title] = outcome

    run = load_path(plugins.executors["fresh"].run)
    run([job], finished, 1, lambda _: None, {"niceness": "1"}, tmp_path)
    assert ended["t"].status == "failed"
    assert "name" in ended["t"].error  # said by the process of the job, which looked at the spec
    assert "Traceback" in (job.directory / "log.txt").read_text()


def test_the_tracker_writes_what_an_update_yields(plugins, training):
    assert "lines" in plugins.trackers
    assert plugins.observe("zoo_run_updated", training=training, progress=progress(3, 0.5)) == []
    assert json.loads((training.output / "dpo-seed0.jsonl").read_text()) == {"update": 3, "loss": 0.5}


def test_the_models_of_the_shelf_are_found_or_missed_by_name(plugins, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_SHELF", str(tmp_path))
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "config.json").touch()
    assert plugins.first("zoo_load_model", ref="shelf:small") == tmp_path / "small"
    with pytest.raises(ModelError, match=r"no model in .*large"):
        plugins.first("zoo_load_model", ref="shelf:large")


def test_no_test_question_is_in_the_data_that_is_trained_on(plugins):
    asked = {
        kind: {row["prompt"] for row in plugins.first("zoo_load_dataset", ref="count:9", kind=kind, seed=0)}
        for kind in ("demonstrations", "prompts", "dev_prompts", "test_prompts")
    }
    assert len(asked["test_prompts"]) == 9
    assert not asked["test_prompts"] & (asked["demonstrations"] | asked["prompts"] | asked["dev_prompts"])
    with pytest.raises(DataError, match="write count:NUMBER"):
        plugins.first("zoo_load_dataset", ref="count:9", kind="preferences", seed=0)


def test_the_engine_samples_what_the_cores_own_samples_and_says_how_fast(plugins, capsys):
    def tokens(engine):
        session = tiny_session(("prompts",))
        session.engine = engine or session.engine
        run = Run(session)
        for update in run.updates():
            return run.sample(run.prompts.batch(update, 4), temperature=1.0).tokens

    timed = plugins.first("zoo_rollout_engine", name="timed")
    assert (tokens(timed) == tokens(None)).all()
    assert "tokens a second" in capsys.readouterr().out


def test_the_reward_is_its_rule(plugins):
    reward = plugins.first("zoo_reward", ref="brevity:2")
    samples = [Sample("p", "one two", True), Sample("p", "one two three", True), Sample("p", "one", False)]
    assert reward(samples) == [1.0, 0.0, 0.0]
    with pytest.raises(SpecError, match="write brevity:NUMBER"):
        plugins.first("zoo_reward", ref="brevity:few")


def test_the_judge_keeps_its_protocol(plugins):
    from zoo_core.judge import Judge

    judge = plugins.first("zoo_judge", ref="terse")
    assert isinstance(judge, Judge)
    assert judge.verdicts(["q", "q"], ["b", "a"]) == [[-1.0, 0.0]] * 2
    assert judge.write(["q"], 8, 1.0, 0)[0].text == "Be brief."


def test_the_observers_see_a_training_from_its_beginning_to_its_end(plugins, training, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MODEL_SHELF", str(tmp_path / "shelf"))
    training = dataclasses.replace(training, name="dpo-seed1")
    assert plugins.observe("zoo_run_started", training=training) == []
    for update, loss in enumerate((1.0, 1.5, 2.5)):
        assert plugins.observe("zoo_run_updated", training=training, progress=progress(update, loss)) == []
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "config.json").touch()
    ended = Finished(weights=tmp_path / "final", weights_sha256="0", updates=3, flops=30, ledger={})
    assert plugins.observe("zoo_run_finished", training=training, finished=ended) == []
    assert (tmp_path / "begun.txt").read_text() == "dpo-seed1: dpo {'beta': 0.1}\n"
    assert capsys.readouterr().out == "update 2: the loss has doubled to 2.5\n"
    assert (tmp_path / "shelf" / "dpo-seed1" / "config.json").exists()
