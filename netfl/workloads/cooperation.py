"""How several devices answer a request together: the contract, and the devices as planners see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from netfl.codecs import Pipeline
from netfl.compute import Work
from netfl.parts import Family
from netfl.placement.stages import Cluster, StagedPlacement, Way
from netfl.store import Recipe
from netfl.workloads.inference import Answers
from netfl.workloads.serving_path import Ways
from netfl.workloads.session import Session

__all__ = ["COOPERATIONS", "Answering", "Cooperation", "cluster_of"]


class Answering(Protocol):
    """A cooperation in one run: the teacher is there, and the devices are known."""

    def placement(self, cluster: Cluster) -> StagedPlacement:
        """What each device computes and sends for a request of the cluster's source."""
        ...

    def preparation(self, cluster: Cluster) -> Work | None:
        """What the device that has the trained model computes before it can send the parts; None for nothing."""
        ...

    def answers(self, cluster: Cluster, present: tuple[bool, ...]) -> Answers:
        """What they answer to each test sample, really computed, once for each distinct argument.

        Args:
            cluster: the devices.
            present: of each worker, whether what it made is there when the answer is made.

        Returns:
            Whether each answer is right, and the length of every message but the reply, in the placement's order.
        """
        ...


class Cooperation(Protocol):
    """Settings of a way to answer together."""

    def problems(self, session: Session, clusters: Sequence[Cluster]) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What shows once the model and the devices are known: (path below `placement`, message) each. Trains nothing."""
        ...

    def foreseen(self, session: Session, cluster: Cluster) -> StagedPlacement:
        """What each device will compute and send, as far as it is known before anything is trained.

        Raises:
            NetflError: a device's memory is too small.
            ValueError: the model cannot be shared so.
        """
        ...

    def answering(self, session: Session, name: str, model: Recipe, activations: Pipeline) -> Answering:
        """What answers in a run.

        Args:
            session: of the run.
            name: of the workload.
            model: the trained model's vector (P,).
            activations: codecs of what crosses.
        """
        ...

    @property
    def looks_at_model(self) -> bool:
        """Whether what devices do depends on the trained model's parameters, so that these must be sound before anything is placed."""
        ...

    @property
    def wait_s(self) -> float | None:
        """Seconds after a request was made in which its answer waits for all workers; None if it cannot do without any."""
        ...


COOPERATIONS = Family(
    "cooperations",
    {
        "students": "netfl.workloads.students:Students",
        "filter_split": "netfl.workloads.shared_layers:FilterSplit",
        "tiles": "netfl.workloads.shared_layers:Tiles",
    },
)


def cluster_of(session: Session, source: str, workers: tuple[str, ...], join: str) -> Cluster:
    """The devices that answer a source's requests, and the ways between all of them."""
    ways = Ways(session)
    devices, computing = sorted({source, join, *workers}), sorted({join, *workers})
    found = {}
    for one in devices:
        for other in devices:
            if one != other:
                hop = ways.hop(one, other)
                found[one, other] = Way(latency_s=hop.latency_s, bps=hop.up_bps)
    return Cluster(source=source, workers=workers, join=join, tiers={device: ways.tier(device) for device in computing}, ways=found)
