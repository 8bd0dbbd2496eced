"""Serving: inference requests answered by a model that is split over the path from the asking device to a server.

A request goes hop by hop (one `send` a hop, as planners count it): each device on the way computes its piece, the tensors
that cross are encoded and sent, and the answer comes back over the hops that were used. The pieces run for real, once per
model version, cut and codec, over all test samples; a request names a sample, so its payload lengths and its answer are
facts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Annotated, Any, ClassVar

from netfl.codecs import CODECS, Compressor, Pipeline, Stage
from netfl.compute import PROFILES, Work
from netfl.errors import CodecError, NetflError, RunError
from netfl.learning import values
from netfl.learning.trainer import TRAINERS, Trainer, unusable_device
from netfl.network.topology import Link
from netfl.placement import Hop, Path, Placement, Tier
from netfl.placement.plan import node_s
from netfl.placement.planners import PLANNERS, Planner
from netfl.placement.planners.adaptive import Adaptive
from netfl.placement.planners.chain import Chain
from netfl.placement.planners.simulate import Simulate
from netfl.store import Recipe
from netfl.trace import Request
from netfl.units import Duration
from netfl.workloads.arrivals import ARRIVALS, Arrivals
from netfl.workloads.checks import check_pipeline, check_positive, missing_device, shortened, unmatched, unreachable
from netfl.workloads.inference import Answers, infer, node_bytes, profile_of, served, served_bytes
from netfl.workloads.session import ModelFeed, Session, Setting, matching
from netfl.world import Message, Sending

__all__ = ["Requests"]

Process = Generator[Any, Any, None]


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Inference requests from devices.

    Args:
        arrivals: when each source asks.
        model: the training workload whose newest global model serves; sending it to the pieces is paid in bytes.
        pretrained: in place of `model`, train this way on all training samples before the clock starts.
        sources: names or patterns of the devices that ask; every end device when empty.
        server: where the path of each source ends.
        placement: which planner decides what runs where along the path. It plans once, before the run, for an idle network; `simulate` for the
            load that the scenario has; `adaptive` again and again, with the rates that requests had.
        activations: codecs of the tensors that cross a cut, the input sample included; none sends float32.
        updates: codecs of the weights that are sent to the pieces; none sends float32.
        deadline: an answer later than this is missed; none never is.
    """

    arrivals: Annotated[Arrivals, ARRIVALS]
    model: str | None = None
    pretrained: Annotated[Trainer, TRAINERS] | None = None
    sources: tuple[str, ...] = ()
    server: str = "cloud"
    placement: Annotated[Planner, PLANNERS] = field(default_factory=Chain)
    activations: tuple[Annotated[Stage, CODECS], ...] = ()
    updates: tuple[Annotated[Stage, CODECS], ...] = ()
    deadline: Duration | None = None

    def __post_init__(self) -> None:
        if (self.model is None) == (self.pretrained is None):
            raise ValueError("expected one of `model` (a training workload) and `pretrained` (a trainer)")
        for name in ("activations", "updates"):
            check_pipeline(name, getattr(self, name))
        check_positive("deadline", self.deadline)
        if Pipeline(self.updates).sparse:
            raise ValueError("updates: a sparsifier would drop most weights of the model that serves")

    def problems(self, setting: Setting) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What is wrong with these settings on that topology: (path below this workload, message) each."""
        if not setting.has_task:
            yield (), "serving needs `data` and `model` in the scenario"
        trainings = sorted(name for name, each in setting.workloads.items() if getattr(each, "role", None) == "training")
        if self.model is not None and self.model not in trainings:
            yield ("model",), f"no training workload '{self.model}'; there are: {', '.join(trainings) or 'none'}"
        yield from missing_device("server", self.server, setting)
        yield from unmatched("sources", self.sources, setting)
        sources = matching(self.sources, setting.topology)
        if not sources:
            yield ("sources",), "no device matches: nobody asks"
        yield from unreachable("server", sources, self.server, setting)

    def model_problems(self, session: Session) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What shows only once the model is there: a placement that fits nowhere, a device that is not there."""
        unusable = unusable_device(self.pretrained) if self.pretrained is not None else None
        if unusable is not None:
            yield ("pretrained", "device"), unusable
            return
        found = []
        for source in self.asking(session):
            try:
                self.first_plan(session, source)
            except NetflError as error:
                found.append(f"for '{source}': {error}")
        yield from shortened(("placement",), found)

    role: ClassVar = "serving"

    @property
    def ends(self) -> bool:
        """Requests come for as long as the run lasts."""
        return False

    def start(self, session: Session, name: str) -> Process:
        """The process that starts everything else."""
        return _Serving(self, session, name).run()

    def asking(self, session: Session) -> list[str]:
        """The devices that ask, sorted."""
        return matching(self.sources, session.world.topology)

    def lengths(self, session: Session) -> tuple[Callable[[int], int], int]:
        """What planners reckon with: wire bytes of a tensor of so many values, and of the result."""
        stages = tuple(stage for stage in self.activations if not isinstance(stage, Compressor))
        pipeline = Pipeline(stages)

        def encoded_bytes(count: int) -> int:
            # What a compressor saves depends on the data: the planner reckons without it.
            length = pipeline.encoded_bytes(count)
            assert length is not None
            return length

        result_bytes = Pipeline(()).encoded_bytes(session.task.profile.nodes[-1].output_values)
        assert result_bytes is not None
        return encoded_bytes, result_bytes

    def first_plan(self, session: Session, source: str) -> Placement:
        """Where the pieces of a source's requests run; for a planner that tries placements out, the one that it begins with.

        Raises:
            NetflError: nothing fits.
        """
        encoded_bytes, result_bytes = self.lengths(session)
        path = path_of(session, source, self.server)
        if isinstance(self.placement, Simulate):
            return self.placement.proposed(session.task.profile, path, encoded_bytes, result_bytes)[0]
        return self.placement.plan(session.task.profile, path, encoded_bytes, result_bytes)

    def plans(self, session: Session, name: str) -> dict[str, Placement]:
        """Where the pieces of every source's requests run.

        A planner that tries placements out does so for all sources with equal paths together, one such group after the other, the
        other groups staying with what they have.

        Args:
            session: of the run.
            name: of this workload.

        Raises:
            NetflError: nothing fits.
        """
        found = {source: self.first_plan(session, source) for source in self.asking(session)}
        planner = self.placement
        if not isinstance(planner, Simulate):
            return found
        from netfl.workloads.rehearsal import tail_latency_s

        encoded_bytes, result_bytes = self.lengths(session)
        groups: defaultdict[object, list[str]] = defaultdict(list)
        for source in found:
            path = path_of(session, source, self.server)
            groups[tuple(replace(tier, device="") for tier in path.tiers), path.hops].append(source)
        for sources in groups.values():

            def with_all(candidate: Placement, sources: list[str] = sources) -> dict[str, Placement]:
                """The candidate for each of them, on its own path."""
                paths = {source: path_of(session, source, self.server) for source in sources}
                return {source: replace(candidate, devices=path.devices) for source, path in paths.items()}

            def score(candidate: Placement, sources: list[str] = sources) -> float:
                tried = {**found, **with_all(candidate, sources)}
                return tail_latency_s(session, self, name, tried, planner.horizon, planner.rollouts)

            path = path_of(session, sources[0], self.server)
            best = planner.choose(session.task.profile, path, encoded_bytes, result_bytes, score)
            found.update(with_all(best, sources))
        return found


def path_of(session: Session, source: str, server: str) -> Path:
    """The devices on the route from a source to the server as tiers, for a planner."""
    world = session.world
    route = world.topology.route(source, server)
    tiers = []
    for device in route.devices:
        profile = world.profile(device)
        known = [name for name, each in PROFILES.items() if each == profile]
        tiers.append(
            Tier(
                device=device,
                flop_per_s=profile.inference_flop_per_s,
                memory_bytes_per_s=profile.memory_bytes_per_s,
                overhead_s=profile.overhead_s,
                memory_bytes=profile.memory_bytes,
                device_class=known[0] if known else "",
                busy_w=profile.busy_w - profile.idle_w,
            )
        )
    hops = tuple(
        Hop(
            latency_s=hop.link.latency_s,
            up_bps=hop.link.up_bps if hop.forward else hop.link.down_bps,
            down_bps=hop.link.down_bps if hop.forward else hop.link.up_bps,
            up_w=_radio_w(hop.link, hop.forward),
            down_w=_radio_w(hop.link, not hop.forward),
        )
        for hop in route.hops
    )
    return Path(tiers=tuple(tiers), hops=hops)


def _radio_w(link: Link, forward: bool) -> float:
    """What sender and receiver of a link draw together while bits move in that direction."""
    return link.transmit_w + link.b_receive_w if forward else link.b_transmit_w + link.receive_w


@dataclass(frozen=True)
class _Leg:
    """One device's part in the requests of a source.

    Args:
        device: who computes.
        work: its piece; None for a relay.
        boundary: index of the boundary behind it.
    """

    device: str
    work: Work | None
    boundary: int


@dataclass
class _Plan:
    """How the requests of one source are answered.

    Args:
        placement: the planner's.
        legs: from the source as far as the last piece.
        devices: those that compute.
        described: the placement for the trace.
    """

    placement: Placement
    legs: tuple[_Leg, ...]
    devices: tuple[str, ...]
    described: str


class _Serving:
    """One serving workload under way."""

    def __init__(self, settings: Requests, session: Session, name: str) -> None:
        self.settings = settings
        self.session = session
        self.world = session.world
        self.store = session.store
        self.name = name
        self.deadline_s = float("inf") if settings.deadline is None else settings.deadline
        self.activations = Pipeline(settings.activations)
        self.updates = Pipeline(settings.updates)
        self.profile = profile_of(session.task.model, session.task.dataset)
        self.plans: dict[str, _Plan] = {}
        self._placed: dict[str, Placement] = {}
        self.nodes_on: defaultdict[str, set[int]] = defaultdict(set)
        self.held: dict[str, set[int]] = {}
        self.rates_bps: dict[tuple[str, str], float] = {}
        self.requests = 0
        self.open: dict[int, _Asked] = {}
        self.results: dict[tuple[tuple[int, ...], tuple[int, ...], int], Answers] = {}
        self.feed = self._feed()
        reply = Pipeline(()).encoded_bytes(session.task.profile.nodes[-1].output_values)
        assert reply is not None
        self.reply_bytes = reply

    # --- models on their way to the pieces ----------------------------------------------------------------------------------

    def run(self) -> Process:
        for source in self.settings.asking(self.session):
            self.plans[source] = self._plan(self._placement(source), source)
            if isinstance(self.settings.placement, Adaptive):
                # Any device of the path may get a piece later: it takes part in the hand-over of new models from the beginning.
                for device in self.plans[source].placement.devices:
                    self.nodes_on[device].update()
        # The model of version 0 was installed with the devices; every later one is sent.
        for device in sorted(self.nodes_on):
            self._hold(device, {0})
        for devices in self._partners():
            self.world.env.process(self._roll_out(devices))
        for source in self.plans:
            self.world.env.process(self._ask(source))
            if isinstance(self.settings.placement, Adaptive):
                self.world.env.process(self._look_again(source, self.settings.placement))
        self.session.at_end(self.close)
        yield self.world.env.event()

    def _partners(self) -> list[list[str]]:
        """The devices with pieces, grouped so that all that answer some request together are in one group."""
        group_of = {device: {device} for device in sorted(self.nodes_on)}
        for plan in self.plans.values():
            devices = plan.placement.devices if isinstance(self.settings.placement, Adaptive) else plan.devices
            together = set().union(*(group_of[device] for device in devices))
            for device in together:
                group_of[device] = together
        return sorted({id(group): sorted(group) for group in group_of.values()}.values())

    def _roll_out(self, devices: list[str]) -> Process:
        """Bring new models to a group of partners, one version after the other; what is outdated before its turn is skipped.

        All partners are sent the same versions, so that they have some in common however fast their links are; one that
        the network fails goes on with what it has.
        """
        newest = 0
        while True:
            if self.feed.version <= newest:
                yield self.feed.changed
                continue
            newest = version = self.feed.version
            sendings: dict[str, Sending] = {}
            for device in devices:
                payload_bytes = self._message_bytes(version, self.nodes_on[device])
                if payload_bytes and device != self.feed.server:
                    message = Message(kind="model", payload_bytes=payload_bytes, workload=self.name, label=f"version {version}")
                    sendings[device] = self.world.send(self.feed.server, device, message)
                else:
                    self._hold(device, self.held[device] | {version})
            for device, sending in sendings.items():
                yield sending
                if sending.delivered:
                    self._hold(device, self.held[device] | {version})
            self._drop_outdated(devices)

    def _version(self, plan: _Plan) -> int:
        """The newest version that all devices of a plan hold."""
        return max(set[int].intersection(*(self.held[device] for device in plan.devices)))

    def _drop_outdated(self, devices: list[str]) -> None:
        """Forget versions older than any that a device's requests still use."""
        for device in devices:
            used = [self._version(plan) for plan in self.plans.values() if device in plan.devices]
            if used:
                self._hold(device, {version for version in self.held[device] if version >= min(used)})

    def _hold(self, device: str, versions: set[int]) -> None:
        self.held[device] = versions
        profile = self.session.task.profile
        piece_bytes = sum(profile.nodes[node].parameter_bytes for node in self.nodes_on[device])
        self.world.keep(device, self.name, piece_bytes * len(versions))

    def _feed(self) -> ModelFeed:
        if self.settings.model is not None:
            read = self.session.feeds[self.settings.model]
            read.is_read = True
            return read
        task, trainer = self.session.task, self.settings.pretrained
        assert trainer is not None
        start = values.initial_model(task.model, task.dataset, self.world.streams.stream("initial model"))
        update = values.fit(trainer, task.model, start, task.dataset, None, self.world.streams.stream("pretrain", self.name))
        feed = ModelFeed(self.world.env, self.settings.server)
        feed.publish(0, values.total(start, update))
        return feed

    def _placement(self, source: str) -> Placement:
        if not self._placed:
            self._placed = self.settings.plans(self.session, self.name)
        return self._placed[source]

    def _look_again(self, source: str, planner: Adaptive) -> Process:
        """Plan a source's requests anew from time to time, with the rates that they had."""
        encoded_bytes, result_bytes = self.settings.lengths(self.session)
        nominal = path_of(self.session, source, self.settings.server)
        while True:
            yield self.world.sleep(planner.period)
            hops = [
                replace(
                    hop,
                    up_bps=self.rates_bps.get((near, far), hop.up_bps),
                    down_bps=self.rates_bps.get((far, near), hop.down_bps),
                )
                for hop, (near, far) in zip(nominal.hops, pairwise(nominal.devices), strict=True)
            ]
            current = self.plans[source].placement
            path = replace(nominal, hops=tuple(hops))
            placement = planner.again(self.session.task.profile, path, encoded_bytes, result_bytes, current)
            if placement.labels != current.labels:
                yield from self._move(source, placement)

    def _move(self, source: str, placement: Placement) -> Process:
        """Send the parameters that devices lack for a new placement, and take it up; not while a new model is on its way."""
        version = self._version(self.plans[source])
        lacking: dict[str, set[int]] = {}
        for device, start, stop in placement.pieces:
            places = set(placement.order[max(start, 1) : stop] or range(max(start, 1), stop)) - self.nodes_on[device]
            if places:
                lacking[device] = places
        if not self._may_move(lacking, version):
            return
        sendings = []
        for device, places in lacking.items():
            payload_bytes = self._message_bytes(version, places)
            if payload_bytes and device != self.feed.server:
                message = Message(kind="model", payload_bytes=payload_bytes, workload=self.name, label=f"move, version {version}")
                sendings.append(self.world.send(self.feed.server, device, message))
        yield self.world.env.all_of(sendings)
        if all(sending.delivered for sending in sendings) and self._may_move(lacking, version):
            self.plans[source] = self._plan(placement, source)
            for device in lacking:
                self._hold(device, {version})

    def _may_move(self, lacking: dict[str, set[int]], version: int) -> bool:
        """Whether the devices that get new nodes hold no version of others but this one, and no newer one is on its way."""
        return self.feed.version == version and all(not self.nodes_on[device] or self.held[device] == {version} for device in lacking)

    def _plan(self, placement: Placement, source: str) -> _Plan:
        profile = placement.arranged(self.session.task.profile)
        tiers = path_of(self.session, source, self.settings.server).tiers
        legs = []
        last = max(index for index, (_, start, stop) in enumerate(placement.pieces) if stop > max(start, 1) or index == 0)
        for boundary, (device, start, stop) in enumerate(placement.pieces[: last + 1]):
            work = None
            if stop > max(start, 1):
                flop, moved_bytes = profile.work(max(start, 1), stop)
                work = Work(
                    kind="inference",
                    flop=flop,
                    moved_bytes=moved_bytes,
                    memory_bytes=profile.activation_bytes(max(start, 1), stop),
                    counted_s=math.fsum(node_s(node, tiers[boundary]) for node in profile.nodes[max(start, 1) : stop]),
                )
                self.nodes_on[device].update(placement.order[max(start, 1) : stop] or range(max(start, 1), stop))
            legs.append(_Leg(device, work, boundary))
        computing = tuple(leg.device for leg in legs if leg.work is not None)
        return _Plan(placement, tuple(legs), computing, placement.describe())

    def _weights(self, version: int) -> Recipe:
        stream = self.world.streams.stream("served", self.name, version)
        return served(self.updates, self.profile, self.feed.models[version], stream)

    def _message_bytes(self, version: int, nodes: set[int]) -> int:
        lengths = node_bytes(self.updates, self.session.task.profile)
        if lengths is None:
            lengths = self.store.force(served_bytes(self._weights(version)))
        return sum(lengths[node] for node in nodes)

    # --- requests -----------------------------------------------------------------------------------------------------------

    def _ask(self, source: str) -> Process:
        """Issue the requests of one source; a device that is down asks nothing."""
        samples = self.world.streams.generator("samples", self.name, source)
        num_samples = self.session.task.facts.num_test
        for time_s in self.settings.arrivals.times_s(self.world.streams.stream("arrivals", self.name, source)):
            yield self.world.sleep(max(0.0, time_s - self.world.now))
            sample = int(samples.integers(num_samples))
            if self.world.is_up(source):
                self.requests += 1
                self.world.env.process(self._answer(self.requests, source, sample))

    def _answer(self, number: int, source: str, sample: int) -> Process:
        """Answer one request: out leg by leg, back hop by hop."""
        plan = self.plans[source]
        version = self._version(plan)
        asked = _Asked(number, source, sample, version, plan.described, self.world.now)
        self.open[number] = asked
        result = self._result(plan.placement, version)
        label = f"request {number}"
        for leg, behind in zip(plan.legs, (*plan.legs[1:], None), strict=True):
            if leg.work is not None:
                computing = yield self.world.compute(leg.device, leg.work, workload=self.name, label=label)
                asked.queue_s += computing.job.waited_s
                asked.compute_s += computing.job.busy_s
            if behind is not None:
                kind = "request" if plan.placement.cuts[leg.boundary] <= 1 else "activation"
                payload_bytes = int(result.payload_bytes[leg.boundary, sample])
                if not (yield from self._hop(asked, leg.device, behind.device, kind, payload_bytes, label)):
                    return self._end(asked, "failed")
        backwards = [leg.device for leg in reversed(plan.legs)]
        for device, ahead in pairwise(backwards):
            if not (yield from self._hop(asked, device, ahead, "reply", self.reply_bytes, label)):
                return self._end(asked, "failed")
        return self._end(asked, "answered", bool(result.correct[sample]))

    def _hop(self, asked: _Asked, source: str, destination: str, kind: Any, payload_bytes: int, label: str) -> Generator[Any, Any, bool]:
        message = Message(kind=kind, payload_bytes=payload_bytes, workload=self.name, label=label)
        sending = yield self.world.send(source, destination, message)
        transfer = sending.transfer
        asked.propagation_s += transfer.latency_s
        moving_s = transfer.end_s - transfer.start_s - transfer.latency_s
        if isinstance(self.settings.placement, Adaptive) and sending.delivered and moving_s > 0:
            found_bps, weight = 8 * payload_bytes / moving_s, self.settings.placement.smoothing
            before_bps = self.rates_bps.get((source, destination), found_bps)
            self.rates_bps[source, destination] = before_bps + weight * (found_bps - before_bps)
        asked.transmit_s += transfer.end_s - transfer.start_s - transfer.latency_s
        return bool(sending.delivered)

    def _result(self, placement: Placement, version: int) -> Answers:
        """What the pieces of a placement answer with a version of the model; forced once."""
        cuts, order = placement.cuts, placement.order
        if (cuts, order, version) not in self.results:
            task = self.session.task
            stream = self.world.streams.stream("activations", self.name, version, *cuts, *(f"node {place}" for place in order))
            weights = self._weights(version)
            result = infer(task.model, task.dataset, self.profile, cuts, order, weights, self.activations, stream)
            try:
                self.results[cuts, order, version] = self.store.force(result)
            except CodecError as error:
                raise RunError(
                    f"workload '{self.name}': version {version} of the model cannot be served: {error}; has it diverged?"
                ) from error
        return self.results[cuts, order, version]

    def _end(self, asked: _Asked, outcome: str, correct: bool | None = None) -> None:
        del self.open[asked.number]
        self.world.trace.append(
            Request(
                request=asked.number, workload=self.name, device=asked.device, sample=asked.sample,
                version=asked.version if outcome == "answered" else -1, placement=asked.placement, arrival_s=asked.arrival_s,
                end_s=self.world.now, deadline_s=self.deadline_s, outcome=outcome, correct=-1 if correct is None else int(correct),
                queue_s=asked.queue_s, compute_s=asked.compute_s, transmit_s=asked.transmit_s,
                propagation_s=asked.propagation_s,
            )
        )  # fmt: skip

    def close(self) -> None:
        """Record the requests that the run's end cut off."""
        for asked in list(self.open.values()):
            self._end(asked, "censored")


@dataclass(slots=True)
class _Asked:
    """One request under way, and where its time went so far."""

    number: int
    device: str
    sample: int
    version: int
    placement: str
    arrival_s: float
    queue_s: float = 0.0
    compute_s: float = 0.0
    transmit_s: float = 0.0
    propagation_s: float = 0.0
