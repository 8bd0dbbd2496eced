"""Training from local files, end to end: the readers' tiny folders, texts and a hand-written scenario file."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from netfl import run
from tests.learning.test_learning_data_files import cifar10_binary, har_folder, mnist_folder
from tests.workloads.small import training_only

TEXT = "how many clients can a cell carry when all of them send at once? " * 12


def text_folder(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name in "abcd":
        (folder / f"{name}.txt").write_text(TEXT)
    return folder


CASES: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    # Twenty training images for four clients: some classes are missing from every shard.
    "mnist": (mnist_folder, {"kind": "mnist"}, {"kind": "lenet"}),
    "cifar10": (cifar10_binary, {"kind": "cifar10"}, {"kind": "cnn", "channels": [2]}),
    "uci_har": (har_folder, {"kind": "uci_har"}, {"kind": "mlp", "hidden": [4]}),
    "text": (text_folder, {"kind": "text", "length": 10}, {"kind": "gru", "vocabulary": 22, "embedding": 4, "hidden": 8}),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_training_from_files(name: str, tmp_path: Path) -> None:
    write, source, model = CASES[name]
    write(tmp_path / "data")
    scenario = training_only(
        data={"source": {**source, "path": str(tmp_path / "data")}, "partition": {"kind": "iid"}},
        model=model,
        training__clients_per_round=2,
    )
    scenario["topology"]["devices"]["node-{1..2}"] = {"profile": "pi-4"}
    del scenario["topology"]["devices"]["node-{1..4}"]
    links = scenario["topology"]["links"]
    radio = links.pop("node-{1..4}-radio")
    links["node-{1..2}-radio"] = {**radio, "between": ["node-{1..2}", "gateway"]}
    cold, warm = run(scenario).metrics, run(scenario).metrics
    assert cold["training"]["training"]["rounds"] == 3
    assert cold["training"]["training"]["loss"] > 0
    assert (cold["trace_digest"], cold["work"]["trained_clients"], warm["work"]["trained_clients"]) == (warm["trace_digest"], 6, 0)


def test_a_text_by_the_command(tmp_path: Path) -> None:
    text_folder(tmp_path / "texts")
    scenario = training_only(
        data={"source": {"kind": "text", "path": "texts", "length": 10}, "partition": {"kind": "natural"}},
        model={"kind": "transformer", "vocabulary": 22, "width": 8, "heads": 2, "hidden": 8},
        training__rounds=2,
    )
    (tmp_path / "scenario.yaml").write_text(yaml.safe_dump(scenario))
    command = [sys.executable, "-m", "netfl", "run", str(tmp_path / "scenario.yaml"), "-q", "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "metrics.json").exists()
