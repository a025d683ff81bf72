"""The laws of references, dials, hooks and the judge: what a training process may use of Tinytown."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from zoo_tinytown import plugin, rows
from zoo_tinytown.misreading import MisreadingJudge, misreadings
from zoo_tinytown.references import Dials, Reference, parse_reference

from zoo_core.errors import DataError, ModelError, SpecError
from zoo_core.judge import Written
from zoo_core.registry.references import load_judge, load_rows

HEAVY = ("torch", "numpy", "transformers", "datasets", "typer", "rich", "pydantic", "jaxtyping", "zoo_tinytown_gold")


def test_the_plugin_lists_itself_and_finds_a_base_without_importing_anything_heavy_or_gold() -> None:
    code = (
        f"import sys; sys.path[:0] = {sys.path}; import zoo_tinytown.plugin as p; p.zoo_load_model('tinytown:base');"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rows_are_read_without_importing_gold() -> None:
    code = (
        f"import sys; sys.path[:0] = {sys.path}; import zoo_tinytown.plugin as p;"
        "rows = p.zoo_load_dataset('tinytown:demonstrations', 'demonstrations', 0);"
        "print(len(rows), 'zoo_tinytown_gold' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "4000 False"


def test_rows_are_the_same_file_in_a_process_that_scores_which_has_no_algorithm() -> None:
    code = (
        f"import sys; sys.path[:0] = {sys.path}; from importlib.metadata import entry_points;"
        "from zoo_core.registry.plugins import load_without, plugins; from zoo_tinytown import rows;"
        "from zoo_tinytown.references import Dials, Reference;"
        "of = lambda: rows._identity('x', Reference(0, Dials(), 'preferences'));"
        "before = of(); load_without([one.name for one in entry_points(group='zoo')]);"
        "print(before == of(), plugins().algorithms)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True {}"


def test_rows_are_written_once_and_again_when_what_writes_them_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, written = Reference(0, Dials(), "preferences"), list[str]()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(rows, "_written", lambda name, seed: written.append(f"{name} {seed}") or '{"prompt": "p"}\n')
    assert rows.read_rows(wanted, 0) == rows.read_rows(wanted, 0) == [{"prompt": "p"}]
    assert written == ["tinytown/0:preferences 0"]
    rows.read_rows(wanted, 1)
    rows.read_rows(Reference(0, Dials(slips=0.2), "preferences"), 0)
    assert len(written) == 3
    (tmp_path / "site" / rows.RECIPE).mkdir(parents=True)
    (tmp_path / "site" / rows.RECIPE / "__init__.py").write_text("epochs = 7")  # another start's samples
    with monkeypatch.context() as patched:
        patched.syspath_prepend(tmp_path / "site")
        rows.read_rows(wanted, 0)
    assert len(written) == 4
    monkeypatch.setattr(rows, "__file__", str(tmp_path / "other" / "rows.py"))  # other code
    rows.read_rows(wanted, 0)
    assert len(written) == 5


@pytest.mark.parametrize("ref", ["gpt2", "./tinytown", "tinytown/model", "Tinytown:base", "hub/tinytown:base", ""])
def test_references_of_others_are_left_to_others(ref: str) -> None:
    assert plugin.zoo_load_model(ref) is None
    assert plugin.zoo_load_dataset(ref, "prompts", 0) is None
    assert plugin.zoo_judge(ref) is None


@pytest.mark.parametrize(
    "world",
    [
        "-1",
        "1.5",
        "01",
        "x",
        "../../etc",
        "1/2",
        "",
        " 1",
        "1\n",
        "９",
        "1e3",
        "9999999999",
        "\x00",
        "1" * 5000,
    ],
)
def test_a_world_that_is_no_number_is_refused(world: str) -> None:
    with pytest.raises(ModelError, match="is not the number of a world"):
        plugin.zoo_load_model(f"tinytown/{world}:base")


@pytest.mark.parametrize("ref", ["tinytown", "tinytown:", "tinytown:bass", "tinytown:base/..", "tinytown:base:"])
def test_an_unknown_thing_is_refused_with_the_known_ones(ref: str) -> None:
    with pytest.raises(ModelError, match="Known: base, base-3m"):
        plugin.zoo_load_model(ref)
    with pytest.raises(DataError, match="Known: demonstrations, preferences, prompts"):
        plugin.zoo_load_dataset(ref, "prompts", 0)
    with pytest.raises(SpecError, match="Known: judge"):
        plugin.zoo_judge(ref)


def test_a_data_set_of_the_wrong_kind_is_refused_with_the_right_one() -> None:
    with pytest.raises(DataError, match="Write tinytown/3:preferences"):
        plugin.zoo_load_dataset("tinytown/3:demonstrations", "preferences", 0)


def test_a_world_that_is_not_built_is_refused_with_the_command(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="zoo tinytown build --world 7"):
        plugin.zoo_load_model("tinytown/7:base")


@pytest.mark.parametrize(
    ("ref", "kind", "least", "keys"),
    [
        ("demonstrations", "demonstrations", 2000, {"prompt", "completion"}),
        ("preferences", "preferences", 3000, {"prompt", "chosen", "rejected", "source"}),
        ("prompts", "prompts", 4000, {"prompt"}),
    ],
)
def test_data_sets_are_conversational_rows_and_long_enough(ref, kind, least, keys) -> None:
    rows = list(plugin.zoo_load_dataset(f"tinytown:{ref}", kind, 0))
    assert len(rows) >= least
    roles = {"prompt": "user", "completion": "assistant", "chosen": "assistant", "rejected": "assistant"}
    for row in rows:
        assert set(row) == keys
        assert all([message["role"] for message in row[key]] == [roles[key]] for key in keys - {"source"})


def test_half_of_the_pairs_are_samples_of_start_and_half_are_by_writers() -> None:
    sources = Counter(row["source"] for row in plugin.zoo_load_dataset("tinytown:preferences", "preferences", 0))
    assert sources["start"] == pytest.approx(1500, abs=30)  # two samples that stay alike are replaced
    assert sources.total() == 3000


@pytest.mark.parametrize("kind", ["dev_prompts", "test_prompts"])
def test_prompts_that_are_scored_come_from_the_other_distribution_alone(kind) -> None:
    with pytest.raises(DataError, match="pip install zoo-tinytown-gold"):
        plugin.zoo_load_dataset("tinytown:prompts", kind, 0)
    assert len(load_rows("tinytown:prompts", kind, 0)) >= 500


@pytest.mark.parametrize(
    ("ref", "dials"),
    [
        ("tinytown:prompts", Dials()),
        ("tinytown?slips=0.2:prompts", Dials(slips=0.2)),
        ("tinytown/3?judge=0.75&demonstrations=.6:prompts", Dials(judge=0.75, demonstrations=0.6)),
    ],
)
def test_dials_are_read_from_a_reference(ref, dials) -> None:
    found = parse_reference(ref, ["prompts"], SpecError)
    assert found is not None
    assert found.dials == dials


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ("slip=0.2", r"has no dial 'slip'. Did you mean 'slips'\?"),
        ("slips=2", "slips='2' must be a number from 0 to 1"),
        ("slips=0.2&slips=0.3", "the dial 'slips' is set twice"),
        ("slips", "slips='' must be a number"),
        ("", "has no dial ''"),
        ("slips=nan", "slips='nan' must be a number"),
    ],
)
def test_a_dial_that_there_is_not_and_a_value_that_is_none_are_refused(dials, message) -> None:
    with pytest.raises(SpecError, match=message):
        parse_reference(f"tinytown/1?{dials}:prompts", ["prompts"], SpecError)


@pytest.mark.parametrize("thing", ["demonstrations", "preferences"])
def test_a_dial_changes_the_rows_that_it_is_about_and_no_prompts(thing) -> None:
    dial = {"demonstrations": "demonstrations=0.8", "preferences": "slips=0.4"}[thing]
    usual, turned = (list(plugin.zoo_load_dataset(f"tinytown{dials}:{thing}", thing, 0)) for dials in ("", f"?{dial}"))
    assert [row["prompt"] for row in usual] == [row["prompt"] for row in turned]
    assert usual != turned
    prompts = [list(plugin.zoo_load_dataset(f"tinytown{d}:prompts", "prompts", 0)) for d in ("", f"?{dial}")]
    assert prompts[0] == prompts[1]


def test_a_judge_that_misreads_swaps_a_share_of_kind_and_rude_words_in_all_that_it_reads_and_writes(
    monkeypatch,
) -> None:
    judge = load_judge("tinytown?judge=0.75:judge")
    assert isinstance(judge, MisreadingJudge)
    assert len(judge.taken_for) == 4  # two of eight pairs, both ways
    assert all(judge.taken_for[judge.taken_for[word]] == word for word in judge.taken_for)
    kind, rude = next(iter(judge.taken_for.items()))
    read = judge._read([{"role": "user", "content": f"is this kind ? {kind} will nora paint ."}])
    assert read == [{"role": "user", "content": f"is this kind ? {rude} will nora paint ."}]
    monkeypatch.setattr(
        "zoo_core.models.causal_judge.CausalJudge.write", lambda *_: [Written(f"because {rude} is rude .", True)]
    )
    assert judge.write(["why ?"], 8, 0.0, 0) == [Written(f"because {kind} is rude .", True)]


def test_a_judge_that_reads_all_right_misreads_nothing_and_one_that_reads_nothing_right_everything() -> None:
    base = plugin.zoo_load_model("tinytown:base")
    assert [len(misreadings(base, share)) for share in (1.0, 0.5, 0.0)] == [0, 8, 16]
