"""The batches of one turn of sliced training on a world: who computes what when, and which messages go where.

The messages are those of `netfl.learning.slicing.executor`, in the same order of cause and effect: a holder computes as soon as it has all
that it needs, and sends what it made to each other holder that needs it, one message each.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import simpy

from netfl.compute import Work
from netfl.errors import RunError
from netfl.learning.slicing.schedule import Boundary
from netfl.learning.slicing.units import DOMINATOR
from netfl.world import Message, Sending, World

__all__ = ["RETRY_S", "Batches", "Plan", "Wire", "carry"]

RETRY_S = 1.0
"""Seconds after which a message that the network gave up is sent again; a choice."""

_NUMBER_BYTES = 4


@dataclass(frozen=True)
class Wire:
    """How a message gets from one holder to another.

    Args:
        server: relays what devices send to each other; None lets them send directly.
        envelope_bytes: what encryption adds to a message.
        seal_s: seconds that sealing a message takes, and opening it.
    """

    server: str | None
    envelope_bytes: int
    seal_s: float

    def legs(self, source: str, target: str) -> list[tuple[str, str]]:
        """The sends that carry a message, one after the other."""
        if self.server is None or self.server in (source, target):
            return [(source, target)]
        return [(source, self.server), (self.server, target)]


@dataclass(frozen=True)
class Plan:
    """What a batch takes, for roles; 0 is the dominator.

    Args:
        boundaries: from the input layer to the output layer.
        wire: of all messages.
        depth: batches under way at once.
    """

    boundaries: tuple[Boundary, ...]
    wire: Wire
    depth: int

    @cached_property
    def roles(self) -> tuple[int, ...]:
        """Every role that takes part, ascending."""
        return tuple(sorted({role for boundary in self.boundaries for role, _ in boundary.products}))

    @cached_property
    def weights(self) -> dict[int, int]:
        """How many weights and biases each role holds."""
        held: defaultdict[int, int] = defaultdict(int)
        for boundary in self.boundaries:
            for role, count in boundary.weights:
                held[role] += count
        return dict(held)

    @cached_property
    def values(self) -> dict[int, int]:
        """How many numbers a sample each role's units sum."""
        held: defaultdict[int, int] = defaultdict(int)
        for boundary in self.boundaries:
            for role, count in boundary.unit_values:
                held[role] += count
        return dict(held)

    @cached_property
    def products(self) -> tuple[dict[int, int], ...]:
        """For each boundary, each role's multiplications a sample."""
        return tuple(dict(boundary.products) for boundary in self.boundaries)

    @cached_property
    def inputs_of(self) -> tuple[dict[int, int], ...]:
        """For each boundary, how many sums each role after it waits for."""
        found = []
        for boundary in self.boundaries:
            count = dict.fromkeys(boundary.receivers, 0)
            for bundle in boundary.bundles:
                count[bundle.target] += 1
            for role, _ in boundary.products:
                if role in count:
                    count[role] += 1
            found.append(count)
        return tuple(found)

    @cached_property
    def errors_of(self) -> tuple[dict[int, int], ...]:
        """For each boundary, how many errors each role before it waits for."""
        found = []
        for boundary in self.boundaries:
            count = {role: int(role in boundary.receivers) for role, _ in boundary.products}
            for bundle in boundary.bundles:
                count[bundle.source] += 1
            found.append(count)
        return tuple(found)

    def memory_bytes(self, role: int, batch: int) -> int:
        """What a holder needs: its weights, a copy for each batch under way, their gradients, and the batches' sums and errors."""
        weights, values = self.weights.get(role, 0), self.values.get(role, 0)
        return _NUMBER_BYTES * (weights * (1 + self.depth) + 2 * self.depth * batch * values)

    def work(self, place: int, role: int, batch: int, times: int) -> Work:
        """Multiplying forwards (times 1), or making both gradients backwards (times 2), for one boundary."""
        products = self.products[place][role] * batch
        weights = dict(self.boundaries[place].weights)[role]
        return Work(
            kind="training",
            flop=2.0 * times * products,
            moved_bytes=_NUMBER_BYTES * times * (weights + batch * self.values.get(role, 0)),
            memory_bytes=self.memory_bytes(role, batch),
        )


class Batches:
    """Batches under way.

    Args:
        world: where.
        plan: what a batch takes.
        devices: of each role, from 0 on.
        batches: samples of each batch, in order.
        workload: who sends.
        label: of messages and computations.
        remembers: whether it keeps every message and transfer for later; otherwise only transfers that are under way.
    """

    def __init__(
        self,
        world: World,
        plan: Plan,
        devices: Sequence[str],
        batches: Sequence[int],
        workload: str,
        label: str,
        *,
        remembers: bool = False,
    ) -> None:
        self.world = world
        self.plan = plan
        self.devices = tuple(devices)
        self.batches = tuple(batches)
        self.workload = workload
        self.label = label
        self.done = world.env.event()
        self.ended = 0
        self.cancelled = False
        self.sendings: dict[Sending, None] = {}
        self._remembers = remembers
        self.computed: defaultdict[int, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        self.messages: list[tuple[int, int, int, str, int]] = []
        self._over: set[int] = set()
        self._begun = 0
        self._begin()

    def cancel(self) -> None:
        """Stop: what is on its way is wasted, and nothing more begins."""
        self.cancelled = True
        for sending in tuple(self.sendings):
            sending.abort()

    def _begin(self) -> None:
        """Begin every batch that may: the one so many before it has ended."""
        while self._begun < len(self.batches) and self._begun < self.ended + self.plan.depth:
            number, self._begun = self._begun, self._begun + 1
            _Batch(self, number).begin()

    def _batch_over(self, number: int) -> None:
        self._over.add(number)
        while self.ended in self._over:
            self.ended += 1
        if self.ended == len(self.batches):
            self.done.succeed()
        else:
            self._begin()

    def compute(self, role: int, work: Work, then: Callable[[], None]) -> None:
        """Have a holder do work."""
        computing = self.world.compute(self.devices[role], work, workload=self.workload, label=self.label)

        def ended(_: simpy.Event) -> None:
            total = self.computed[role]
            total[0] += work.flop
            total[1] += computing.job.busy_s
            total[2] = max(total[2], work.memory_bytes)
            if not self.cancelled:
                then()

        computing.callbacks.append(ended)

    def send(self, source: int, target: int, place: int, direction: str, numbers: int, batch: int, then: Callable[[], None]) -> None:
        """Carry numbers from one holder to another."""
        if self._remembers:
            self.messages.append((source, target, place, direction, numbers * batch))
        payload_bytes = _NUMBER_BYTES * numbers * batch + self.plan.wire.envelope_bytes
        message = Message(kind="activation", payload_bytes=payload_bytes, workload=self.workload, label=self.label)
        self._leg(self.plan.wire.legs(self.devices[source], self.devices[target]), 0, message, then)

    def _leg(self, legs: list[tuple[str, str]], number: int, message: Message, then: Callable[[], None]) -> None:
        """One send after the other; sealed before the first and opened after the last."""
        if self.cancelled:
            return
        seal_s = self.plan.wire.seal_s
        if number == len(legs):
            self._after(seal_s, then)
        elif number == 0 and seal_s > 0:
            self._after(seal_s, lambda: self._go(legs, 0, message, then))
        else:
            self._go(legs, number, message, then)

    def _go(self, legs: list[tuple[str, str]], number: int, message: Message, then: Callable[[], None]) -> None:
        if self.cancelled:
            return
        sending = self.world.send(*legs[number], message)
        self.sendings[sending] = None

        def ended(_: simpy.Event) -> None:
            if not self._remembers:
                del self.sendings[sending]
            if self.cancelled:
                return
            if sending.delivered:
                self._leg(legs, number + 1, message, then)
            else:
                self._after(RETRY_S, lambda: self._go(legs, number, message, then))

        sending.callbacks.append(ended)

    def _after(self, seconds: float, then: Callable[[], None]) -> None:
        if seconds > 0:
            self.world.sleep(seconds).callbacks.append(lambda _: None if self.cancelled else then())
        else:
            then()


class _Batch:
    """One batch: counts of what each holder still waits for."""

    def __init__(self, of: Batches, number: int) -> None:
        self._of = of
        self._number = number
        self._samples = of.batches[number]
        self._sums = [dict(each) for each in of.plan.inputs_of]
        self._errors = [dict(each) for each in of.plan.errors_of]
        self._left = sum(map(len, self._errors))

    def begin(self) -> None:
        """The dominator multiplies the inputs."""
        self._multiply(0, DOMINATOR)

    def _multiply(self, place: int, role: int) -> None:
        work = self._of.plan.work(place, role, self._samples, 1)
        self._of.compute(role, work, lambda: self._send_sums(place, role))

    def _send_sums(self, place: int, role: int) -> None:
        boundary = self._of.plan.boundaries[place]
        for bundle in boundary.bundles:
            if bundle.source == role:
                self._send(role, bundle.target, place, "sums", bundle.sums, self._take_sums)
        if role in boundary.receivers:
            self._take_sums(place, role)

    def _send(self, source: int, target: int, place: int, direction: str, numbers: int, take: Callable[[int, int], None]) -> None:
        self._of.send(source, target, place, direction, numbers, self._samples, lambda: take(place, target))

    def _take_sums(self, place: int, role: int) -> None:
        waiting = self._sums[place]
        waiting[role] -= 1
        if waiting[role]:
            return
        if place + 1 < len(self._sums):
            self._multiply(place + 1, role)
        else:
            self._send_errors(place, role)

    def _send_errors(self, place: int, role: int) -> None:
        """The errors of a holder's units after a boundary, to all who lead to them."""
        boundary = self._of.plan.boundaries[place]
        for bundle in boundary.bundles:
            if bundle.target == role:
                self._send(role, bundle.source, place, "errors", bundle.errors, self._take_errors)
        if role in self._errors[place]:
            self._take_errors(place, role)

    def _take_errors(self, place: int, role: int) -> None:
        waiting = self._errors[place]
        waiting[role] -= 1
        if not waiting[role]:
            times = 2 if place else 1
            self._of.compute(role, self._of.plan.work(place, role, self._samples, times), lambda: self._updated(place, role))

    def _updated(self, place: int, role: int) -> None:
        """A holder has its gradients over a boundary and the errors of its units before it."""
        if place:
            self._send_errors(place - 1, role)
        self._left -= 1
        if not self._left:
            self._of._batch_over(self._number)


def carry(
    world: World, wire: Wire, source: str, target: str, message: Message, sendings: list[Sending] | None = None
) -> Generator[Any, Any, None]:
    """Bring one sealed message to a device, trying as often as it takes.

    Raises:
        RunError: an end is down for good.
    """
    if wire.seal_s > 0:
        yield world.sleep(wire.seal_s)
    for leg in wire.legs(source, target):
        while True:
            sending = world.send(*leg, message)
            if sendings is not None:
                sendings.append(sending)
            yield sending
            if sending.delivered:
                break
            if sending.transfer.outcome == "aborted":
                return
            for device in leg:
                if not world.is_up(device) and math.isinf(world.next_change_s(device)):
                    raise RunError(
                        f"workload '{message.workload}': '{device}' went down with weights that others need, and never comes back"
                    )
            yield world.sleep(RETRY_S)
    if wire.seal_s > 0:
        yield world.sleep(wire.seal_s)
