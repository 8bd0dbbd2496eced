"""Commands that compute nothing never import torch."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROBE = """
import sys
from netfl.cli import main
sys.argv[0] = "netfl"
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
heavy = sorted({"torch", "sklearn", "matplotlib"} & sys.modules.keys())
print("HEAVY", heavy)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["run", "--help"],
        ["sweep", "--help"],
        ["list"],
        ["schema"],
        ["validate", "scenarios/smart-building.yaml", "topologies/smart-building.yaml"],
        ["show", "scenarios/smart-building.yaml", "--resolved"],
        ["verify", "tests/oracles/network/p02_parking_lot.json"],
    ],
    ids=" ".join,
)
def test_no_torch(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", PROBE, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("HEAVY []"), done.stdout[-200:]
