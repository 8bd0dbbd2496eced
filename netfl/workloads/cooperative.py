"""Serving by several devices at once: the settings of the workload; `cooperating` is the workload under way."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import annotated_types

from netfl.codecs import CODECS, Stage
from netfl.learning.trainer import TRAINERS, Trainer, unusable_device
from netfl.parts import nearest
from netfl.placement.stages import Cluster
from netfl.units import Duration
from netfl.workloads.arrivals import ARRIVALS, Arrivals
from netfl.workloads.checks import check_pipeline, check_positive, missing_device, serving_problems, shortened, unreachable
from netfl.workloads.cooperating import Cooperating
from netfl.workloads.cooperation import COOPERATIONS, Cooperation, cluster_of
from netfl.workloads.session import Session, Setting, matching
from netfl.workloads.students import Students

__all__ = ["Cooperative"]


@dataclass(frozen=True, kw_only=True)
class Cooperative:
    """Inference requests that several devices answer together.

    Messages go from their sender to their receiver as one transfer each, whatever devices lie between.

    Args:
        arrivals: when each source asks.
        workers: the devices that compute.
        model: the training workload whose last model is shared. When it has ended each device's part is sent to it from where the model is,
            and then arrivals begin.
        pretrained: in place of `model`, train the scenario's model this way on all training samples before the clock starts; the
            devices have their parts from the beginning.
        join: which device makes the answer of what the workers send; the first worker when left out.
        sources: names or patterns of the devices that ask; every end device when empty.
        placement: how they share the work.
        activations: codecs of what crosses, the sample included; none sends float32. Answers are float32.
        deadline: an answer later than this is missed; none never is.
        per_source: how many requests each source makes, after which the workload ends; it lasts as long as the run when left out.
    """

    arrivals: Annotated[Arrivals, ARRIVALS]
    workers: Annotated[tuple[str, ...], annotated_types.MinLen(1)]
    model: str | None = None
    pretrained: Annotated[Trainer, TRAINERS] | None = None
    join: str | None = None
    sources: tuple[str, ...] = ()
    placement: Annotated[Cooperation, COOPERATIONS] = field(default_factory=Students)
    activations: tuple[Annotated[Stage, CODECS], ...] = ()
    deadline: Duration | None = None
    per_source: Annotated[int, annotated_types.Ge(1)] | None = None

    def __post_init__(self) -> None:
        if (self.model is None) == (self.pretrained is None):
            raise ValueError("expected one of `model` (a training workload) and `pretrained` (a trainer)")
        if self.model is not None and self.per_source is None:
            raise ValueError("model: expected `per_source` beside it, which says when requests end; the run would end with the training")
        check_pipeline("activations", self.activations)
        check_positive("deadline", self.deadline)
        twice = [worker for place, worker in enumerate(self.workers) if worker in self.workers[:place]]
        if twice:
            raise ValueError(f"workers: expected every device once, got '{twice[0]}' twice")

    role: ClassVar = "serving"

    @property
    def ends(self) -> bool:
        """Only with `per_source`: otherwise requests come for as long as the run lasts."""
        return self.per_source is not None

    @property
    def joining(self) -> str:
        """The device that makes the answers."""
        return self.workers[0] if self.join is None else self.join

    def problems(self, setting: Setting) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What is wrong with these settings on that topology: (path below this workload, message) each."""
        yield from serving_problems(self.sources, setting, model=self.model)
        known = sorted(setting.topology.sites)
        for place, worker in enumerate(self.workers):
            if worker not in known:
                yield ("workers", place), f"no device '{worker}' in the topology. {nearest(worker, known)}".rstrip()
        if self.join is not None:
            yield from missing_device("join", self.join, setting)
        sources = matching(self.sources, setting.topology)
        yield from unreachable("workers", sorted({*sources, *self.workers} & set(known)), self.joining, setting)

    def model_problems(self, session: Session) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What shows only once the model is there."""
        unusable = unusable_device(self.pretrained) if self.pretrained is not None else None
        if unusable is not None:
            yield ("pretrained", "device"), unusable
            return
        found = list(self.placement.problems(session, self.clusters(session)))
        paths = dict.fromkeys(path for path, _ in found)
        for path in paths:
            yield from shortened(("placement", *path), [message for each, message in found if each == path])

    def clusters(self, session: Session) -> list[Cluster]:
        """Who answers together, of every source."""
        sources = matching(self.sources, session.world.topology)
        return [cluster_of(session, source, self.workers, self.joining) for source in sources]

    def start(self, session: Session, name: str) -> Generator[Any, Any, None]:
        """The process that starts everything else."""
        return Cooperating(self, session, name).run()
