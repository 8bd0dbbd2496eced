"""New models on their way to the devices that hold pieces of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

from netfl.workloads.served_model import ServedModel
from netfl.workloads.serving_plan import ServingPlan
from netfl.workloads.session import Session
from netfl.world import Message, Sending

__all__ = ["Rollout"]

Process = Generator[Any, Any, None]


class Rollout:
    """Which devices hold which nodes, of which versions of the model.

    Args:
        session: of the run.
        name: of the serving workload.
        model: that serves.
        plans: of every source, as they are now.
    """

    def __init__(self, session: Session, name: str, model: ServedModel, plans: Mapping[str, ServingPlan]) -> None:
        self.session = session
        self.world = session.world
        self.name = name
        self.model = model
        self.feed = model.feed
        self.plans = plans
        self.nodes_on: defaultdict[str, set[int]] = defaultdict(set)
        self.held: dict[str, set[int]] = {}
        self._newest: dict[tuple[str, ...], int] = {}
        # The version that each group of partners was last sent, by its first device; and what happens when one has been sent another.
        self._rolled_out: dict[str, int] = {}
        self._sent = self.world.env.event()
        self._others: Sequence[ServingPlan] = ()

    def place(self, nodes: Mapping[str, Iterable[int]]) -> None:
        """Say that devices run these nodes from now on, beside those that they run already."""
        for device, places in nodes.items():
            self.nodes_on[device].update(places)

    def start(self, together: Iterable[Sequence[str]], others: Sequence[ServingPlan]) -> None:
        """Version 0 is there; begin to bring every later one.

        Args:
            together: devices that answer some request together, each time.
            others: plans besides those of the sources, which may be needed at any time.
        """
        self._others = others
        # The model of version 0 was installed with the devices; every later one is sent.
        for device in sorted(self.nodes_on):
            self.hold(device, {0})
        for devices in self._partners(together):
            self._rolled_out[devices[0]] = 0
            self.world.env.process(self._roll_out(devices))

    def caught_up(self) -> Process:
        """Until the newest model has been sent to everyone who runs a piece of it."""
        while any(version < self.feed.version for version in self._rolled_out.values()):
            yield self._sent

    def version(self, plan: ServingPlan) -> int:
        """The newest version that all devices of a plan hold."""
        found = self._newest.get(plan.devices)
        if found is None:
            found = self._newest[plan.devices] = max(set[int].intersection(*(self.held[device] for device in plan.devices)))
        return found

    def hold(self, device: str, versions: set[int]) -> None:
        """Say which versions a device holds now."""
        self.held[device] = versions
        self._newest.clear()
        piece_bytes = sum(self.model.placed.nodes[node].parameter_bytes for node in self.nodes_on[device])
        self.world.keep(device, self.name, piece_bytes * len(versions))

    def _partners(self, together: Iterable[Sequence[str]]) -> list[list[str]]:
        """The devices with pieces, grouped so that all that answer some request together are in one group."""
        group_of = {device: {device} for device in sorted(self.nodes_on)}
        for devices in together:
            joined = set().union(*(group_of[device] for device in devices))
            for device in joined:
                group_of[device] = joined
        return sorted({id(group): sorted(group) for group in group_of.values()}.values())

    def _roll_out(self, devices: list[str]) -> Process:
        """Bring new models to a group of partners, one version after the other; what is outdated before its turn is skipped.

        All partners are sent the same versions, so that they have some in common however fast their links are; one that
        the network fails goes on with what it has.
        """
        while True:
            if self.feed.version <= self._rolled_out[devices[0]]:
                yield self.feed.changed
                continue
            version = self.feed.version
            sendings: dict[str, Sending] = {}
            for device in devices:
                sending = self.send(device, version, self.nodes_on[device], f"version {version}")
                if sending is not None:
                    sendings[device] = sending
                else:
                    self.hold(device, self.held[device] | {version})
            for device, sending in sendings.items():
                yield sending
                if sending.delivered:
                    self.hold(device, self.held[device] | {version})
            self._drop_outdated(devices)
            self._rolled_out[devices[0]] = version
            sent, self._sent = self._sent, self.world.env.event()
            sent.succeed()

    def send(self, device: str, version: int, nodes: set[int], label: str) -> Sending | None:
        """Send a device parameters; None where there is nothing to send."""
        payload_bytes = self.model.message_bytes(version, nodes)
        if not payload_bytes or device == self.feed.server:
            return None
        message = Message(kind="model", payload_bytes=payload_bytes, workload=self.name, label=label)
        return self.world.send(self.feed.server, device, message)

    def _drop_outdated(self, devices: list[str]) -> None:
        """Forget versions older than any that a device's requests still use."""
        for device in devices:
            used = [self.version(plan) for plan in (*self.plans.values(), *self._others) if device in plan.devices]
            if used:
                self.hold(device, {version for version in self.held[device] if version >= min(used)})
