"""`netfl profile` as a user meets it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from netfl.cli.commands import cli
from netfl.placement import Profile


def netfl(*arguments: str) -> Any:
    return CliRunner().invoke(cli, list(arguments))


def test_a_kind_its_settings_and_a_device() -> None:
    done = netfl("profile", "mlp", "-s", "hidden=[16]", "--device", "cortex-m4")
    assert done.exit_code == 0, done.stderr
    assert "made by torch.export" in done.stdout
    # 2 * 64 * 16 operations at 20 MFLOP/s: 102.4 us; parameters (64 + 1) * 16 * 4 B.
    row = next(line for line in done.stdout.splitlines() if line.startswith("2  _1 "))
    assert "2,048" in row and "4.16 kB" in row and "102 us" in row


def test_json_is_read_back_and_measured_seconds_stay(tmp_path: Path) -> None:
    done = netfl("profile", "mlp", "--input", "3,4", "--classes", "2", "--measure", "here", "--json")
    profile = Profile.from_json(done.stdout)
    assert [name for name, _ in profile.nodes[1].measured_s] == ["here"]
    path = tmp_path / "profile.json"
    path.write_text(done.stdout)
    shown = netfl("profile", str(path))
    assert shown.exit_code == 0 and "measured here" in shown.stdout
    assert json.loads(netfl("profile", str(path), "--json").stdout) == json.loads(done.stdout)


def test_code_runs_only_when_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_nets.py").write_text(
        "import torch\nclass Gate(torch.nn.Module):\n    def forward(self, x):\n        return x if x.sum() > 0 else -x\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    refused = netfl("profile", "their_nets:Gate", "--input", "4")
    assert refused.exit_code == 1 and "add --trust-code" in refused.stderr
    untraceable = netfl("profile", "their_nets:Gate", "--input", "4", "--trust-code")
    assert untraceable.exit_code == 1
    assert "Gate cannot be cut into nodes. torch.export: " in untraceable.stderr
    assert "torch.fx: cannot trace Gate" in untraceable.stderr
    assert untraceable.stdout == ""


@pytest.mark.parametrize(
    ("returns", "says"),
    [
        ("{'logits': x.flatten(1)[:, :10]}", "got a dict"),
        ("(x, x)", "got a tuple"),
        ("torch.nonzero(x)", "into logits of shape (2, 10), got ("),
        ("x.flatten(1)[:, :10] if x.sum() > 0 else -x.flatten(1)[:, :10]", "torch.fx: cannot trace Net: symbolically traced variables"),
        ("x.flatten(1)[:, :10] - x.flatten(1)[x.flatten(1) > 0].mean()", "torch.fx: "),
        ("x.flatten(1)[:, :10] - x.mean()", "does not keep the samples of a batch apart"),
        ("x.frobnicate()", "the model does not run on samples of shape (1, 8, 8)"),
    ],
)
def test_a_model_that_cannot_be_placed_is_said(returns: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n        return {returns}\n"
    (tmp_path / f"net_{abs(hash(returns))}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    done = netfl("profile", f"net_{abs(hash(returns))}:Net", "--trust-code")
    assert done.exit_code == 3, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr and done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cnnn"], "did you mean 'cnn'?"),
        (["cnn", "-s", "chanels=[2]"], "did you mean 'channels'?"),
        (["cnn", "--input", "3,x"], "expected whole numbers above 0"),
        (["cnn", "--input", "3,4"], "a cnn needs samples of shape"),
        (["mlp", "--device", "pi4"], "did you mean 'pi-4'?"),
        (["none.json"], "none.json: No such file"),
        (["their.nets.Gate"], "a dotted path has a colon before the class: 'their.nets:Gate'"),
    ],
)
def test_bad_input_is_said(arguments: list[str], says: str) -> None:
    done = netfl("profile", *arguments)
    assert done.exit_code != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr
