"""The contract of a workload."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, ClassVar, Protocol

from netfl.parts import Family
from netfl.workloads.checks import Found
from netfl.workloads.session import Session, Setting

__all__ = ["WORKLOADS", "Workload"]


class Workload(Protocol):
    """Something that happens on the simulated network."""

    def problems(self, setting: Setting) -> Found:
        """What is wrong with the settings on that topology: (path below the workload, message) each. Imports no torch."""
        ...

    def model_problems(self, session: Session) -> Found:
        """What shows only once data and model are there."""
        ...

    def start(self, session: Session, name: str) -> Generator[Any, Any, None]:
        """The process to run under that name. Feeds of models are made here, so that workloads find each other's."""
        ...

    role: ClassVar[str]
    """training, serving or background: which part of the metrics it belongs to. A training publishes its global models."""

    @property
    def ends(self) -> bool:
        """Whether its process ends by itself; a run ends when all such processes have."""
        ...


WORKLOADS = Family(
    "workloads",
    {
        "synchronous": "netfl.workloads.synchronous:Synchronous",
        "asynchronous": "netfl.workloads.asynchronous:Asynchronous",
        "buffered": "netfl.workloads.asynchronous:Buffered",
        "hierarchical": "netfl.workloads.hierarchical:Hierarchical",
        "gossip": "netfl.workloads.gossip:Gossip",
        "split": "netfl.workloads.split_learning:SplitLearning",
        "sliced": "netfl.workloads.sliced:Sliced",
        "centralised": "netfl.workloads.sliced_baselines:Centralised",
        "standalone": "netfl.workloads.sliced_baselines:Standalone",
        "requests": "netfl.workloads.requests:Requests",
        "cooperative": "netfl.workloads.cooperative:Cooperative",
        "background": "netfl.workloads.background:Background",
    },
)
