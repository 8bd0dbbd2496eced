"""One world a run: devices and links on one clock, and the three verbs that move it.

`send`, `compute` and `sleep` return SimPy events; everything else in netfl is plain computation at an instant. The world
writes to the trace what its verbs did, and at the end what every link and device carried and spent.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import simpy

from netfl.compute import DeviceProfile, Job, Past, Processor, Work
from netfl.network.battery import Draw, Supply
from netfl.network.fabric import Fabric
from netfl.network.outages import Timeline
from netfl.network.routes import Hop, Route
from netfl.network.timelines import Timelines
from netfl.network.topology import Link, Topology
from netfl.network.transport import Sent, TransportPart
from netfl.randomness import Streams
from netfl.trace import Computation, DeviceLoad, DeviceUse, LinkLoad, LinkUse, Outage, RunEnd, Trace, Wait
from netfl.trace import Transfer as TransferRow
from netfl.world.carried import Carried
from netfl.world.messages import Message
from netfl.world.processors import Processors

__all__ = ["Computing", "Sending", "World"]


class Sending(simpy.Event):
    """A `send` under way; succeeds when the transfer has ended, whichever way.

    Like all events of a run, with nothing that has the event: each would be a cycle of garbage that waits for the collector.
    """

    __slots__ = ("message", "number", "transfer")

    transfer: Sent

    def __init__(self, env: simpy.Environment, message: Message, number: int, ended: Callable[[Sending], None]) -> None:
        super().__init__(env)
        self.message = message
        self.number = number
        # The world's books come first, before anyone who waits.
        self.callbacks.append(ended)

    @property
    def delivered(self) -> bool:
        """Whether the last byte arrived."""
        return self.transfer.outcome == "delivered"

    def abort(self) -> None:
        """Cut it off: what has moved is wasted. Does nothing once it has ended."""
        if not self.triggered:
            self.transfer.abort()

    def _over(self, transfer: Sent) -> None:
        self.transfer = transfer
        if len(self.callbacks) > 1 or not transfer.route.hops:
            self.succeed()
        else:
            # Nobody waits: it has been processed without an event of its own. Whoever asks later goes on at once.
            (ended,) = self.callbacks
            self.callbacks = None  # type: ignore[assignment]  # SimPy's mark of a processed event
            self._ok = True
            self._value = None
            ended(self)


class Computing(simpy.Event):
    """A `compute` under way; succeeds when its last step has ended."""

    __slots__ = ("job",)

    job: Job


class _Going:
    """A process that nobody waits for. What it awaits succeeds or never comes: no event of netfl's fails."""

    __slots__ = ("_process",)

    def __init__(self, process: Generator[simpy.Event, Any, Any]) -> None:
        self._process = process

    def go_on(self, event: simpy.Event | None) -> None:
        """Take the step that an event lets it take, and those behind it that need not wait."""
        send, value = self._process.send, None if event is None else event._value
        try:
            awaited = send(value)
            while awaited.processed:
                awaited = send(awaited._value)
            awaited.callbacks.append(self.go_on)
        except StopIteration:
            return


class World:
    """Devices, links and one clock.

    Args:
        topology: devices' sites, links and media.
        profiles: device name to what it can compute; every site has one.
        transport: how transfers behave.
        streams: the run's random streams.
        trace: where the rows go.
        always_up: whether outages and batteries are left out.
    """

    def __init__(
        self,
        *,
        topology: Topology,
        profiles: Mapping[str, DeviceProfile],
        transport: TransportPart,
        streams: Streams,
        trace: Trace,
        always_up: bool = False,
    ) -> None:
        self.env = simpy.Environment()
        self.topology = topology
        self.transport = transport
        self.streams = streams
        self.trace = trace
        self._profiles = {name: profiles[name] for name in topology.sites}
        self._timelines = Timelines(Topology(()) if always_up else topology, streams, self._supply)
        self._has_batteries = any(True for _ in self._timelines.with_batteries())
        fabric = self._fabric = Fabric(self.env, topology, self._timelines)
        self._transport = transport.connect(self.env, fabric, topology, streams)
        self._processors = Processors(topology, self._new_processor)
        self._sendings: dict[int, Sending] = {}
        self._sent = 0
        # By workload and kind of message: bytes sent, delivered, wasted and in flight of link and direction, with the seconds for which they kept
        # the sender's radio on; and bytes on routes, where those and the links' rates say all of that.
        self._carried: defaultdict[tuple[str, bool, str, str], list[Any]] = defaultdict(lambda: [0, 0, 0, 0, 0.0])
        self._carried_on: defaultdict[tuple[str, str], Carried] = defaultdict(lambda: Carried(topology))
        # Of devices; those that are known by route are added at the end.
        self._bytes_up: defaultdict[str, int] = defaultdict(int)
        self._bytes_down: defaultdict[str, int] = defaultdict(int)
        self._storage_bytes: defaultdict[str, dict[str, int]] = defaultdict(dict)
        # Of the devices for whose memory somebody waits.
        self._freed: dict[str, simpy.Event] = {}

    @property
    def now(self) -> float:
        """Simulated seconds since the run's beginning."""
        return float(self.env.now)

    # --- the three verbs ----------------------------------------------------------------------------------------------------

    def send(self, source: str, destination: str, message: Message) -> Sending:
        """Send a message over the network; the event succeeds when the transfer has ended.

        Raises:
            NoRouteError: no path of links joins the two devices.
        """
        self._sent = number = self._sent + 1
        sending = Sending(self.env, message, number, self._ended)
        sending.transfer = self._transport.send(source, destination, message.payload_bytes, sending._over)
        self._sendings[number] = sending
        return sending

    def compute(self, device: str, work: Work, *, workload: str, label: str = "") -> Computing:
        """Do work on a device's processor; the event succeeds when it has ended."""
        computing = Computing(self.env)

        def ended(job: Job) -> None:
            # The fields of a `Computation`, in their order.
            self.trace.append_values(
                Computation, (device, workload, work.kind, label, work.flop, job.queued_s, job.start_s, job.end_s, job.busy_s)
            )
            if self._freed:
                self._memory_changed(device)
            computing.succeed()

        computing.job = self._processors.of(device).submit(work, ended)
        return computing

    def sleep(self, seconds: float) -> simpy.Event:
        """Let simulated time pass; what is to come after infinitely many seconds never does."""
        return self.env.event() if seconds == math.inf else self.env.timeout(seconds)

    def go(self, process: Generator[simpy.Event, Any, Any]) -> None:
        """Begin a process that nobody waits for: its first step is taken at once, and neither beginning nor end costs an event."""
        _Going(process).go_on(None)

    def step(self) -> bool:
        """Let the next event happen; whether there was one."""
        try:
            self.env.step()
        except simpy.core.EmptySchedule:
            return False
        return True

    # --- what workloads may ask ---------------------------------------------------------------------------------------------

    def is_up(self, device: str) -> bool:
        """Whether a device is up now."""
        return self._timelines.get(device).up_at(self.now)

    def up_among(self, devices: Iterable[str]) -> list[str]:
        """Those of some devices that are up now, in their order."""
        # Where nothing is ever down, nobody need be looked up: workloads ask of every device in every round.
        return [device for device in devices if self.is_up(device)] if self._timelines else list(devices)

    def next_change_s(self, device: str) -> float:
        """When a device next goes down or comes back; infinity if never. Of a device whose battery holds out: an instant before which it does not."""
        timeline = self._timelines.get(device)
        return timeline.earliest_change_s() if isinstance(timeline, Supply) else timeline.next_change_s(self.now)

    def profile(self, device: str) -> DeviceProfile:
        """What a device can compute."""
        return self._profiles[device]

    def busy_s(self, device: str) -> float:
        """Processor seconds of a device so far, whole steps of work in progress included."""
        return self._processors.of(device).busy_s()

    def keep(self, device: str, name: str, num_bytes: int) -> None:
        """Say that a device stores something under a name, in place of what it stored there before."""
        self._storage_bytes[device][name] = num_bytes
        if self._freed:
            self._memory_changed(device)

    def free_bytes(self, device: str) -> int:
        """Memory of a device beside what it stores and what work that has begun there holds; below 0 where that is too much already."""
        processor = self._processors.get(device)
        held_bytes = 0 if processor is None else processor.memory_bytes
        return self._profiles[device].memory_bytes - sum(self._storage_bytes[device].values()) - held_bytes

    def memory_changed(self, device: str) -> simpy.Event:
        """Succeeds when work on a device has ended, or when it stores something else."""
        return self._freed.setdefault(device, self.env.event())

    def _memory_changed(self, device: str) -> None:
        if device in self._freed:
            self._freed.pop(device).succeed()

    def next_change_of_s(self, route: Route) -> float:
        """When a site or link on a route next goes down or comes back; infinity if never. Of batteries, an instant before which they cannot decide
        anything: now, if one of them harvests more than its device draws at idle.
        """
        if any(supply.may_overflow for supply in self._supplies_of(route.devices)):
            return self.now
        links = [hop.link.name for hop in route.hops]
        changes = [self.next_change_s(name) for name in route.devices]
        return min(*changes, *(self._timelines.get(name).next_change_s(self.now) for name in links), math.inf)

    def all_up(self, route: Route) -> bool:
        """Whether all sites and links on a route are up now."""
        names = [*route.devices, *(hop.link.name for hop in route.hops)]
        return all(self._timelines.get(name).up_at(self.now) for name in names)

    # --- what was rehearsed elsewhere ---------------------------------------------------------------------------------------

    def rehearsal(self) -> World:
        """A world of the same devices and links at time 0, without outages and with a trace of its own: for finding out what something takes
        that has them for itself.
        """
        return World(
            topology=self.topology, profiles=self._profiles, transport=self.transport, streams=self.streams, trace=Trace(), always_up=True
        )

    def book_transfers(
        self, source: str, destination: str, message: Message, start_s: float, sent_bytes: int, latency_s: float, *, delivered: bool
    ) -> None:
        """Write down transfers that were rehearsed, as one row that ends now: all of them arrived, or all are under way.

        The message's payload is that of all of them; every byte crossed every hop of the route. What is not latency of that time is a wait
        `rehearsed`: their bits moved, or something else did.
        """
        self._sent += 1
        route = self.topology.route(source, destination)
        carried = self._carried_on[message.workload, message.kind][route]
        carried[0 if delivered else 2] += sent_bytes
        for hop in route.hops if self._has_batteries else ():
            transmit_w, receive_w = _radio_powers(hop.link, hop.forward)
            for name, power_w in ((hop.source, transmit_w), (hop.destination, receive_w)):
                for supply in self._supplies_of([name]):
                    supply.take(power_w * hop.air_s(sent_bytes))
        self.trace.append(
            TransferRow(
                transfer=self._sent, workload=message.workload, kind=message.kind, label=message.label, source=source,
                destination=destination, route=route.text, payload_bytes=message.payload_bytes, start_s=start_s,
                end_s=self.now, outcome="delivered" if delivered else "in_flight", attempts=1, sent_bytes=sent_bytes, wasted_bytes=0,
                latency_s=latency_s, stalled_s=0.0,
            )
        )  # fmt: skip
        rest_s = self.now - start_s - latency_s
        if rest_s > 0:
            self.trace.append(
                Wait(transfer=self._sent, cause="rehearsed", element="", seconds=rest_s, share=0.0, rate_bps=8 * sent_bytes / rest_s)
            )

    def book_computations(self, device: str, work: Work, start_s: float, busy_s: float, *, workload: str, label: str) -> None:
        """Write down work that was rehearsed, as one row that ends now."""
        self._processors.of(device).book(busy_s, work.memory_bytes)
        profile = self._profiles[device]
        for supply in self._supplies_of([device]):
            supply.take((profile.busy_w - profile.idle_w) * busy_s)
        self.trace.append(
            Computation(
                device=device, workload=workload, kind=work.kind, label=label, flop=work.flop,
                queued_s=start_s, start_s=start_s, end_s=self.now, busy_s=busy_s,
            )
        )  # fmt: skip

    # --- the end ------------------------------------------------------------------------------------------------------------

    def finish(self, reason: str) -> None:
        """Close the books: transfers under way, and what every link and device carried and spent."""
        self._transport.close()
        for sending in self._sendings.values():
            self._record(sending)
        self._sendings.clear()
        self._record_outages()
        radio_j = self._record_links()
        pasts = self._processors.pasts()
        self._record_devices(radio_j, pasts)
        self._note_processors(pasts)
        self.trace.append(RunEnd(simulated_s=self.now, reason=reason))
        self.trace.flush()

    def _new_processor(self, device: str, past: Past) -> Processor:
        uptime = self._timelines.get(device)
        announce = uptime.computes if isinstance(uptime, Supply) else None
        processor = Processor(self.env, self._profiles[device], uptime, announce, past)
        if isinstance(uptime, Supply):
            self._fabric.follow(uptime)
            uptime.tell(processor.recheck)
        return processor

    def _supply(self, name: str, outages: Timeline) -> Timeline:
        """The availability of a device with a battery."""
        battery, profile = self.topology.sites[name].battery, self._profiles[name]
        assert battery is not None
        radios_w = 0.0
        for link in self.topology.links_at(name):
            for forward, source, destination in ((True, link.a, link.b), (False, link.b, link.a)):
                rates, rate_bps = (link.up_rates, link.up_bps) if forward else (link.down_rates, link.down_bps)
                # Airtime is counted at the mean rate, which the rate of an instant may exceed.
                share = link.duty_cycle * (1.0 if rates is None else max(1.0, rates.most_bps / rate_bps))
                transmit_w, receive_w = _radio_powers(link, forward)
                radios_w += (transmit_w if name == source else receive_w if name == destination else 0.0) * share
        draw = Draw(profile.idle_w, profile.busy_w - profile.idle_w, (profile.busy_w + radios_w) * (1 + 1e-9))
        return Supply(self.env, name, battery, draw, outages)

    def _supplies_of(self, names: Sequence[str], glances: bool = False) -> list[Supply]:
        """The batteries of those devices that have one."""
        if not self._has_batteries:
            return []
        found = [self._timelines.glance(name) if glances else self._timelines.get(name) for name in names]
        return [timeline for timeline in found if isinstance(timeline, Supply)]

    def _ended(self, sending: Sending) -> None:
        del self._sendings[sending.number]
        self._record(sending)

    def _record(self, sending: Sending) -> None:
        transfer, message = sending.transfer, sending.message
        route = transfer.route
        workload, kind = message.workload, message.kind
        delivered, wasted = transfer.delivered_bytes, transfer.wasted_bytes
        if transfer.even:
            # These are added up by route, and by link and device only at the end.
            in_flight = transfer.in_flight_bytes if transfer.outcome == "in_flight" else 0
            sent = delivered + wasted + in_flight
            carried = self._carried_on[workload, kind][route]
            carried[0] += delivered
            carried[1] += wasted
            carried[2] += in_flight
        else:
            sent = transfer.sent_bytes
            for hop, *moved in transfer.hop_bytes():
                _add(self._carried[hop.link.name, hop.forward, workload, kind], moved)
            self._bytes_up[route.source] += sent
            self._bytes_down[route.destination] += delivered
        # The fields of a `TransferRow`, in their order.
        self.trace.append_values(
            TransferRow,
            (
                sending.number, workload, kind, message.label, route.source, route.destination, route.text,
                message.payload_bytes, transfer.start_s, transfer.end_s, transfer.outcome,
                transfer.attempts, sent, wasted, transfer.latency_s, transfer.stalled_s,
            ),
        )  # fmt: skip
        for cause, element, seconds, moved_bits, share in transfer.held:
            # The fields of a `Wait`, in their order.
            self.trace.append_values(Wait, (sending.number, cause, element, seconds, share, moved_bits / seconds))

    def _record_outages(self) -> None:
        rows = [
            Outage(element=name, element_kind="device" if name in self.topology.sites else "link", start_s=start, end_s=end)
            for name in self._timelines.asked()
            for start, end in self._timelines.glance(name).down_intervals(self.now)
        ]
        rows += [
            Outage(element=name, element_kind="device", start_s=start, end_s=end, reason=reason)
            for name in self._timelines.with_batteries()
            for supply in self._supplies_of([name], glances=True)
            for start, end, reason in supply.downtimes(self.now)
        ]
        for row in sorted(rows, key=lambda row: (row.start_s, row.element)):
            self.trace.append(row)

    def _record_links(self) -> dict[str, list[float]]:
        """Write the use of every link; joules per device spent sending and receiving."""
        # A route's hops are the topology's own, one object each: what they carried is added up by these.
        books: dict[tuple[str, str], dict[Hop, list[Any]]] = {}
        before, bytes_up, bytes_down = self._carried, self._bytes_up, self._bytes_down
        for (workload, kind), on_routes in self._carried_on.items():
            on_hop = books[workload, kind] = {}
            for route, (delivered, wasted, in_flight) in on_routes.totals():
                sent = delivered + wasted + in_flight
                bytes_up[route.source] += sent
                bytes_down[route.destination] += delivered
                for hop in route.hops:
                    book = on_hop.get(hop)
                    if book is None and before:
                        book = on_hop[hop] = before.pop((hop.link.name, hop.forward, workload, kind), [0, 0, 0, 0, 0.0])
                    if book is None:
                        on_hop[hop] = [sent, delivered, wasted, in_flight, hop.air_s(sent)]
                    else:
                        book[0] += sent
                        book[1] += delivered
                        book[2] += wasted
                        book[3] += in_flight
                        book[4] += hop.air_s(sent)
        self._carried_on.clear()
        entries = [
            (hop.link.name, hop.forward, workload, kind, book) for (workload, kind), on_hop in books.items() for hop, book in on_hop.items()
        ]
        entries += [(*key, book) for key, book in self._carried.items()]
        entries.sort()
        spent: dict[str, list[float]] = {}
        busy_s: dict[tuple[str, str, str], float] = {}

        def rows() -> Iterator[tuple[Any, ...]]:
            links = self.topology.links
            for name, forward, workload, kind, (sent, delivered, wasted, in_flight, air_s) in entries:
                link = links[name]
                source, destination = (link.a, link.b) if forward else (link.b, link.a)
                transmit_w, receive_w = _radio_powers(link, forward)
                transmit_j, receive_j = transmit_w * air_s, receive_w * air_s
                if transmit_w:
                    spent.setdefault(source, [0.0, 0.0])[0] += transmit_j
                if receive_w:
                    spent.setdefault(destination, [0.0, 0.0])[1] += receive_j
                busy_s[name, source, destination] = busy_s.get((name, source, destination), 0.0) + air_s
                # The fields of a `LinkUse`, in their order.
                yield name, source, destination, workload, kind, sent, delivered, wasted, in_flight, transmit_j, receive_j

        # Some at a time: there may be hundreds of thousands.
        self.trace.extend(LinkUse, rows())
        # The fields of a `LinkLoad`, in their order.
        self.trace.extend_notes(LinkLoad, [(*key, seconds) for key, seconds in busy_s.items()])
        return spent

    def _note_processors(self, pasts: Mapping[str, Past]) -> None:
        now = self.now
        for name, past in pasts.items():
            mean = past.waiting_s / now if now else 0.0
            self.trace.note(DeviceLoad(device=name, busy_s=past.busy_s, mean_waiting=mean, most_waiting=past.most_waiting))

    def _record_devices(self, radio_j: Mapping[str, list[float]], pasts: Mapping[str, Past]) -> None:
        now = self.now
        nothing = [0.0, 0.0]
        sites, no_past = self.topology.sites, Past()

        def rows() -> Iterator[tuple[Any, ...]]:
            for name in sorted(sites):
                profile, past = self._profiles[name], pasts.get(name, no_past)
                busy_s = past.busy_s
                transmit_j, receive_j = radio_j.get(name, nothing)
                lived_s = now - sum(supply.empty_s() for supply in self._supplies_of([name], glances=True)) if self._has_batteries else now
                stored = self._storage_bytes.get(name)
                storage_bytes = sum(stored.values()) if stored else 0
                # The fields of a `DeviceUse`, in their order.
                yield (
                    name, sites[name].tier, busy_s, (profile.busy_w - profile.idle_w) * busy_s, profile.idle_w * lived_s, transmit_j, receive_j,
                    self._bytes_up.get(name, 0), self._bytes_down.get(name, 0),
                    storage_bytes + past.peak_memory_bytes, storage_bytes,
                )  # fmt: skip

        self.trace.extend(DeviceUse, rows())


def _add(carried: list[Any], moved: Sequence[Any]) -> None:
    for place, count in enumerate(moved):
        carried[place] += count


def _radio_powers(link: Link, forward: bool) -> tuple[float, float]:
    """Of the radios that send and that receive in a direction of a link."""
    return (link.transmit_w, link.b_receive_w) if forward else (link.b_transmit_w, link.receive_w)
