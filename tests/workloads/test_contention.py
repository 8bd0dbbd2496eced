"""The contention scenario in a small form: the best placement of an idle network is not the best under training traffic."""

from pathlib import Path
from typing import Any

import pytest

from netfl import run
from netfl.placement.planners.chain import Chain
from netfl.scenario import load
from netfl.scenario.build import prepare
from netfl.store import Store

SCENARIO = Path(__file__).parents[2] / "scenarios" / "contention.yaml"
# Half the sensors, half the phones and half the uplink; phones train on a tenth of the windows, so that they soon begin to send.
SMALL: dict[str, Any] = {
    "topology.devices": {
        "server": {"profile": "mini-pc", "tier": "cloud"}, "router": {"profile": "cortex-m4", "tier": "gateway"},
        "sensor-{1..5}": {"profile": "cortex-m4"}, "phone-{1..6}": {"profile": "phone-mid"},
    },
    "topology.links": {
        "uplink": {"between": ["router", "server"], "uplink": "5 Mbit/s", "downlink": "20 Mbit/s", "latency": "2 ms"},
        "sensor-{1..5}-radio": {"between": ["sensor-{1..5}", "router"], "rate": "50 Mbit/s", "latency": "1 ms"},
        "phone-{1..6}-radio": {"between": ["phone-{1..6}", "router"], "rate": "100 Mbit/s", "latency": "1 ms"},
    },
    "data.source.people": 6, "data.source.windows": 12, "workloads.training.clients_per_round": 6, "stop.after": "5 s",
    "workloads.serving.arrivals.rate": "10 per s",
}  # fmt: skip
SIMULATE = {"kind": "simulate", "candidates": 3, "horizon": "5 s"}


def test_upload_is_best_on_the_idle_network_and_simulate_beats_it_under_training_in_five_of_five_seeds() -> None:
    store = Store()
    won = 0
    for seed in range(1, 6):
        p95_s = {}
        for name, placement in (("upload", "upload"), ("simulate", SIMULATE)):
            changes = {**SMALL, "seed": seed, "workloads.serving.placement": placement}
            p95_s[name] = run(SCENARIO, set=changes, store=store).metrics["serving"]["serving"]["p95_s"]
        won += p95_s["simulate"] < 0.8 * p95_s["upload"]
    assert won == 5


def test_the_planner_that_adds_up_idle_times_uploads() -> None:
    loaded = load(SCENARIO, {"workloads.serving.placement": "chain"})
    session = prepare(loaded).session(None)
    settings: Any = loaded.scenario.workloads["serving"]
    assert isinstance(settings.placement, Chain)
    best = settings.first_plan(session, "sensor-1")
    assert best.describe() == "sensor-1:0-1 server:1-14"
    # The input is 9 x 128 values of a byte each, with a header of 8 bytes or so; 1 ms + 2 ms, twice.
    assert best.estimate_s == pytest.approx(0.00815, abs=5e-5)
