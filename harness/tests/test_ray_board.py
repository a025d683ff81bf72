"""A bench on a Ray of two nodes with a GPU each that is a name only, beside the same bench by the local executor."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray")
from ray.cluster_utils import Cluster

NOT_REPEATED = ("wall_seconds", "peak_memory_bytes", "stages", "attempt")


@pytest.fixture(scope="module")
def cluster(environment) -> Iterator[Cluster]:
    """Two nodes of this machine, each with one core and one GPU."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 1})
        cluster.add_node(num_cpus=1, num_gpus=1)
        yield cluster
        cluster.shutdown()


def records_of(output: Path) -> dict[str, dict[str, Any]]:
    found = {path.stem: json.loads(path.read_text()) for path in (output / "records").glob("*.json")}
    return {name: {key: record[key] for key in record if key not in NOT_REPEATED} for name, record in found.items()}


@pytest.mark.timeout(900)  # Ray starts slowly where cores are few
@pytest.mark.slow
def test_ray_makes_the_board_of_the_local_executor_bit_for_bit(world, zoo, cluster, tmp_path):
    spec = {**yaml.safe_load((world / "spec.yaml").read_text()), "algorithms": ["sft", "dpo"], "seeds": 1, "tasks": []}
    (world / "ray.yaml").write_text(yaml.safe_dump({**spec, "name": "ray", "budget": 1e9}))
    outputs = {name: tmp_path / name for name in ("local", "ray")}
    for executor, output in outputs.items():
        options = ["--option", f"address={cluster.address}"] if executor == "ray" else []
        words = ("bench", world / "ray.yaml", "--output", output, "--executor", executor, *options)
        done = zoo(*words, cwd=tmp_path, ZOO_CACHE=str(tmp_path / f"cache-{executor}"))
        assert done.returncode == 0, done.stderr
    records = records_of(outputs["ray"])
    assert {"sft-seed0", "dpo-seed0"} <= set(records)
    assert records == records_of(outputs["local"])
    begun = [json.loads(path.read_text()) for path in outputs["ray"].glob("cells/*/begun.json")]
    assert {one["gpu"] for one in begun} == {"0"}
