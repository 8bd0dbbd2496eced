"""All ways for several devices to answer together, on one scenario: what each takes of whom, and what one simulated request takes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from netfl.codecs import dense_bytes
from netfl.errors import NetflError
from netfl.placement.stages import Cluster, StageEstimate, estimate_stages
from netfl.scenario import Loaded
from netfl.scenario.build import prepare
from netfl.store import Store
from netfl.workloads.cooperating import Spent
from netfl.workloads.cooperation import COOPERATIONS, Cooperation, cluster_of
from netfl.workloads.cooperation_rehearsal import idle_request, reckoned_lengths
from netfl.workloads.cooperative import Cooperative
from netfl.workloads.session import Session

__all__ = ["Shared", "SharedGroup", "Sharing", "compare_cooperations"]


@dataclass(frozen=True, kw_only=True)
class Shared:
    """One way to share the work of a request.

    Args:
        kind: of the cooperation; `alone` is the whole model on the first worker.
        estimate: bounds of what a request takes on idle devices and links.
        spent: where the time of one went, simulated on an idle network.
        sent_bytes: of all messages of a request, the reply left out.
        messages: how many these are.
        parameter_bytes: the most that a device stores.
        memory_bytes: the most that a device holds, activations included.
        error: why it cannot be done.
    """

    kind: str
    estimate: StageEstimate | None = None
    spent: Spent | None = None
    sent_bytes: int = 0
    messages: int = 0
    parameter_bytes: int = 0
    memory_bytes: int = 0
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class SharedGroup:
    """Devices that ask over equal ways.

    Args:
        sources: their names.
        rows: one a way to share the work.
    """

    sources: tuple[str, ...]
    rows: tuple[Shared, ...]


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """All ways to share the work of a workload's requests.

    Args:
        scenario: its name.
        workload: its name.
        workers: who computes.
        join: who makes the answer.
        groups: by equal ways from who asks to the others.
    """

    scenario: str
    workload: str
    workers: tuple[str, ...]
    join: str
    groups: tuple[SharedGroup, ...]


def compare_cooperations(loaded: Loaded, workload: str, *, store: Store | None = None, trust_code: bool = False) -> Sharing:
    """Every kind of cooperation for a cooperative workload; nothing is trained.

    Args:
        loaded: the scenario.
        workload: name of the workload.
        store: where values are computed.
        trust_code: whether code that the scenario names may run.

    Raises:
        ScenarioError: the scenario is wrong.
    """
    settings: Any = loaded.scenario.workloads[workload]
    # What cannot be done is a row here and no error.
    anyhow = Loaded(
        replace(loaded.scenario, workloads={**loaded.scenario.workloads, workload: replace(settings, placement=_Anything())}),
        loaded.built,
        loaded.tree,
        loaded.given,
    )
    session = prepare(anyhow, store, trust_code=trust_code).session(None)
    own = COOPERATIONS.kind_of(settings.placement)
    tried: dict[str, Cooperation] = {
        kind: settings.placement if kind == own else COOPERATIONS.find(kind)() for kind in COOPERATIONS.kinds()
    }
    groups: defaultdict[object, list[Cluster]] = defaultdict(list)
    for cluster in settings.clusters(session):
        groups[_way_in(cluster)].append(cluster)
    found = []
    for clusters in groups.values():
        first = clusters[0]
        rows = [_row(session, settings, kind, each, first) for kind, each in tried.items()]
        if len(first.workers) > 1:
            lone = cluster_of(session, first.source, first.workers[:1], first.workers[0])
            rows.append(_row(session, settings, "alone", COOPERATIONS.find("filter_split")(), lone))
        found.append(SharedGroup(sources=tuple(cluster.source for cluster in clusters), rows=tuple(rows)))
    return Sharing(scenario=loaded.scenario.name, workload=workload, workers=settings.workers, join=settings.joining, groups=tuple(found))


@dataclass(frozen=True, kw_only=True)
class _Anything:
    """No way to share: nothing to check."""

    @property
    def wait_s(self) -> None:
        return None

    def problems(self, session: Session, clusters: Any) -> Any:
        return iter(())


def _way_in(cluster: Cluster) -> object:
    """What tells a source from others: its ways to those who compute, and whether it is one of them."""
    places = [*cluster.workers, cluster.join]
    return tuple(
        (device == cluster.source, cluster.ways.get((cluster.source, device)), cluster.ways.get((device, cluster.source)))
        for device in places
    )


def _row(session: Session, settings: Cooperative, kind: str, cooperation: Cooperation, cluster: Cluster) -> Shared:
    try:
        placement = cooperation.foreseen(session, cluster)
    except (NetflError, ValueError) as error:
        return Shared(kind=kind, error=str(error))
    shared = replace(settings, placement=cooperation, workers=cluster.workers, join=cluster.join)
    lengths = reckoned_lengths(shared, placement)
    by_values = {crossing.values: length for crossing, length in zip(placement.crossings, lengths, strict=False)}
    result_bytes = dense_bytes(session.task.facts.num_classes)
    return Shared(
        kind=kind,
        estimate=estimate_stages(placement, cluster.tiers, cluster.ways, by_values.__getitem__, result_bytes),
        spent=idle_request(session, shared, cluster, placement),
        sent_bytes=sum(lengths),
        messages=len(lengths),
        parameter_bytes=max((count for _, count in placement.parameter_bytes), default=0),
        memory_bytes=max(placement.memory_bytes(device) for device in placement.devices),
    )
