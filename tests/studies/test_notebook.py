"""The notebook in docs/ runs, and says what it claims to say."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = json.loads((ROOT / "docs" / "studies.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], [cell["id"] for cell in notebook["cells"]]) == (4, [f"cell-{n}" for n in range(len(notebook["cells"]))])
    assert all(not cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code")
    (tmp_path / "docs").mkdir()
    for name in ("scenarios", "topologies"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path / "docs")
    monkeypatch.setenv("NETFL_STORE", str(tmp_path / "store"))
    cells: dict[str, Any] = {"__name__": "notebook"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), cells)
    assert list(cells["table"]["status"]) == ["finished"] * 8
    means = cells["means"]["simulated_s"]
    # A quarter of the bits an update, on a link of 1 Mbit/s: less time; the models that come down are as long as ever.
    assert means["1 Mbit/s", "quantize"] < means["1 Mbit/s", "float32"]
    assert len(cells["found"].groups) == 4
    assert (tmp_path / "docs" / "sweeps" / "notebook" / "report.html").is_file()
