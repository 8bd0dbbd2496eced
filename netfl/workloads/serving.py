"""A serving workload under way: requests out leg by leg, answers back hop by hop."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from netfl.codecs import dense_bytes
from netfl.placement import Placement
from netfl.placement.planners.adaptive import Adaptive
from netfl.trace import Request
from netfl.workloads.replanning import Replanning
from netfl.workloads.rollout import Rollout
from netfl.workloads.served_model import ServedModel
from netfl.workloads.serving_path import path_of
from netfl.workloads.serving_plan import ServingPlan, nodes_of, plan_of
from netfl.workloads.session import Session
from netfl.world import Message

if TYPE_CHECKING:
    from netfl.workloads.requests import Requests

__all__ = ["Asked", "Serving"]

Process = Generator[Any, Any, None]


@dataclass(slots=True)
class Asked:
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


class Serving:
    """One serving workload under way.

    Args:
        settings: of the workload.
        session: of the run.
        name: of the workload.
        model: what serves; the settings' own when left out.
        placements: of every source; when left out, the settings' planner decides as the run begins.
    """

    def __init__(
        self,
        settings: Requests,
        session: Session,
        name: str,
        model: ServedModel | None = None,
        placements: Mapping[str, Placement] | None = None,
    ) -> None:
        self.settings = settings
        self.session = session
        self.world = session.world
        self.name = name
        self.deadline_s = float("inf") if settings.deadline is None else settings.deadline
        self.model = model or ServedModel(settings, session, name)
        self.placements = placements
        self.plans: dict[str, ServingPlan] = {}
        self.rollout = Rollout(session, name, self.model, self.plans)
        planner = settings.placement
        self.replanning = Replanning(settings, planner, session, self.rollout, self.plans) if isinstance(planner, Adaptive) else None
        self.requests = 0
        self.open: dict[int, Asked] = {}
        self.reply_bytes = dense_bytes(session.task.profile.nodes[-1].output_values)

    def run(self) -> Process:
        """The process that starts everything else."""
        placements = self.placements
        if placements is None:
            placements = self.settings.plans(self.session, self.name)
        for source in self.settings.asking(self.session):
            tiers = path_of(self.session, source, self.settings.server).tiers
            plan = self.plans[source] = plan_of(placements[source], self.session.task.profile, tiers)
            self.rollout.place(nodes_of(plan.placement))
            if self.replanning is not None:
                # Any device of the path may get a piece later: it takes part in the hand-over of new models from the beginning.
                self.rollout.place(dict.fromkeys(plan.placement.devices, ()))
        self.rollout.start(plan.devices if self.replanning is None else plan.placement.devices for plan in self.plans.values())
        for source in self.plans:
            self.world.env.process(self._ask(source))
            if self.replanning is not None:
                self.world.env.process(self.replanning.look_again(source))
        self.session.at_end(self.close)
        yield self.world.env.event()

    def _ask(self, source: str) -> Process:
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
        version = self.rollout.version(plan)
        asked = Asked(number, source, sample, version, plan.described, self.world.now)
        self.open[number] = asked
        result = self.model.answers(plan.placement, version)
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
                    return self.end(asked, "failed")
        backwards = [leg.device for leg in reversed(plan.legs)]
        for device, ahead in pairwise(backwards):
            if not (yield from self._hop(asked, device, ahead, "reply", self.reply_bytes, label)):
                return self.end(asked, "failed")
        return self.end(asked, "answered", bool(result.correct[sample]))

    def _hop(self, asked: Asked, source: str, destination: str, kind: Any, payload_bytes: int, label: str) -> Generator[Any, Any, bool]:
        message = Message(kind=kind, payload_bytes=payload_bytes, workload=self.name, label=label)
        sending = yield self.world.send(source, destination, message)
        transfer = sending.transfer
        asked.propagation_s += transfer.latency_s
        moving_s = transfer.end_s - transfer.start_s - transfer.latency_s
        if self.replanning is not None and sending.delivered and moving_s > 0:
            self.replanning.saw(source, destination, payload_bytes, moving_s)
        asked.transmit_s += moving_s
        return bool(sending.delivered)

    def end(self, asked: Asked, outcome: str, correct: bool | None = None) -> None:
        """Write down how a request ended."""
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
            self.end(asked, "censored")
