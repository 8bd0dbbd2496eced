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
from typing import Annotated, Any, ClassVar

from netfl.codecs import CODECS, Compressor, Pipeline, Stage, dense_bytes
from netfl.errors import NetflError
from netfl.learning.trainer import TRAINERS, Trainer, unusable_device
from netfl.placement import Placement
from netfl.placement.planners import PLANNERS, Planner
from netfl.placement.planners.chain import Chain
from netfl.placement.planners.simulate import Simulate
from netfl.units import Duration
from netfl.workloads.arrivals import ARRIVALS, Arrivals
from netfl.workloads.checks import check_pipeline, check_positive, missing_device, shortened, unmatched, unreachable
from netfl.workloads.serving import Serving
from netfl.workloads.serving_path import path_of
from netfl.workloads.session import Session, Setting, matching

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
        return Serving(self, session, name).run()

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

        result_bytes = dense_bytes(session.task.profile.nodes[-1].output_values)
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
