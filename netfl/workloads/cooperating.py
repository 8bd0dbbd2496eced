"""A cooperative serving workload under way: for each request every device's part, in stages, with a barrier at each receiver."""

from __future__ import annotations

import functools
from collections.abc import Generator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import simpy

from netfl.codecs import Pipeline, dense_bytes
from netfl.compute import Work
from netfl.errors import CodecError, NetflError, RunError
from netfl.learning import values
from netfl.placement.profile import VALUE_BYTES
from netfl.placement.stages import Cluster, Crossing, Share, StagedPlacement, share_s
from netfl.trace import Request
from netfl.workloads.cooperation import Answering
from netfl.workloads.divergence import Trained, Unchecked
from netfl.workloads.inference import Answers
from netfl.workloads.session import Session
from netfl.world import Message

if TYPE_CHECKING:
    from netfl.workloads.cooperative import Cooperative

__all__ = ["Cooperating", "Spent", "UnderWay"]

Process = Generator[Any, Any, None]


@dataclass(frozen=True, slots=True)
class Spent:
    """Where the time of a request went until an instant, along the chain of work and messages that led to it.

    Args:
        until_s: the instant.
        queue_s: waiting for processors.
        compute_s: in processors.
        transmit_s: bytes moving, and what was waited for that did not come in time.
        propagation_s: latency of links.
    """

    until_s: float
    queue_s: float = 0.0
    compute_s: float = 0.0
    transmit_s: float = 0.0
    propagation_s: float = 0.0


@dataclass(frozen=True)
class _Plan:
    """How the requests of one source are answered.

    Args:
        cluster: the devices.
        placement: what they do.
        work: of each stage, by device.
        everybody: the devices that do anything, the asking one included.
        made_by: of each worker, the message that carries what it made, by its place in `StagedPlacement.crossings`; None where it joins itself.
    """

    cluster: Cluster
    placement: StagedPlacement
    work: tuple[dict[str, Work], ...]
    everybody: tuple[str, ...]
    made_by: tuple[int | None, ...]


class Cooperating:
    """One cooperative workload under way.

    Args:
        settings: of the workload.
        session: of the run.
        name: of the workload.
    """

    def __init__(self, settings: Cooperative, session: Session, name: str) -> None:
        self.settings = settings
        self.session = session
        self.world = session.world
        self.name = name
        self.deadline_s = float("inf") if settings.deadline is None else settings.deadline
        self.feed = None if settings.model is None else session.feeds[settings.model]
        if self.feed is not None:
            self.feed.is_read = True
        self.version = 0
        self._unchecked = Unchecked(session.store, name, session.task.dataset)
        self.reply_bytes = dense_bytes(session.task.facts.num_classes)
        self.plans: dict[str, _Plan] = {}
        self.results: dict[tuple[str, tuple[bool, ...]], Answers] = {}
        self.requests = 0
        self.open: dict[int, UnderWay] = {}

    def run(self) -> Process:
        """The process of the whole workload."""
        if self.settings.model is not None:
            yield self.session.processes[self.settings.model]
        self.begin()
        yield from self._prepare()
        yield from self._install()
        self.session.at_end(self.close)
        yield self.world.env.all_of([self.world.env.process(self._ask(source)) for source in self.plans])

    def begin(self) -> None:
        """The model is there: say who does what.

        Raises:
            RunError: it cannot be shared among these devices, or its training has diverged.
        """
        answering = self.answering
        if self.settings.placement.looks_at_model:
            self._unchecked.check()
        for cluster in self.settings.clusters(self.session):
            try:
                self.plans[cluster.source] = _plan_of(cluster, answering.placement(cluster))
            except NetflError as error:
                raise RunError(f"workload '{self.name}': {error}") from error

    @functools.cached_property
    def answering(self) -> Answering:
        """What answers with the model that is shared."""
        task, streams, settings = self.session.task, self.world.streams, self.settings
        if self.feed is not None:
            self.version = self.feed.version
            model = self.feed.models[self.version]
        else:
            assert settings.pretrained is not None
            start = values.initial_model(task.model, task.dataset, streams.stream("initial model"))
            stream = streams.stream("pretrain", self.name)
            model = values.total(start, values.fit(values.cohort(settings.pretrained, task.model, task.dataset, stream), start))
            self._unchecked.add(Trained("the pretrained model", "pretrained", task.model, model))
        return settings.placement.answering(self.session, self.name, model, Pipeline(settings.activations))

    def _prepare(self) -> Process:
        """What the model becomes before it is shared takes its time where the model was trained in the run."""
        if self.feed is None:
            return
        work = self.answering.preparation(next(iter(self.plans.values())).cluster)  # the same for all: everybody asks the same workers
        if work is not None:
            yield self.world.compute(self.feed.server, work, workload=self.name, label="preparation")

    def _install(self) -> Process:
        """Every device stores its part; one of a model that was trained in the run is sent until it has arrived."""
        stored: dict[str, int] = {}
        for plan in self.plans.values():
            for device, count in plan.placement.parameter_bytes:
                stored[device] = max(stored.get(device, 0), count)
        missing = sorted(stored) if self.feed is not None else []
        for device, count in sorted(stored.items()):
            self.world.keep(device, self.name, count)
        while missing:
            assert self.feed is not None
            sendings = {}
            for device in missing:
                payload_bytes = dense_bytes(stored[device] // VALUE_BYTES)
                message = Message(kind="model", payload_bytes=payload_bytes, workload=self.name, label=f"version {self.version}")
                if stored[device] and device != self.feed.server:
                    sendings[device] = self.world.send(self.feed.server, device, message)
            yield self.world.env.all_of(list(sendings.values()))
            missing = [device for device, sending in sendings.items() if not sending.delivered]

    def _ask(self, source: str) -> Process:
        """Issue the requests of one source; a device that is down asks nothing. Ends when the last of them is over, if there is a last."""
        start_s, most = self.world.now, self.settings.per_source
        samples = self.world.streams.generator("samples", self.name, source)
        num_samples = self.session.task.facts.num_test
        times_s = self.settings.arrivals.times_s(self.world.streams.stream("arrivals", self.name, source), source)
        over = []
        for time_s in times_s if most is None else islice(times_s, most):
            yield self.world.sleep(max(0.0, start_s + time_s - self.world.now))
            sample = int(samples.integers(num_samples))
            if self.world.is_up(source):
                self.requests += 1
                self.open[self.requests] = request = UnderWay(self, self.plans[source], self.requests, sample)
                request.start()
                if most is not None:
                    over.append(request.over)
        yield self.world.env.all_of(over) if most is not None else self.world.env.event()

    def answers(self, plan: _Plan, present: tuple[bool, ...]) -> Answers:
        """What the devices answer when what some workers made is there; forced once.

        Raises:
            RunError: the model's training has diverged, or what crosses cannot be encoded.
        """
        key = (plan.cluster.source, present)
        if key not in self.results:
            self._unchecked.check()
            try:
                self.results[key] = self.answering.answers(plan.cluster, present)
            except CodecError as error:
                raise RunError(f"workload '{self.name}': the model cannot be served: {error}; has it diverged?") from error
        return self.results[key]

    def end(self, request: UnderWay, outcome: str, spent: Spent, correct: bool | None = None) -> None:
        """Write down how a request ended."""
        del self.open[request.number]
        request.over.succeed()
        self.world.trace.append(
            Request(
                request=request.number, workload=self.name, device=request.plan.cluster.source, sample=request.sample,
                version=self.version if outcome == "answered" else -1, placement=request.described, arrival_s=request.arrival_s,
                end_s=self.world.now, deadline_s=self.deadline_s, outcome=outcome, correct=-1 if correct is None else int(correct),
                queue_s=spent.queue_s, compute_s=spent.compute_s, transmit_s=spent.transmit_s, propagation_s=spent.propagation_s,
            )
        )  # fmt: skip

    def close(self) -> None:
        """Record the requests that the run's end cut off."""
        for request in list(self.open.values()):
            self.end(request, "censored", request.spent)


class UnderWay:
    """One request: a process for each device, and an event for each message that says whether it arrived, and what led to it."""

    def __init__(self, serving: Cooperating, plan: _Plan, number: int, sample: int) -> None:
        self.serving = serving
        self.world = serving.world
        self.plan = plan
        self.number = number
        self.sample = sample
        self.arrival_s = self.world.now
        self.described = plan.placement.described
        self.spent = Spent(self.arrival_s)
        self.wait_s = serving.settings.placement.wait_s
        self.over = self.world.env.event()
        self.arrived = [False] * len(plan.placement.crossings)
        self.idle: set[tuple[int, str]] = set()
        everybody_there = (True,) * len(plan.cluster.workers)
        self.lengths = serving.answers(plan, everybody_there).payload_bytes
        self.events: list[simpy.Event] = [self.world.env.event() for _ in plan.placement.crossings]

    def start(self) -> None:
        """Have every device begin."""
        for device in self.plan.everybody:
            self.world.env.process(self._device(device))

    def _device(self, device: str) -> Process:
        spent = Spent(self.arrival_s)
        number, can_go_on = 0, True
        for stage_number, (stage, work) in enumerate(zip(self.plan.placement.stages, self.plan.work, strict=True)):
            if self.over.triggered:
                return
            if not can_go_on:
                self.idle.add((stage_number, device))
            elif device in work:
                computing = self.world.compute(device, work[device], workload=self.serving.name, label=f"request {self.number}")
                yield computing
                job = computing.job
                spent = replace(spent, until_s=self.world.now, queue_s=spent.queue_s + job.waited_s, compute_s=spent.compute_s + job.busy_s)
            incoming = []
            for place, crossing in enumerate(stage.crossings, start=number):
                if crossing.sender == device and can_go_on:
                    self.world.env.process(self._send(place, crossing, spent))
                elif crossing.sender == device:
                    self.events[place].succeed(None)
                if crossing.receiver == device:
                    incoming.append((place, crossing))
            number += len(stage.crossings)
            if incoming:
                spent = yield from self._barrier(incoming, spent)
            can_go_on = all(self.arrived[place] or crossing.is_optional for place, crossing in incoming)
            if not can_go_on and (self.wait_s is None or device == self.plan.cluster.source):
                return self._fail(spent)
        if device == self.plan.cluster.source:
            self._answer(spent)

    def _barrier(self, incoming: list[tuple[int, Crossing]], spent: Spent) -> Generator[Any, Any, Spent]:
        """Wait for messages, for the optional ones no longer than may be; what led to the last thing that was waited for."""
        env = self.world.env
        needed = [self.events[place] for place, crossing in incoming if not crossing.is_optional]
        optional = [self.events[place] for place, crossing in incoming if crossing.is_optional]
        if needed:
            yield env.all_of(needed)
        if optional:
            assert self.wait_s is not None
            left_s = self.arrival_s + self.wait_s - self.world.now
            everything = env.all_of(optional)
            yield everything if left_s == float("inf") else env.any_of([everything, env.timeout(max(0.0, left_s))])
        last = spent
        for place, _ in incoming:
            event = self.events[place]
            # An event that happens at this very instant, but behind this one, is late.
            if event.processed and event.value is not None:
                self.arrived[place] = True
                if event.value.until_s > last.until_s:
                    last = event.value
        waited_s = self.world.now - last.until_s
        return last if waited_s <= 0 else replace(last, until_s=self.world.now, transmit_s=last.transmit_s + waited_s)

    def _send(self, place: int, crossing: Crossing, spent: Spent) -> Process:
        payload_bytes = self.serving.reply_bytes if crossing.what == "reply" else int(self.lengths[place, self.sample])
        message = Message(kind=crossing.what, payload_bytes=payload_bytes, workload=self.serving.name, label=f"request {self.number}")
        sending = self.world.send(crossing.sender, crossing.receiver, message)
        yield sending
        transfer = sending.transfer
        moving_s = transfer.end_s - transfer.start_s - transfer.latency_s
        spent = replace(
            spent,
            until_s=self.world.now,
            transmit_s=spent.transmit_s + moving_s,
            propagation_s=spent.propagation_s + transfer.latency_s,
        )
        self.events[place].succeed(spent if sending.delivered else None)

    def _answer(self, spent: Spent) -> None:
        present = self._present()
        missing = [worker for worker, is_there in zip(self.plan.cluster.workers, present, strict=True) if not is_there]
        if missing:
            self.described += f" without {', '.join(missing)}"
        correct = bool(self.serving.answers(self.plan, present).correct[self.sample])
        self.serving.end(self, "answered", spent, correct)

    def _present(self) -> tuple[bool, ...]:
        """Of each worker, whether what it made was there."""
        return tuple(
            not any(device == worker for _, device in self.idle) if place is None else self.arrived[place]
            for worker, place in zip(self.plan.cluster.workers, self.plan.made_by, strict=True)
        )

    def _fail(self, spent: Spent) -> None:
        if not self.over.triggered:
            self.serving.end(self, "failed", spent)


def _plan_of(cluster: Cluster, placement: StagedPlacement) -> _Plan:
    work = tuple({share.device: _work(share, cluster) for share in stage.shares} for stage in placement.stages)
    crossings = placement.crossings
    made_by = []
    for worker in cluster.workers:
        made = [place for place, crossing in enumerate(crossings) if crossing.sender == worker and crossing.receiver == cluster.join]
        made = [place for place in made if crossings[place].what == "activation"]
        made_by.append(made[-1] if made and worker != cluster.join else None)
    everybody = {cluster.source, *placement.devices}
    return _Plan(cluster, placement, work, tuple(sorted(everybody)), tuple(made_by))


def _work(share: Share, cluster: Cluster) -> Work:
    tier = cluster.tiers[share.device]
    return Work(
        kind="inference",
        flop=share.flop,
        moved_bytes=share.moved_bytes,
        memory_bytes=share.activation_bytes,
        counted_s=share_s(share, tier) - tier.overhead_s,
    )
