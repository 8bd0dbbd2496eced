"""netfl: real PyTorch training and real split inference on one simulated network, on one clock.

    import netfl

    run = netfl.run("scenarios/smart-building.yaml", set={"workloads.training.rounds": 5})
    run.metrics["training"]["training"]["accuracy"]

Names load when they are first used, so that `import netfl` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netfl.errors import NetflError, Problem, RunError, ScenarioError
    from netfl.scenario import Scenario, load_scenario
    from netfl.studies.run import Run, run
    from netfl.studies.sweep import sweep

__all__ = ["NetflError", "Problem", "Run", "RunError", "Scenario", "ScenarioError", "load_scenario", "run", "sweep"]

__version__ = "0.1.0"

_HOMES = {
    "NetflError": "netfl.errors",
    "Problem": "netfl.errors",
    "Run": "netfl.studies",
    "RunError": "netfl.errors",
    "Scenario": "netfl.scenario",
    "ScenarioError": "netfl.errors",
    "load_scenario": "netfl.scenario",
    "run": "netfl.studies",
    "sweep": "netfl.studies.sweep",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'netfl' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
