"""What the jobs of a bench share."""

import pytest
import zoo_harness.jobs.materials
from zoo_harness.jobs.materials import Materials
from zoo_harness.spec.read import read as read_spec


@pytest.fixture
def read(monkeypatch) -> list[tuple[str, int]]:
    """The data sets that were read, with their seeds."""
    asked: list[tuple[str, int]] = []
    load_rows = zoo_harness.jobs.materials.load_rows

    def noting(ref, kind, seed):
        asked.append((kind, seed))
        return load_rows(ref, kind, seed)

    monkeypatch.setattr(zoo_harness.jobs.materials, "load_rows", noting)
    return asked


@pytest.fixture
def materials(world) -> Materials:
    return Materials(read_spec(world / "spec.yaml", None, {}))


def test_a_data_set_is_read_once_for_all_that_is_measured_with_the_first_seed(materials, read):
    rows = [materials.rows("prompts", seed) for seed in (0, 1, 2, 0, 0)]
    assert read == [("prompts", 0), ("prompts", 1), ("prompts", 2)]
    assert rows[0] == rows[3] == rows[4] != rows[1]


def test_who_changes_rows_changes_them_for_nobody_else(materials, read):
    before = list(materials.rows("prompts", 0))
    materials.rows("prompts", 0).clear()
    assert materials.rows("prompts", 0) == before


def test_rows_of_another_kind_are_others(materials, read):
    train, test = (materials.rows(kind, 0) for kind in ("prompts", "test_prompts"))
    assert not {repr(row.prompt) for row in train} & {repr(row.prompt) for row in test}
    assert read == [("prompts", 0), ("test_prompts", 0)]
