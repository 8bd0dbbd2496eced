"""A run that is killed and started again ends as if nothing had happened. `NETFL_KILLS` says how many kills; one by default."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any


def script() -> Any:
    """`benchmarks/kills.py`."""
    spec = importlib.util.spec_from_file_location("kills", Path(__file__).parents[2] / "benchmarks" / "kills.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kills"] = module
    spec.loader.exec_module(module)
    return module


def test_kill_and_run_again(tmp_path: Path) -> None:
    number = int(os.environ.get("NETFL_KILLS", "1"))
    found = list(script().kills(number, tmp_path, rounds=8 if number < 5 else 30))
    assert len(found) >= number // 2
    for each in found:
        assert each.is_equal
        assert each.share_again < 0.1, each
