"""Hierarchical federated averaging: gateways and edge servers aggregate on the way to the server.

L. Liu, J. Zhang, S. Song, K. Letaief, "Client-edge-cloud hierarchical federated learning", ICC 2020 (HierFAVG): an edge
aggregates its clients kappa_2 times for each time that the cloud aggregates the edges; an edge weighs as much as the samples
behind it. Here there may be any number of levels.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, MinLen

from netfl.errors import NoRouteError
from netfl.learning import values
from netfl.learning.aggregators import AGGREGATORS, Aggregator, Mean
from netfl.learning.select import SELECTORS, Selector, Uniform
from netfl.network.topology import Topology
from netfl.store import Recipe
from netfl.units import Duration
from netfl.workloads.checks import Found, aggregator_problems, check_positive, unmatched, unreachable
from netfl.workloads.federated import Federated, Process, Training
from netfl.workloads.hub import Hub, Member, train
from netfl.workloads.session import Session, Setting, matching

__all__ = ["Hierarchical", "Level", "nearest_hubs"]


@dataclass(frozen=True, kw_only=True)
class Level:
    """Devices that aggregate what those below them trained.

    Args:
        devices: names or patterns (`gateway-*`) of the aggregating devices.
        rounds: how often they aggregate before they report to the level above.
        members_per_round: how many members take part in a round of one of them; all when left out.
        deadline: a round of one of them ends after this long with the updates that it has; none waits for all.
    """

    devices: Annotated[tuple[str, ...], MinLen(1)]
    rounds: Annotated[int, Ge(1)] = 1
    members_per_round: Annotated[int, Ge(1)] | None = None
    deadline: Duration | None = None

    def __post_init__(self) -> None:
        check_positive("deadline", self.deadline)


@dataclass(frozen=True, kw_only=True)
class Hierarchical(Federated):
    """Rounds in which gateways and edge servers aggregate before the server does.

    Everyone reports to the device of the next level to which the route has the least latency, of equal ones the first by name.
    The codecs are used on every level.

    Args:
        levels: who aggregates on the way, from the level next to the clients up to the one below the server.
        selector: who takes part, where a level has `members_per_round`.
        aggregator: what each hub makes of its updates.
    """

    levels: Annotated[tuple[Level, ...], MinLen(1)]
    selector: Annotated[Selector, SELECTORS] = field(default_factory=Uniform)
    aggregator: Annotated[Aggregator, AGGREGATORS] = field(default_factory=Mean)

    def problems(self, setting: Setting) -> Found:
        """See `Workload`."""
        yield from super().problems(setting)
        above = {self.server: ("server",)}
        yield from aggregator_problems(self.aggregator, self.trainer, None, carries_controls=False)
        members = matching(self.clients, setting.topology)
        for index, level in enumerate(self.levels):
            for path, message in unmatched("devices", level.devices, setting):
                yield ("levels", index, *path), message
            hubs = matching(level.devices, setting.topology)
            for hub in hubs:
                if hub in members or hub in above:
                    yield ("levels", index, "devices"), f"'{hub}' has another part in this training already"
            if hubs and self.server in setting.topology.sites:
                for _, message in unreachable("devices", hubs, self.server, setting):
                    yield ("levels", index, "devices"), message
                cut_off = sorted(set(members) - set(nearest_hubs(setting.topology, members, hubs)))
                if cut_off:
                    yield ("levels", index, "devices"), f"no route from '{cut_off[0]}' to any of these devices"
            members = hubs

    def start(self, session: Session, name: str) -> Process:
        """The process of the whole training."""
        training = Training(self, session, name, self.server)
        topology = training.world.topology
        members: dict[str, Member] = dict(training.clients)
        for level in self.levels:
            below: dict[str, dict[str, Member]] = {}
            for member, hub in nearest_hubs(topology, list(members), matching(level.devices, topology)).items():
                below.setdefault(hub, {})[member] = members[member]
            members = {hub: _Branch(self._hub(training, hub, below[hub], level), level.rounds) for hub in sorted(below)}
        server = self._hub(training, self.server, members, None)
        return train(training, server)

    def _hub(self, training: Training, device: str, members: Mapping[str, Member], level: Level | None) -> Hub:
        """A hub of a level, or the server."""
        asked = len(members)
        if level is not None and level.members_per_round is not None:
            asked = min(asked, level.members_per_round)
        place = () if level is None else (device,)
        uplink, downlink = self.directions(training, *place)
        return Hub(
            training, device, members, uplink=uplink, downlink=downlink, per_round=asked, asked=asked,
            deadline_s=None if level is None else level.deadline, selector=self.selector, aggregator=self.aggregator,
            model=training.model, place=place,
        )  # fmt: skip


class _Branch:
    """A hub as a member of the hub above it."""

    def __init__(self, hub: Hub, rounds: int) -> None:
        self.name = hub.device
        self.num_samples = sum(member.num_samples for member in hub.members.values())
        self._hub = hub
        self._rounds = rounds

    def update(self, start: Recipe, turn: int, offset: Recipe | None = None) -> Recipe | None:
        """Not known before its members have trained."""
        return None

    def work(self, start: Recipe, update: Recipe | None, turn: int, label: str) -> Generator[Any, Any, Recipe]:
        """Some rounds with its members; what they changed."""
        self._hub.model = start
        for number in range(self._rounds):
            yield from self._hub.round((turn - 1) * self._rounds + number + 1)
        return values.difference(self._hub.model, start)


def nearest_hubs(topology: Topology, members: list[str], hubs: list[str]) -> dict[str, str]:
    """The hub of each member: the one with the least latency on the route, of equal ones the first by name.

    Members without a route to any hub are left out.
    """
    found: dict[str, str] = {}
    for member in members:
        reached = []
        for hub in hubs:
            try:
                reached.append((topology.route(member, hub).latency_s, hub))
            except NoRouteError:
                continue
        if reached:
            found[member] = min(reached)[1]
    return found
