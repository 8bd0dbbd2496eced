"""Every codec that ships carries updates and models in a run."""

from typing import Any

import pytest

from netfl import run
from netfl.codecs import CODECS
from tests.workloads.small import training_only

SETTINGS: dict[str, dict[str, Any]] = {
    "topk": {"fraction": 0.1},
    "randomk": {"fraction": 0.2},
    "threshold": {"least": 0.001},
    "dgc": {"fraction": 0.05},
    "gumbel_topk": {"fraction": 0.1, "clip": 0.1, "epsilon": 1.0},
    "svt": {"fraction": 0.1, "clip": 0.1, "epsilon": 10.0, "threshold": 0.01},
    "lowrank": {"rank": 2},
    "sketch": {"fraction": 0.5},
    "quantize": {"bits": 4},
    "laplace": {"clip": 0.1, "epsilon": 10.0},
    "onebit_release": {"clip": 0.1, "epsilon": 2.0},
}


@pytest.mark.parametrize("kind", CODECS.builtin)
def test_it_trains_both_ways_with_and_without_rounds(kind: str) -> None:
    if kind == "entropy":
        pytest.importorskip("constriction")
    stage = {"kind": kind, **SETTINGS.get(kind, {})}
    both = {"training__uplink": [stage], "training__downlink": [stage], "training__error_feedback": kind not in ("svt", "sketch")}
    scenario = training_only(training__rounds=3, **both)
    found = run(scenario).metrics["training"]["training"]
    assert (found["rounds"], found["updates_accepted"]) == (3, 9)
    training = scenario["workloads"]["training"]
    del training["clients_per_round"]
    training.update(kind="buffered", buffer=2, concurrency=2)
    assert run(scenario).metrics["training"]["training"]["rounds"] == 3
