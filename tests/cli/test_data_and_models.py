"""Data from files and models from code as a user of the command line meets them: places, exit codes, pictures."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import netfl as package
from netfl.cli.commands import cli
from netfl.errors import MissingExtraError, ScenarioError
from netfl.scenario import load, to_yaml
from tests.workloads.small import small, training_only

ROOT = Path(__file__).parents[2]


def netfl(*arguments: str) -> Any:
    return CliRunner().invoke(cli, list(arguments))


def write(path: Path, scenario: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(scenario, sort_keys=False))
    return str(path)


def table(path: Path, rows: int = 60) -> None:
    generator = np.random.default_rng(0)
    lines = [f"{place % 3},{generator.normal() + 3 * (place % 3):.4f},{generator.normal():.4f},{place % 5}" for place in range(rows)]
    path.write_text("\n".join(["kind,one,two,who", *lines]) + "\n")


def with_table(path: str, **partition: Any) -> dict[str, Any]:
    return training_only(
        data={"source": {"kind": "csv", "path": path, "label": "kind", "group": "who"}, "partition": partition or {"kind": "iid"}},
        model={"kind": "mlp", "hidden": [4]},
    )


def test_a_scenario_with_data_of_its_own_runs_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is meant from the scenario's file; the resolved scenario runs again from its run folder."""
    (tmp_path / "data").mkdir()
    table(tmp_path / "data" / "t.csv")
    file = write(tmp_path / "scenarios" / "s.yaml", with_table("../data/t.csv", kind="natural"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = netfl("run", file, "-o", str(tmp_path / "out"), "--json", "-q")
    assert done.exit_code == 0, done.output
    digest = json.loads(done.stdout)["metrics"]["trace_digest"]
    again = netfl("run", str(tmp_path / "out" / "resolved.yaml"), "-o", str(tmp_path / "again"), "--json", "-q")
    assert json.loads(again.stdout)["metrics"]["trace_digest"] == digest
    # in --set, a relative path is meant from the working folder
    table(tmp_path / "elsewhere" / "mine.csv", rows=30)
    assert netfl("show", file, "--data", "-s", "data.source.path=mine.csv").exit_code == 0
    # what extends a scenario keeps the place of its parent's data
    child = tmp_path / "deep" / "er" / "child.yaml"
    child.parent.mkdir(parents=True)
    child.write_text("extends: ../../scenarios/s.yaml\nname: child\n")
    assert netfl("show", str(child), "--data").exit_code == 0


def test_the_same_file_elsewhere_is_not_trained_on_again(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        table(tmp_path / name / "t.csv")
    first, second = (package.run(with_table(str(tmp_path / name / "t.csv"))).metrics for name in ("one", "two"))
    assert first["work"]["trained_clients"] > 0
    assert second["work"]["trained_clients"] == 0
    assert second["trace_digest"] == first["trace_digest"]
    table(tmp_path / "two" / "t.csv", rows=61)
    assert package.run(with_table(str(tmp_path / "two" / "t.csv"))).metrics["work"]["trained_clients"] > 0


def test_data_that_is_not_there_exits_4(tmp_path: Path) -> None:
    scenario = training_only(data={"source": {"kind": "mnist", "path": "absent"}}, model={"kind": "lenet"})
    file = write(tmp_path / "s.yaml", scenario)
    for command in (["run", file, "-o", str(tmp_path / "out")], ["show", file, "--data"]):
        done = netfl(*command)
        assert done.exit_code == 4, done.output
        assert f"the data folder '{tmp_path / 'absent'}' does not exist" in done.stderr
    assert not (tmp_path / "out").exists()
    assert netfl("validate", file).exit_code == 0  # which needs no data
    with pytest.raises(MissingExtraError):
        package.run(file)


@pytest.mark.parametrize(
    ("changes", "place", "message"),
    [
        ({"data.source": {"kind": "csv", "path": "t.csv", "label": "sort"}}, "data.source", "no column 'sort' among kind, one, two, who"),
        ({"data.source": {"kind": "digits", "test_fraction": 0.9999}}, "data.source", "expected a test_fraction that leaves samples"),
        ({"data.source": {"kind": "digits", "limit": 3}}, "data.source", "has no training sample: raise `limit`"),
        ({"model": {"kind": "lenet"}}, "model", "lenet needs samples of shape (channels, height, width), got (2,)"),
        ({"model": {"kind": "gru", "vocabulary": 9}}, "model", "the model takes tokens, but the data's samples are numbers"),
        (
            {"data.source": {"kind": "digits"}, "model": {"kind": "alexnet"}},
            "model",
            "alexnet needs maps with sides of at least 12, got 8 x 8",
        ),
        (
            {"data.source": {"kind": "arithmetic"}, "model": {"kind": "gru", "vocabulary": 9}},
            "model",
            "expected `vocabulary` of at least 12",
        ),
        ({"data.source": {"kind": "digits"}, "data.partition": {"kind": "natural"}}, "workloads.training", "does not say whose each"),
    ],
)
def test_what_does_not_fit_is_a_problem_with_its_place(tmp_path: Path, changes: dict[str, Any], place: str, message: str) -> None:
    table(tmp_path / "t.csv")
    file = write(tmp_path / "s.yaml", with_table("t.csv"))
    settings = [part for path, value in changes.items() for part in ("-s", f"{path}={json.dumps(value)}")]
    settings = [part.replace('"t.csv"', json.dumps(str(tmp_path / "t.csv"))) for part in settings]
    done = netfl("run", file, "-o", str(tmp_path / "out"), *settings)
    assert done.exit_code == 3, done.output
    assert f"{place}: " in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_wrong_file_is_named_with_its_line_and_the_setting_with_its_place(tmp_path: Path) -> None:
    table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text() + "0,x,1,1\n")
    file = write(tmp_path / "s.yaml", with_table("t.csv"))
    done = netfl("run", file, "-o", str(tmp_path / "out"))
    assert done.exit_code == 3
    line = (tmp_path / "s.yaml").read_text().splitlines().index("  source:") + 2
    assert f"{file}:{line}:5: data.source: {tmp_path / 't.csv'}: line 62: column 'one': expected a number, got 'x'" in done.stderr


def test_batch_normalisation_is_refused_before_anything_trains(tmp_path: Path) -> None:
    folder = tmp_path / "mnist"
    folder.mkdir()
    generator = np.random.default_rng(0)
    np.savez(folder / "t.npz", inputs=generator.normal(size=(40, 3, 8, 8)), labels=np.arange(40) % 4)
    scenario = training_only(data={"source": {"kind": "npz", "path": str(folder / "t.npz")}}, model={"kind": "wrn", "norm": "batch"})
    with pytest.raises(ScenarioError, match="it cannot be trained: use normalisation without running statistics, as `norm: group`"):
        package.run(scenario)
    scenario["model"] = {"kind": "resnet"}
    scenario["workloads"]["training"]["rounds"] = 1
    assert package.run(scenario).metrics["work"]["trained_clients"] > 0


# --- netfl show --data ------------------------------------------------------------------------------------------------------


def test_the_table_says_who_has_what(tmp_path: Path) -> None:
    table(tmp_path / "t.csv")
    file = write(tmp_path / "s.yaml", with_table("t.csv", kind="natural"))
    done = netfl("show", file, "--data")
    assert done.exit_code == 0, done.output
    # 60 rows, 12 of them to test; five owners on four clients: the first has two of them
    assert "training samples" in done.stdout
    assert "natural clients" in done.stdout
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.startswith("node-")}
    assert set(lines) == {"node-1", "node-2", "node-3", "node-4"}
    sizes = {name: int(words[1]) for name, words in lines.items()}
    assert sum(sizes.values()) == 48
    assert max(sizes, key=lambda name: sizes[name]) == "node-1"
    for words in lines.values():
        assert sum(int(word) for word in words[2:5] if word != "·") == int(words[1])


@pytest.mark.parametrize("file", sorted((ROOT / "scenarios").glob("*.yaml")), ids=lambda path: path.name)
def test_every_scenario_shows_its_data(file: Path) -> None:
    done = netfl("show", str(file), "--data")
    assert done.exit_code == 0, done.output
    samples = 576 if file.stem == "contention" else 1438
    assert f"training samples  {samples:,}" in done.stdout


def test_the_picture(tmp_path: Path) -> None:
    done = netfl("show", str(ROOT / "scenarios" / "smart-building.yaml"), "--data", "--png", str(tmp_path / "who.png"))
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(tmp_path / "who.png")
    assert (tmp_path / "who.png").read_bytes().startswith(b"\x89PNG")
    both = small()
    both["workloads"]["second"] = dict(both["workloads"]["training"], clients=["node-1", "node-2"], clients_per_round=1)
    file = write(tmp_path / "s.yaml", both)
    netfl("show", file, "--data", "--png", str(tmp_path / "who.png"))
    assert {path.name for path in tmp_path.glob("who-*.png")} == {"who-training.png", "who-second.png"}


def test_many_labels_and_many_clients_are_drawn(tmp_path: Path) -> None:
    from netfl.report.shards import draw_shards, label_colours

    counts = np.random.default_rng(0).integers(0, 9, (300, 100))
    draw_shards(counts, [f"node-{number}" for number in range(300)], [str(label) for label in range(100)], "many", tmp_path / "many.png")
    assert (tmp_path / "many.png").stat().st_size > 10_000
    assert len(set(label_colours(100))) == 100
    assert len(set(label_colours(10))) == 10


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "--resolved"], 2, "two things"),
        (["--data", "--png", "/no/such/folder/x.png"], 3, "cannot write"),
        (["--data", "--png", "x.unknown"], 3, "cannot write"),
        (["--data", "-s", "data.partition={kind: by_label, labels_per_client: 1}"], 3, "got room for 4"),
    ],
)
def test_what_show_refuses(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    done = netfl("show", write(tmp_path / "s.yaml", training_only()), *arguments)
    assert done.exit_code == code, done.output
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_what_nothing_trains_cannot_be_drawn(tmp_path: Path) -> None:
    done = netfl("show", str(ROOT / "scenarios" / "split-inference.yaml"), "--data", "--png", str(tmp_path / "x.png"))
    assert done.exit_code == 3
    assert "no workload trains" in done.stderr
    assert netfl("show", str(ROOT / "topologies" / "star.yaml"), "--data").exit_code == 2


# --- code from outside ------------------------------------------------------------------------------------------------------

CODE = """
from pathlib import Path
from torch import nn

Path(__file__).with_name("ran").touch()


def make(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 10))
"""


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "outside_model.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "outside_model", raising=False)
    model = {"kind": "python", "module": "outside_model:make", "arguments": {"width": 5}}
    return write(tmp_path / "s.yaml", training_only(model=model, training__rounds=1))


def test_code_runs_only_when_it_is_trusted(outside: str, tmp_path: Path) -> None:
    for command in (["validate", outside], ["show", outside], ["show", outside, "--data"], ["show", outside, "--resolved"]):
        assert netfl(*command).exit_code == 0
    done = netfl("run", outside, "-o", str(tmp_path / "out"))
    assert done.exit_code == 3
    assert "model: this kind runs code that the scenario names (if you trust it, add --trust-code to the command" in done.stderr
    with pytest.raises(ScenarioError, match="this kind runs code"):
        package.run(outside)
    assert not (tmp_path / "ran").exists()
    done = netfl("run", outside, "--trust-code", "-o", str(tmp_path / "out"), "--json", "-q")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "ran").exists()
    digest = json.loads(done.stdout)["metrics"]["trace_digest"]
    assert package.run(outside, trust_code=True).metrics["trace_digest"] == digest


def test_its_resolved_form_reads_back(outside: str) -> None:
    scenario = load(outside).scenario
    resolved = yaml.safe_load(to_yaml(scenario))
    assert resolved["model"] == {"kind": "python", "module": "outside_model:make", "arguments": {"width": 5}}
    assert load(resolved).scenario == scenario


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.arguments=3", "model.arguments: expected a block of names and values"),
        ("model.arguments=[1, 2]", "model.arguments: expected a block of names and values"),
        ("model.arguments={x: {y: 1}}", "model.arguments: expected 'x' to be a number"),
        ("model.module=os.system", "expected a dotted path such as 'package.module:Net'"),
        ("model.arguments={width: five}", "raised TypeError"),
        ("model.module=absent_package:make", "Python finds no module 'absent_package'"),
    ],
)
def test_wrong_settings_of_it(outside: str, tmp_path: Path, setting: str, message: str) -> None:
    done = netfl("run", outside, "--trust-code", "-o", str(tmp_path / "out"), "-s", setting)
    assert done.exit_code == 3, done.output
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_heavy_is_imported_to_read_the_settings() -> None:
    code = (
        "import sys\nfrom netfl.learning.data import DATA\nfrom netfl.learning.models import MODELS\n"
        "from netfl.learning.partition import PARTITIONS\n"
        "for family in (DATA, MODELS, PARTITIONS):\n    for kind in family.kinds():\n        family.find(kind)\n"
        "assert not {'torch', 'sklearn', 'PIL', 'datasets', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
