"""A placement that changes while requests are served."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from netfl import run
from netfl.compute import Work
from netfl.placement.planners.adaptive import Adaptive
from netfl.placement.planners.chain import Chain
from netfl.world import World
from tests.workloads.small import serving_only


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "run.db") as connection:
        return connection.execute(query).fetchall()


def crowded(**placement: Any) -> dict[str, Any]:
    """Alone, the cloud behind a trunk of 600 kbit/s answers sooner than the slow gateway; then others fill the trunk, and the gateway does."""
    scenario = serving_only(
        serving__placement={"kind": "adaptive", "period": "2 s", **placement},
        serving__arrivals={"kind": "poisson", "rate": "2 per s"},
        serving__sources=["node-1"],
        model={"kind": "mlp", "hidden": [3000]},
        stop={"after": "3 min"},
    )
    scenario["topology"]["devices"]["gateway"]["profile"] = "cortex-m7"
    scenario["topology"]["devices"]["node-{1..4}"]["profile"] = "cortex-m4"
    scenario["topology"]["links"]["trunk"].update(rate="600 kbit/s", latency="0.5 ms")
    scenario["workloads"]["others"] = {
        "kind": "background",
        "pairs": [["gateway", "cloud"], ["cloud", "gateway"]],
        "traffic": {"kind": "on_off", "rate": "400 kbit/s", "mean_on": "20 s", "mean_off": "1 s"},
    }
    return scenario


def test_trap_19_a_cut_that_moves_ships_its_parameters(tmp_path: Path) -> None:
    run(crowded(hysteresis=0.0), output=tmp_path / "out")
    placements = [
        each for (each,) in rows(tmp_path / "out", "SELECT placement FROM requests WHERE outcome = 'answered' ORDER BY arrival_s")
    ]
    moves = rows(tmp_path / "out", "SELECT payload_bytes, destination, start_s FROM transfers WHERE label LIKE 'move%' ORDER BY start_s")
    assert len(set(placements)) > 1
    assert moves
    # The gateway computed nothing before and is sent all layers, a message each: (64 + 1) * 3000 and (3000 + 1) * 10 float32.
    assert moves[0][1] == "gateway"
    assert moves[0][0] == pytest.approx(4 * (65 * 3000 + 3001 * 10), abs=50)
    first = rows(
        tmp_path / "out",
        "SELECT min(arrival_s) FROM requests WHERE outcome = 'answered' AND placement != ?".replace("?", repr(placements[0])),
    )
    # The new placement is used only once the parameters are there.
    assert first[0][0] > moves[0][2]


def test_what_has_moved_keeps_its_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[str, int]] = set()
    compute = World.compute

    def watched(self: World, device: str, work: Work, **more: Any) -> Any:
        seen.add((device, work.priority))
        return compute(self, device, work, **more)

    monkeypatch.setattr(World, "compute", watched)
    scenario = crowded(hysteresis=0.0)
    scenario["workloads"]["serving"]["priority"] = 3
    run(scenario, output=tmp_path / "out")
    # First the cloud computes, then the gateway.
    assert seen == {("cloud", 3), ("gateway", 3)}


def test_hysteresis_keeps_what_is_nearly_as_good(tmp_path: Path) -> None:
    run(crowded(hysteresis=0.99), output=tmp_path / "out")
    assert len(set(rows(tmp_path / "out", "SELECT placement FROM requests WHERE outcome = 'answered'"))) == 1
    assert rows(tmp_path / "out", "SELECT count(*) FROM transfers WHERE kind = 'model'") == [(0,)]


def test_settings_that_are_none_are_refused() -> None:
    for wrong in ({"period": 0.0}, {"hysteresis": -0.1}):
        with pytest.raises(ValueError, match="expected"):
            Adaptive(inner=Chain(), **wrong)
