"""How several devices answer a request together: the contract, and the devices as planners see them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Protocol

from netfl.codecs import Pipeline
from netfl.parts import Family
from netfl.placement.stages import Cluster, StagedPlacement, Way
from netfl.store import Recipe
from netfl.workloads.inference import Answers
from netfl.workloads.serving_path import path_of
from netfl.workloads.session import Session

__all__ = ["COOPERATIONS", "Answering", "Cooperation", "cluster_of"]


class Answering(Protocol):
    """A cooperation in one run: the teacher is there, and the devices are known."""

    def placement(self, cluster: Cluster) -> StagedPlacement:
        """What each device computes and sends for a request of the cluster's source."""
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
    def wait_s(self) -> float | None:
        """Seconds after a request was made in which its answer waits for all workers; None if it cannot do without any."""
        ...


COOPERATIONS = Family(
    "cooperations",
    {
        "students": "netfl.workloads.students:Students",
        "filter_split": "netfl.workloads.shared_layers:FilterSplit",
    },
)


def cluster_of(session: Session, source: str, workers: tuple[str, ...], join: str) -> Cluster:
    """The devices that answer a source's requests, and the ways between all of them.

    A way's rate is that of a message which has it for itself: the slowest link's, where links that share a medium add up their airtimes.
    """
    devices = sorted({source, join, *workers})
    computing = sorted({join, *workers})
    tiers = {device: path_of(session, device, device).tiers[0] for device in computing}
    ways = {(one, other): _way(session, one, other) for one in devices for other in devices if one != other}
    return Cluster(source=source, workers=workers, join=join, tiers=tiers, ways=ways)


def _way(session: Session, source: str, destination: str) -> Way:
    hops = session.world.topology.route(source, destination).hops
    seconds_a_bit: defaultdict[tuple[str, str], float] = defaultdict(float)
    for hop in hops:
        capacity = ("link", hop.link.name) if hop.link.medium is None else ("medium", hop.link.medium)
        seconds_a_bit[capacity] += 1 / (hop.link.up_bps if hop.forward else hop.link.down_bps)
    return Way(latency_s=sum(hop.link.latency_s for hop in hops), bps=1 / max(seconds_a_bit.values()))
