"""Serving: inference requests answered by a model that is split over the path from the asking device to a server.

A request goes hop by hop (one `send` a hop, as planners count it): each device on the way computes its piece, the tensors
that cross are encoded and sent, and the answer comes back over the hops that were used. The pieces run for real, once per
model version, cut and codec, over all test samples; a request names a sample, so its payload lengths and its answer are
facts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, cast

from annotated_types import Ge

from netfl.codecs import CODECS, Pipeline, Stage, dense_bytes
from netfl.errors import NetflError
from netfl.learning.exits import WithExits
from netfl.learning.lessons import PRETRAINERS, Distilled
from netfl.learning.trainer import Trainer, unusable_device
from netfl.placement import Placement, Profile
from netfl.placement.exits import ExitPlacement
from netfl.placement.planners import PLANNERS, Planner
from netfl.placement.planners.baselines import DeviceOnly
from netfl.placement.planners.chain import Chain
from netfl.placement.planners.early_exit import EarlyExit
from netfl.placement.planners.route import Route
from netfl.placement.planners.simulate import Simulate
from netfl.units import Duration, Size
from netfl.workloads.admission import ShortOfMemory
from netfl.workloads.arrivals import ARRIVALS, Arrivals
from netfl.workloads.batching import Batching
from netfl.workloads.checks import check_pipeline, check_positive, missing_device, serving_problems, shortened, unreachable
from netfl.workloads.crossing import Crossing, profile_as_sent, reckoned_bytes
from netfl.workloads.exit_inference import have_diverged, local_exit, measured
from netfl.workloads.failover import Failover
from netfl.workloads.inference import profile_of, sent_input_bytes
from netfl.workloads.serving import Serving
from netfl.workloads.serving_path import Ways, path_of
from netfl.workloads.session import Session, Setting, matching

__all__ = ["Requests"]

Process = Generator[Any, Any, None]


@dataclass(frozen=True, kw_only=True)
class Requests:
    """Inference requests from devices.

    Args:
        arrivals: when each source asks.
        model: the training workload whose newest global model serves; sending it to the pieces is paid in bytes.
        pretrained: in place of `model`, train this way on all training samples before the clock starts; `distilled` trains another model so,
            which then teaches the scenario's; `with_exits` gives it side classifiers, for the planner `early_exit`.
        sources: names or patterns of the devices that ask; every end device when empty.
        server: where the path of each source ends.
        placement: which planner decides what runs where along the path. It plans once, before the run, for an idle network; `simulate` for the
            load that the scenario has; `adaptive` again and again, with the rates that requests had.
        activations: codecs of the tensors that cross a cut, the input sample included; none sends float32.
        inputs: codecs of the input sample where it crosses, in place of `activations`; an empty list sends float32.
        input_bytes: in place of `inputs`, what an input is on a wire where it comes in an encoding of its own, such as JPEG; the answer is
            that for the sample as the data has it.
        input_decode_flop: operations that decoding an input takes on the device that first computes with it, unless that is the one that asks.
        updates: codecs of the weights that are sent to the pieces; none sends float32.
        deadline: an answer later than this is missed; none never is.
        after: a training workload; when it has ended its last model goes to the pieces, and then arrivals begin. Arrivals begin with the
            run when left out, and every new model goes to the pieces.
        per_source: how many requests each source makes, after which the workload ends; it lasts as long as the run when left out.
        failover: what an asking device does when the others do not answer in time; without it, it waits as long as the network tries.
        batching: how requests that wait at a device are computed together; each alone without it.
        priority: of the work of requests on every device, against that of training, which is 0: above it, requests go before all
            mini-batches that wait; below it, behind them.
        short_of_memory: what becomes of a request that comes to a device where its activations do not fit beside the stored models and the
            work that has begun: ignore computes all the same, wait lets it wait until they fit, reject ends it. Both are counted.
    """

    arrivals: Annotated[Arrivals, ARRIVALS]
    model: str | None = None
    pretrained: Annotated[Trainer | Distilled | WithExits, PRETRAINERS] | None = None
    sources: tuple[str, ...] = ()
    server: str = "cloud"
    placement: Annotated[Planner, PLANNERS] = field(default_factory=Chain)
    activations: tuple[Annotated[Stage, CODECS], ...] = ()
    inputs: tuple[Annotated[Stage, CODECS], ...] | None = None
    input_bytes: Annotated[Size, Ge(1)] | None = None
    input_decode_flop: Annotated[float, Ge(0)] = 0.0
    updates: tuple[Annotated[Stage, CODECS], ...] = ()
    deadline: Duration | None = None
    after: str | None = None
    per_source: Annotated[int, Ge(1)] | None = None
    failover: Failover | None = None
    batching: Batching | None = None
    priority: int = 0
    short_of_memory: ShortOfMemory = "ignore"

    def __post_init__(self) -> None:
        if (self.model is None) == (self.pretrained is None):
            raise ValueError("expected one of `model` (a training workload) and `pretrained` (a trainer)")
        if isinstance(self.pretrained, WithExits) != isinstance(self.placement, EarlyExit):
            raise ValueError("expected the planner `early_exit` with a model `pretrained` as `with_exits`, and only there")
        if self.failover is not None and self.failover.then == "early_exit" and getattr(self.placement, "threshold", None) is None:
            raise ValueError(
                "failover: expected the planner `early_exit` with a threshold for `then: early_exit`: other devices have no exits"
            )
        if self.failover is not None and self.failover.then in ("local", "replica") and isinstance(self.placement, EarlyExit):
            raise ValueError("failover: expected `then: early_exit` or `drop` with the planner `early_exit`")
        if self.input_decode_flop and isinstance(self.placement, EarlyExit):
            raise ValueError("input_decode_flop: the planner `early_exit` does not reckon with it")
        for name in ("activations", "inputs", "updates"):
            check_pipeline(name, getattr(self, name) or ())
        if self.inputs is not None and self.input_bytes is not None:
            raise ValueError("expected one of `inputs` (codecs) and `input_bytes` (the length in an encoding of its own)")
        check_positive("deadline", self.deadline)
        if self.after is not None and self.per_source is None:
            raise ValueError("after: expected `per_source` beside it, which says when requests end; the run would end with the training")
        if self.failover is not None and self.failover.replicas and isinstance(self.placement, Route):
            raise ValueError("failover: planner route chooses among replicas itself; leave out `replicas`")
        if Pipeline(self.updates).sparse:
            raise ValueError("updates: a sparsifier would drop most weights of the model that serves")

    def problems(self, setting: Setting) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What is wrong with these settings on that topology: (path below this workload, message) each."""
        yield from serving_problems(self.sources, setting, model=self.model, after=self.after)
        yield from missing_device("server", self.server, setting)
        sources = matching(self.sources, setting.topology)
        yield from unreachable("server", sources, self.server, setting)
        strangers = sorted(set(getattr(self.arrivals, "devices", ())) - set(sources))
        yield from shortened(("arrivals", "file"), [f"'{name}' asks there and is no source here" for name in strangers])
        for name, part in (("failover", self.failover), ("batching", self.batching)):
            for path, message in () if part is None else part.problems(setting, sources, self.server):
                yield (name, *path), message

    def model_problems(self, session: Session) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What shows only once the model is there: a placement that fits nowhere, a device that is not there."""
        if isinstance(self.pretrained, Distilled | WithExits):
            problem = self.pretrained.problem(session.task.model, session.task.dataset, session.store)
            if problem is not None:
                yield ("pretrained", problem[0]), problem[1]
                return
            if isinstance(self.pretrained, WithExits) and have_diverged(session, self.pretrained):
                said = "training has diverged: the model's answers are no numbers; lower `learning_rate`, or set `clip_norm`"
                yield ("pretrained", "trainer"), said
                return
        elif self.pretrained is not None:
            unusable = unusable_device(self.pretrained)
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
        found = []
        for source in self.asking(session) if self.failover is not None else ():
            try:
                self.fallbacks(session, source)
            except NetflError as error:
                found.append(f"for '{source}': {error}")
        yield from shortened(("failover",), found)

    role: ClassVar = "serving"

    @property
    def ends(self) -> bool:
        """Only with `per_source`: otherwise requests come for as long as the run lasts."""
        return self.per_source is not None

    def start(self, session: Session, name: str) -> Process:
        """The process that starts everything else."""
        return Serving(self, session, name).run()

    def asking(self, session: Session) -> list[str]:
        """The devices that ask, sorted."""
        return matching(self.sources, session.world.topology)

    @property
    def crossing(self) -> Crossing:
        """The codecs of what crosses a cut."""
        inputs = None if self.inputs is None else Pipeline(self.inputs)
        return Crossing(activations=Pipeline(self.activations), inputs=inputs, input_bytes=self.input_bytes)

    def profile(self, session: Session) -> Profile:
        """The model with what each node's output is as it is sent: what planners reckon with.

        What a codec saves that depends on the values is reckoned without, but for an input with codecs of its own, which are tried.
        """
        crossing, task = self.crossing, session.task
        tried: int | None = None
        if self.inputs is not None and crossing.stated_bytes(task.profile.nodes[0]) is None:
            stream = session.world.streams.stream("lengths of inputs")
            tried = session.store.force(sent_input_bytes(task.dataset, profile_of(task.model, task.dataset), crossing, stream))
        return profile_as_sent(task.profile, crossing, tried, self.input_decode_flop)

    def lengths(self, session: Session) -> tuple[Callable[[int], int], int]:
        """What planners reckon with where a profile says nothing: wire bytes of a tensor of so many values, and of the result."""

        def encoded_bytes(count: int) -> int:
            return reckoned_bytes(Pipeline(self.activations, shapes=((count,),)))

        result_bytes = dense_bytes(session.task.profile.nodes[-1].output_values)
        return encoded_bytes, result_bytes

    def first_plan(self, session: Session, source: str) -> Placement:
        """Where the pieces of a source's requests run; for a planner that tries placements out, the one that it begins with.

        Raises:
            NetflError: nothing fits.
        """
        return self._first_plan(session, source, self.server)

    def fallbacks(self, session: Session, source: str) -> list[Placement]:
        """Of those who are asked, one after the other, when a source is not answered in time.

        Raises:
            NetflError: a placement does not fit.
        """
        found: list[Placement] = []
        if self.failover is None:
            return found
        if self.failover.then == "early_exit":
            placement = self.first_plan(session, source)
            assert isinstance(placement, ExitPlacement) and isinstance(self.pretrained, WithExits)
            profile = measured(session, self.pretrained, cast(EarlyExit, self.placement), self.crossing).profile.whole
            local_exit(placement, profile)  # what a device has computed already is no placement; that it has an exit is checked
        for replica in self.failover.replicas:
            found.append(self._first_plan(session, source, replica))
        if self.failover.ends_locally:
            path = path_of(session, source, source)
            found.append(DeviceOnly().plan(self.profile(session), path, *self.lengths(session)))
        return found

    def _first_plan(self, session: Session, source: str, server: str) -> Placement:
        encoded_bytes, result_bytes = self.lengths(session)
        if isinstance(self.placement, Route):
            return self.placement.through(self.profile(session), source, Ways(session), encoded_bytes, result_bytes)
        path = path_of(session, source, server)
        if isinstance(self.placement, Simulate):
            return self.placement.proposed(self.profile(session), path, encoded_bytes, result_bytes)[0]
        if isinstance(self.placement, EarlyExit) and isinstance(self.pretrained, WithExits):
            found = measured(session, self.pretrained, self.placement, self.crossing)
            return self.placement.choose(found, path, encoded_bytes, result_bytes)
        return self.placement.plan(self.profile(session), path, encoded_bytes, result_bytes)

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
            best = planner.choose(self.profile(session), path, encoded_bytes, result_bytes, score)
            found.update(with_all(best, sources))
        return found
