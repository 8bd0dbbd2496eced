"""A serving workload under way: requests out leg by leg, answers back hop by hop."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import simpy

from netfl.codecs import dense_bytes
from netfl.compute import Work
from netfl.placement import Placement
from netfl.placement.exits import ExitPlacement
from netfl.placement.planners.adaptive import Adaptive
from netfl.trace import Planned, Request, Setback
from netfl.workloads.admission import Admission
from netfl.workloads.batching import Batches
from netfl.workloads.exit_inference import AnswersWithExits, ExitServingPlan, exit_plan_of, local_plan_of
from netfl.workloads.inference import Answers
from netfl.workloads.replanning import Replanning
from netfl.workloads.rollout import Rollout
from netfl.workloads.served_model import ServedModel
from netfl.workloads.serving_path import Ways
from netfl.workloads.serving_plan import Leg, ServingPlan, plan_of
from netfl.workloads.session import Session
from netfl.world import Message, Sending

if TYPE_CHECKING:
    from netfl.workloads.requests import Requests

__all__ = ["Asked", "Serving"]

Process = Generator[Any, Any, None]

_DRAWN_AT_ONCE = 256


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
    own: Sending | None = None
    """What the asking device itself is sending, or sent last."""


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
        self.env = session.world.env
        self.name = name
        self.deadline_s = float("inf") if settings.deadline is None else settings.deadline
        self.model = model or ServedModel(settings, session, name)
        self.placements = placements
        self.ways = Ways(session)
        self.plans: dict[str, ServingPlan] = {}
        self.rollout = Rollout(session, name, self.model, self.plans)
        planner = settings.placement
        self.replanning = (
            Replanning(settings, planner, session, self.rollout, self.plans, self.note) if isinstance(planner, Adaptive) else None
        )
        self.fallbacks: dict[str, tuple[ServingPlan, ...]] = {}
        otherwise = settings.short_of_memory
        self.admission = None if otherwise == "ignore" else Admission(self.world, otherwise)
        room_for = None if self.admission is None else self.admission.room_for
        self.batches = None if settings.batching is None else Batches(settings.batching, self.world, name, room_for)
        self.requests = 0
        self.open: dict[int, Asked] = {}
        self.reply_bytes = dense_bytes(session.task.profile.nodes[-1].output_values)

    def run(self) -> Process:
        """The process of the whole workload."""
        if self.settings.after is not None:
            yield self.session.processes[self.settings.after]
        placements = self.placements
        if placements is None:
            began_s = time.process_time()
            placements = self.settings.plans(self.session, self.name)
            self.session.planner_s[self.name] += time.process_time() - began_s
        for source in self.settings.asking(self.session):
            plan = self.plans[source] = self._planned(placements[source])
            self.rollout.place(plan.nodes)
            self.note(plan, source)
            if self.replanning is not None:
                # Any device of the path may get a piece later: it takes part in the hand-over of new models from the beginning.
                self.rollout.place(dict.fromkeys(plan.placement.devices, ()))
            if self.settings.failover is not None:
                fallbacks = self.settings.fallbacks(self.session, source)
                self.fallbacks[source] = tuple(self._planned(placement) for placement in fallbacks)
                if self.settings.failover.then == "early_exit" and isinstance(plan.placement, ExitPlacement):
                    self.fallbacks[source] = (local_plan_of(plan.placement, self.model.placed),)
                for fallback in self.fallbacks[source]:
                    self.rollout.place(fallback.nodes)
                    self.note(fallback, source)
        together = [plan.devices if self.replanning is None else plan.placement.devices for plan in self.plans.values()]
        others = [plan for fallbacks in self.fallbacks.values() for plan in fallbacks]
        self.rollout.start([*together, *(plan.devices for plan in others)], others)
        self.session.at_end(self.close)
        if self.settings.after is not None:
            yield from self.rollout.caught_up()
        asking = []
        for source in self.plans:
            asking.append(self.world.env.process(self._ask(source)))
            if self.replanning is not None:
                self.world.env.process(self.replanning.look_again(source))
        yield self.world.env.all_of(asking)

    def note(self, plan: ServingPlan, source: str) -> None:
        """Write down what a plan promises."""
        placement = plan.placement
        self.world.trace.note(
            Planned(
                workload=self.name, device=source, time_s=self.env.now, planner=placement.planner, placement=plan.described,
                estimate_s=placement.estimate_s,
            )
        )  # fmt: skip

    def _planned(self, placement: Placement) -> ServingPlan:
        tiers = tuple(map(self.ways.tier, placement.devices))
        if isinstance(placement, ExitPlacement):
            return exit_plan_of(placement, self.model.placed, tiers, self.settings.priority)
        return plan_of(placement, self.settings.profile(self.session), tiers, self.settings.priority)

    def _ask(self, source: str) -> Process:
        """Issue the requests of one source; a device that is down asks nothing. Ends when the last of them is over, if there is a last."""
        start_s, most = self.world.now, self.settings.per_source
        answering = []
        samples = self.world.streams.generator("samples", self.name, source)
        num_samples = self.session.task.facts.num_test
        drawn: list[int] = []
        times_s = self.settings.arrivals.times_s(self.world.streams.stream("arrivals", self.name, source), source)
        for time_s in times_s if most is None else islice(times_s, most):
            yield self.world.sleep(max(0.0, start_s + time_s - self.env.now))
            if not drawn:
                # The same as one by one, and cheaper.
                drawn = samples.integers(num_samples, size=_DRAWN_AT_ONCE).tolist()[::-1]
            sample = drawn.pop()
            if self.world.is_up(source):
                self.requests += 1
                answer = self.world.env.process(self._answer(self.requests, source, sample))
                if most is not None:
                    answering.append(answer)
        yield self.world.env.all_of(answering) if most is not None else self.world.env.event()

    def _answer(self, number: int, source: str, sample: int) -> Process:
        """Answer one request."""
        plan = self.plans[source]
        version = self.rollout.version(plan)
        answers = self.model.answers(plan.placement, version)
        if isinstance(plan, ExitServingPlan) and isinstance(answers, AnswersWithExits):
            plan = plan.by_exit[int(answers.left[sample])]
        asked = self.open[number] = Asked(number, source, sample, version, plan.described, self.env.now)
        if self.settings.failover is None:
            outcome = yield from self._attempt(asked, plan, answers)
        else:
            outcome, answers = yield from self._attempts(asked, plan, answers, self.settings.failover.timeout)
        self.end(self.open[number], outcome, bool(answers.correct[sample]) if outcome == "answered" else None)

    def _attempts(self, asked: Asked, plan: ServingPlan, answers: Answers, timeout_s: float) -> Generator[Any, Any, tuple[str, Answers]]:
        """Answer one request by a placement, or else by those that follow when it does not do so in time."""
        following: ServingPlan | None
        for following in (*self.fallbacks[asked.device], None):
            began_s = self.world.now
            outcome = yield from self._attempt(asked, plan, answers, timeout_s)
            if outcome == "answered":
                break
            cause = {"dropped": "timeout", "failed": "lost", "rejected": "refused"}[outcome]
            then = "drop" if following is None else following.legs[-1].device
            self._set_back(asked.number, cause, plan.legs[-1].device, began_s, then)
            if following is None:
                break
            plan = following
            # The time that the attempt before took is in the setback; a part of it may still be under way.
            version = self.rollout.version(plan)
            asked = Asked(asked.number, asked.device, asked.sample, version, plan.described, asked.arrival_s)
            self.open[asked.number] = asked
            answers = self.model.answers(plan.placement, version)
        return outcome, answers

    def _attempt(self, asked: Asked, plan: ServingPlan, answers: Answers, timeout_s: float = math.inf) -> Generator[Any, Any, str]:
        """Compute the asking device's own piece, and wait for the others; how it ended."""
        own = plan.legs[0]
        if own.work is not None and not (yield from self._compute(asked, own, own.work)):
            return "rejected"
        if len(plan.legs) == 1:
            return "answered"
        if timeout_s == math.inf:
            return (yield from self._elsewhere(asked, plan, answers))
        env = self.env
        elsewhere, over = env.process(self._elsewhere(asked, plan, answers)), env.event()

        def first(_: simpy.Event) -> None:
            if not over.triggered:
                over.succeed()

        elsewhere.callbacks.append(first)
        env.timeout(timeout_s).callbacks.append(first)
        yield over
        if elsewhere.triggered:
            return str(elsewhere.value)
        if asked.own is not None:
            asked.own.abort()
        return "dropped"

    def _elsewhere(self, asked: Asked, plan: ServingPlan, answers: Answers) -> Generator[Any, Any, str]:
        """What happens beyond the asking device's own piece: out leg by leg, back hop by hop; how it ended."""
        label, message = f"request {asked.number}", None
        for hop in plan.hops:
            boundary = hop.boundary
            payload_bytes = self.reply_bytes if boundary < 0 else int(answers.payload_bytes[boundary, asked.sample])
            if message is None or message.kind != hop.kind or message.payload_bytes != payload_bytes:
                message = Message(kind=hop.kind, payload_bytes=payload_bytes, workload=self.name, label=label)
            sending = self.world.send(hop.source, hop.destination, message)
            if asked.own is None:
                asked.own = sending
            yield sending
            transfer = sending.transfer
            latency_s = transfer.latency_s
            asked.propagation_s += latency_s
            moving_s = transfer.end_s - transfer.start_s - latency_s
            asked.transmit_s += moving_s
            if transfer.outcome != "delivered":
                return "failed"
            if self.replanning is not None and moving_s > 0:
                self.replanning.saw(hop.source, hop.destination, payload_bytes, moving_s)
            leg = hop.leg
            if leg is not None and leg.work is not None and not (yield from self._compute(asked, leg, leg.work)):
                return "rejected"
        return "answered"

    def _compute(self, asked: Asked, leg: Leg, work: Work) -> Generator[Any, Any, bool]:
        """Have a leg's piece computed; whether its device took it."""
        came_s = self.env.now
        if self.admission is not None:
            if not (yield from self.admission.enter(leg)):
                self._set_back(asked.number, "memory", leg.device, came_s, "reject")
                return False
            if self.env.now > came_s:
                self._set_back(asked.number, "memory", leg.device, came_s, "wait")
        if self.batches is not None and leg.device != asked.device and self.batches.settings.takes(leg.device):
            computing = yield self.batches.add(leg, asked.version, asked.number)
        else:
            computing = self.world.compute(leg.device, work, workload=self.name, label=f"request {asked.number}")
            yield computing
        busy_s = computing.job.busy_s
        asked.queue_s += max(0.0, self.env.now - came_s - busy_s)
        asked.compute_s += busy_s
        return True

    def _set_back(self, request: int, cause: str, device: str, start_s: float, then: str) -> None:
        seconds = self.world.now - start_s
        self.world.trace.append(
            Setback(request=request, workload=self.name, cause=cause, device=device, start_s=start_s, seconds=seconds, followed_by=then)
        )

    def end(self, asked: Asked, outcome: str, correct: bool | None = None) -> None:
        """Write down how a request ended."""
        del self.open[asked.number]
        # The fields of a `Request`, in their order.
        self.world.trace.append_values(
            Request,
            (
                asked.number, self.name, asked.device, asked.sample, asked.version if outcome == "answered" else -1, asked.placement,
                asked.arrival_s, self.env.now, self.deadline_s, outcome, -1 if correct is None else int(correct),
                asked.queue_s, asked.compute_s, asked.transmit_s, asked.propagation_s,
            ),
        )  # fmt: skip

    def close(self) -> None:
        """Record the requests that the run's end cut off."""
        for asked in list(self.open.values()):
            self.end(asked, "censored")
