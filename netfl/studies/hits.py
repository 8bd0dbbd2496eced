"""What a run found in the store and what it computed, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netfl.errors import Problem, ScenarioError
from netfl.scenario import load
from netfl.store import Disk, default_folder
from netfl.studies.explain import Replay, replay
from netfl.studies.folders import read_json, status_of

__all__ = ["Explanation", "explain"]

_MOST_COMPARED = 3


@dataclass(frozen=True)
class Explanation:
    """What a run found and computed, and what it would find now.

    Args:
        run_dir: its folder.
        status: of the run.
        computed: how many values the run computed, by function.
        found: how many values a replay finds now, by function.
        first_missing: the first value that the run did not find; empty if it found all.
        why: why it did not, where that can be told.
        missing_now: the first value that a replay does not find now; empty if it finds all.
    """

    run_dir: Path
    status: str
    computed: dict[str, int]
    found: Counter[str]
    first_missing: str
    why: tuple[str, ...]
    missing_now: str


def explain(folder: Path, against: Path | None = None, *, trust_code: bool = False) -> Explanation:
    """What a run found in the store, what it computed, and which part of the first missing recipe differed.

    The run is replayed, and so are those beside it that began earlier and are most like it. Nothing is computed.

    Args:
        folder: of the run.
        against: the run to compare with, in place of those beside it.
        trust_code: whether code that the scenario names may run.

    Raises:
        ScenarioError: there is no run.
    """
    facts = _facts(folder)
    disk = Disk(default_folder())
    try:
        ours = _replayed(folder, disk, trust_code)
        key = (facts.get("store") or {}).get("first_missing")
        first = bytes.fromhex(key) if isinstance(key, str) else None
        told, why = "", tuple[str, ...]()
        wanted = first if first in ours.recipes and first in ours.forced else ours.missing
        if wanted is not None and (first is not None or ours.missing is not None):
            told = ours.told(wanted)
            others = [against] if against is not None else _beside(folder, str(facts.get("started")))
            replays = [(str(other), _replayed(other, disk, trust_code)) for other in others]
            why = tuple(ours.why_missing(wanted, replays))
        computed = (facts.get("store") or {}).get("computed") or {}
        missing_now = ours.told(ours.missing) if ours.missing is not None else ""
        return Explanation(folder, status_of(folder), dict(computed), ours.found, told if first is not None else "", why, missing_now)
    finally:
        disk.close()


def _facts(folder: Path) -> dict[str, Any]:
    facts = read_json(folder / "run.json")
    if facts is None or not (folder / "resolved.yaml").is_file():
        raise ScenarioError(Problem("expected the folder of a run, which holds `run.json` and `resolved.yaml`", file=str(folder)))
    return facts


def _replayed(folder: Path, disk: Disk, trust_code: bool) -> Replay:
    _facts(folder)
    return replay(load(folder / "resolved.yaml"), disk, trust_code=trust_code)


def _beside(folder: Path, started: str) -> list[Path]:
    """The runs in the same folder that began earlier and whose scenarios are most like this one's."""
    lines = set((folder / "resolved.yaml").read_text(encoding="utf-8").splitlines())
    found = []
    for other in sorted(folder.resolve().parent.iterdir()):
        facts = read_json(other / "run.json") if other.is_dir() and other != folder.resolve() else None
        if facts is not None and (other / "resolved.yaml").is_file() and str(facts.get("started")) <= started:
            theirs = set((other / "resolved.yaml").read_text(encoding="utf-8").splitlines())
            found.append((len(lines ^ theirs), other))
    return [other for _, other in sorted(found)[:_MOST_COMPARED]]
