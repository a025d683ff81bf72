"""One broken plugin never takes the others down, and listing them costs nothing."""

import os
import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint, distributions, entry_points

import pytest

from zoo_core.errors import DataError, PluginError, SpecError
from zoo_core.registry import plugins as registry
from zoo_core.registry.plugins import Plugins

CODE = """
    from dataclasses import dataclass
    from zoo_core.hookspecs import hookimpl
    from zoo_core.records import Algorithm, Task

    @dataclass(frozen=True)
    class Config:
        pass

    def train(config, run):
        yield {}

    OWN = {"config": f"{__name__}:Config", "train": f"{__name__}:train"}
"""
GOOD = (
    CODE
    + """
    @hookimpl
    def zoo_algorithms():
        return [Algorithm(name="good", summary="-", paper="-", learns_from=("prompts",), **OWN)]
"""
)
RECORD = """
    @hookimpl
    def zoo_algorithms():
        return [Algorithm(name="{name}", summary="-", paper="-", learns_from=(), {more}**OWN)]
"""
RULER = "    @hookimpl\n    def zoo_reward(ref):\n        return len if ref == '{ref}' else None\n"
WRAPPER = "    @hookimpl({kind}=True)\n    def {hook}({given}):\n        return (yield)\n"


@pytest.fixture
def found(tmp_path, monkeypatch):
    """Return a function that makes distributions of one plugin each and loads them as if they were installed."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_in_use", None)  # what the core's own answers load here is gone after the test

    def load(block=(), **sources):
        for name, source in sources.items():
            module = f"made_by_{name}_{tmp_path.name.replace('-', '_')}"
            (tmp_path / f"{module}.py").write_text(textwrap.dedent(source))
            info = tmp_path / f"zoo_made_{name}-1.2.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: zoo-made-{name}\nVersion: 1.2\n")
            # Two distributions may give their entry points one name: what stands before "__" counts.
            (info / "entry_points.txt").write_text(f"[zoo]\n{name.partition('__')[0]} = {module}\n")
        made = [entry for one in distributions(path=[str(tmp_path)]) for entry in one.entry_points]
        return Plugins([*made, *entry_points(group="zoo", name="zoo-core")], block)

    return load


def status(plugins, distribution):
    (plugin,) = [one for one in plugins.plugins if one.distribution == f"zoo-made-{distribution}"]
    return plugin.status, plugin.reason


def test_a_good_plugin_is_loaded_with_what_it_provides(found):
    plugins = found(good=GOOD)
    plugin, _ = plugins.plugins  # the other is the core's own
    assert (plugin.status, plugin.version, plugin.hooks, plugin.provides) == ("ok", "1.2", ["zoo_algorithms"], ["good"])
    assert plugins.owner("zoo_algorithms", "good") is plugin


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError"),
        (
            CODE + "    @hookimpl\n    def zoo_algorythms():\n        return []\n",
            "unknown hook 'zoo_algorythms'. Did you mean 'zoo_algorithms'?",
        ),
        (CODE + WRAPPER.format(kind="wrapper", hook="zoo_reward", given="ref"), "zoo_reward is marked as a wrapper"),
        (CODE + WRAPPER.format(kind="hookwrapper", hook="zoo_run_started", given="training"), "marked as a wrapper"),
        (CODE + "    @hookimpl\n    def zoo_reward(reference):\n        return None\n", "reference"),
        (CODE + RULER.format(ref="x") + "    @hookimpl\n    def zoo_tasks(more):\n        return []\n", "more"),
        (CODE + "    @hookimpl\n    def zoo_algorithms():\n        return 1 / 0\n", "ZeroDivisionError"),
        (
            CODE + "    @hookimpl\n    def zoo_algorithms():\n        return [{'name': 'x'}]\n",
            "must return Algorithm",
        ),
        (CODE + "    @hookimpl\n    def zoo_tasks():\n        return None\n", "NoneType"),
        (CODE + RECORD.format(name="../bad", more=""), "'../bad' must be lower case"),
        (CODE + RECORD.format(name="Bad", more=""), "'Bad' must be lower case"),
    ],
)
def test_a_broken_plugin_is_put_aside_with_its_reason_and_the_others_stay(found, source, reason):
    plugins = found(a_broken=source, good=GOOD, z_broken=source)
    assert sorted(plugins.algorithms) == ["good"]
    for name in ("a_broken", "z_broken"):
        state, why = status(plugins, name)
        assert state == "broken"
        assert reason in why
        assert "\n" not in why
    assert status(plugins, "good") == ("ok", "")
    assert plugins.first("zoo_rollout_engine", name="no such engine") is None  # the hooks can still be called


def test_a_broken_plugin_leaves_none_of_its_hooks_behind(found):
    plugins = found(bad=CODE + RULER.format(ref="mine") + "    @hookimpl\n    def zoo_nothing():\n        pass\n")
    assert [one.plugin_name for one in plugins.manager.hook.zoo_reward.get_hookimpls()] == ["zoo-core"]


def test_a_plugin_for_another_core_is_named_incompatible_with_the_remedy(found):
    plugins = found(new=CODE + RECORD.format(name="new", more="api_version=99, "), good=GOOD)
    state, why = status(plugins, "new")
    assert state == "incompatible"
    assert "plugin API 99, this core speaks 1; install a release of zoo-made-new" in why
    assert sorted(plugins.algorithms) == ["good"]


def test_of_two_entry_points_of_one_name_neither_is_loaded(found):
    plugins = found(same__a=GOOD, same__b=GOOD.replace('"good"', '"other"'), good=CODE)
    for one, other in (("a", "b"), ("b", "a")):
        state, why = status(plugins, f"same__{one}")
        assert state == "conflict"
        assert f"zoo-made-same__{other} also provides a plugin named 'same'; uninstall one of them" in why
    assert plugins.algorithms == {}
    with pytest.raises(PluginError, match="uninstall one of them"):
        plugins.algorithm("same")


def test_an_algorithm_that_two_or_three_plugins_claim_is_nobodys_and_the_losers_give_nothing(found):
    two = CODE + RECORD.format(name="first", more="").replace(
        "return [",
        "return [Algorithm(name='good', summary='-', paper='-', learns_from=(), **OWN), ",
    )
    sources = {"a": GOOD, "b": two.replace("name='good'", "name='own'").replace('"first"', '"good"'), "c": GOOD}
    plugins = found(**sources)
    for one, other in (("a", "b"), ("b", "a"), ("c", "a")):
        state, why = status(plugins, one)
        assert state == "conflict"
        assert f"'good' also is zoo-made-{other}'s" in why
    assert plugins.algorithms == {}
    with pytest.raises(PluginError, match=r"the algorithm 'good' cannot be used: .*uninstall one of them"):
        plugins.algorithm("good")


@pytest.mark.parametrize("others", [["a"], ["z"], ["a", "z"], ["a", "b"], ["y", "z"]])
def test_an_algorithm_belongs_to_the_entry_point_of_its_name(found, others):
    plugins = found(good=GOOD, **dict.fromkeys(others, GOOD))
    assert plugins.owner("zoo_algorithms", "good").distribution == "zoo-made-good"
    assert [status(plugins, one)[0] for one in others] == ["conflict"] * len(others)


def test_an_entry_point_that_can_be_no_module_is_told_and_neither_stops_others_nor_what_seals_gold(tmp_path):
    info = tmp_path / "odd-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[zoo.gold]\nodd = zoo-odd.plugin\n[zoo]\nmore =\n")
    code = (
        "from zoo_core.registry.plugins import plugins\n"
        "from zoo_core.registry.sealing import load_for_training, sealed_packages\n"
        "print(*sorted(one.fault for one in plugins().unusable), sep='\\n')\nload_for_training(sealed_packages())\n"
        "print(len(plugins().algorithms))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert "'odd' (odd 1.0) is not loaded: the entry point odd = 'zoo-odd.plugin' names no module" in lines[-2]
    assert int(lines[-1]) > 0


def test_a_blocked_plugin_is_not_imported(found):
    plugins = found(block=["bad"], bad="raise SystemExit(3)", good=GOOD)
    assert status(plugins, "bad") == ("blocked", "not wanted in this process")
    assert sorted(plugins.algorithms) == ["good"]


def test_an_unknown_algorithm_is_answered_with_the_nearest_known(found):
    with pytest.raises(SpecError, match="Did you mean 'good'"):
        found(good=GOOD).algorithm("god")


def test_the_first_plugin_that_answers_is_asked_before_the_core(found):
    plugins = found(ruler=CODE + RULER.format(ref="ruler"))
    assert plugins.first("zoo_reward", ref="ruler") is len


def test_a_hook_that_fails_names_its_plugin_and_its_own_errors_pass_unchanged(found):
    failing = "    @hookimpl\n    def zoo_reward(ref):\n        {}\n"
    with pytest.raises(PluginError, match=r"plugin 'bad' failed in zoo_reward.*ZeroDivisionError"):
        found(bad=CODE + failing.format("1 / 0")).first("zoo_reward", ref="x")


def test_a_plugin_that_trips_over_a_reference_does_not_stand_in_the_way_of_the_one_it_belongs_to(found, tmp_path):
    failing = "    @hookimpl\n    def zoo_load_model(ref):\n        raise KeyError(ref)\n"
    assert found(bad=CODE + failing).first("zoo_load_model", ref=str(tmp_path)) == tmp_path


def test_a_user_error_of_a_plugin_is_passed_on_as_it_is(found):
    failing = "    @hookimpl\n    def zoo_reward(ref):\n        raise DataError('row 3 is empty')\n"
    with pytest.raises(DataError, match=r"^row 3 is empty$"):
        found(bad=CODE + "    from zoo_core.errors import DataError\n" + failing).first("zoo_reward", ref="x")


def test_an_observer_that_fails_is_reported_and_stops_nobody(found):
    observer = "    @hookimpl\n    def zoo_run_updated(progress):\n        seen.append(progress)\n{}"
    plugins = found(
        a_bad=CODE + "    seen = []\n" + observer.format("        raise ValueError('no network')\n"),
        good=CODE + "    seen = []\n" + observer.format(""),
    )
    (line,) = plugins.observe("zoo_run_updated", training=None, progress=7)
    assert line == "observer 'a_bad' failed in zoo_run_updated: ValueError('no network')"
    assert plugins.manager.get_plugin("good").seen == [7]


def test_loading_an_entry_point_without_a_distribution_works():
    plugins = Plugins([EntryPoint("nothing", "no_such_module_at_all", "zoo")])
    assert [(one.distribution, one.status) for one in plugins.plugins] == [("?", "broken")]


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from zoo_core.registry.plugins import plugins; assert plugins().algorithms; "
        "print(*{'torch', 'transformers', 'numpy', 'pydantic', 'jaxtyping', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
