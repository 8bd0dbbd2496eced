"""Every trap of the table in `tests/placement/test_placement_traps.py` has a test of its name, in the modules that the table names."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRAPS = 19


def test_the_table_is_the_tests() -> None:
    found: dict[int, set[str]] = {}
    for path in ROOT.rglob("test_*.py"):
        for number in re.findall(r"^def test_trap_(\d+)_", path.read_text(encoding="utf-8"), re.MULTILINE):
            found.setdefault(int(number), set()).add(path.relative_to(ROOT).as_posix())
    table = (ROOT / "placement" / "test_placement_traps.py").read_text(encoding="utf-8").split('"""')[1]
    told = {int(number): _modules(cells) for number, cells in re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", table, re.MULTILINE)}
    assert sorted(told) == list(range(1, TRAPS + 1))
    assert told == found


def _modules(cells: str) -> set[str]:
    """`placement/test_placement_plan, _profile` as two paths."""
    first, *others = cells.split(", ")
    folder = first.rpartition("/")[0]
    names = {f"{first}.py"}
    for each in others:
        stem = each if each.startswith("test_") else f"test_placement{each}"
        names.add(f"{folder}/{stem}.py")
    return names
