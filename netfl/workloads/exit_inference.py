"""A model with early exits as a serving workload has it: its weights, its placements, and what its pieces answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from netfl.errors import NetflError
from netfl.learning.exits import ExitAnswers, ExitNetwork, WithExits, entropies, exit_answers, leaving
from netfl.placement import Placement, Profile, Tier
from netfl.placement.exits import ExitPlacement, ExitProfile
from netfl.placement.planners.early_exit import EarlyExit, MeasuredExits
from netfl.randomness import Stream
from netfl.store import FactForm, Function, Recipe, recipe
from netfl.workloads.crossing import Crossing, profile_as_sent
from netfl.workloads.inference import Answers, Wire
from netfl.workloads.serving_plan import Leg, ServingPlan, plan_of
from netfl.workloads.session import Session

__all__ = [
    "AnswersWithExits",
    "ExitServingPlan",
    "exit_plan_of",
    "exit_profile",
    "have_diverged",
    "infer_with_exits",
    "local_exit",
    "local_plan_of",
    "measured",
    "vector_with_exits",
]

Calls = Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class AnswersWithExits(Answers):
    """Also where each sample left.

    Args:
        left: (N,) int64, the exit, counted from 0; a sample sends nothing behind it.
    """

    left: np.ndarray


def exit_profile(network: ExitNetwork, data: Recipe) -> Recipe:
    """The `Profile` of a model with exits, as `netfl.placement.exits` takes it."""
    return recipe(_EXIT_PROFILE, network, data)


def _exit_profile(calls: Calls) -> list[Profile]:
    from netfl.placement import trace

    return [trace(network.build(data.sample_shape, data.num_classes), data.sample_shape) for network, data in calls]


def vector_with_exits(session: Session, settings: WithExits) -> Recipe:
    """The recipe of the parameters that serve; workloads with equal settings have the same ones."""
    task, streams = session.task, session.world.streams
    return settings.model(task.model, task.dataset, streams.stream("initial model"), streams.stream("pretrain", "with exits"))


def measured(session: Session, settings: WithExits, planner: EarlyExit, crossing: Crossing) -> MeasuredExits:
    """What a planner may know of the model: it is trained for that, if the store has not got it."""
    network = settings.network(session.task.model)
    profile = ExitProfile(profile_as_sent(session.store.force(exit_profile(network, session.task.dataset)), crossing, None, 0.0))
    vector = vector_with_exits(session, settings)
    said: ExitAnswers = session.store.force(exit_answers(network, vector, session.task.dataset))
    return MeasuredExits(profile=profile, accuracies=said.accuracies, shares=said.shares(planner.threshold or 0.0))


def have_diverged(session: Session, settings: WithExits) -> bool:
    """Whether training has diverged: some exit says nothing of some sample. The model is trained for that, if the store has not got it."""
    said: ExitAnswers = session.store.force(
        exit_answers(settings.network(session.task.model), vector_with_exits(session, settings), session.task.dataset)
    )
    return not bool(np.isfinite(said.entropies).all())


def infer_with_exits(
    network: ExitNetwork,
    used: tuple[int, ...],
    threshold: float,
    data: Recipe,
    profile: Recipe,
    cuts: tuple[int, ...],
    weights: Recipe,
    crossing: Crossing,
    stream: Stream,
) -> Recipe:
    """The `AnswersWithExits` of the pieces of a placement, run for real over all test samples in one fixed batching.

    Whether a sample leaves is decided by what its device computed from what it was sent. Samples that left are computed on with
    their batch, so that a batch's shape does not depend on them; nothing that they would send is counted.

    Args:
        network: the kind of model.
        used: the exits in use.
        threshold: a sample leaves at one of them where its entropy is below, in nats.
        data: recipe of the `Dataset`.
        profile: recipe of the `Profile` of the whole.
        cuts: of the whole profile.
        weights: recipe of the `Weights`.
        crossing: codecs of what crosses a cut.
        stream: of random encoders.
    """
    return recipe(_INFER_WITH_EXITS, network, used, threshold, data, profile, cuts, weights, crossing, stream)


def _infer_with_exits(calls: Calls) -> list[AnswersWithExits]:
    from netfl.placement.serve_exits import infer

    results = []
    for network, used, threshold, data, profile, cuts, weights, crossing, stream in calls:
        wire = Wire(profile, crossing, stream)
        module = network.build(data.sample_shape, data.num_classes)
        found = infer(module, ExitProfile(profile), used, cuts, weights.vector, data.test_inputs, wire.send, wire.receive)
        exits = found.logits[:, np.array(used)]
        left = leaving(entropies(exits).T, threshold)
        rows = np.arange(len(left))
        correct = exits[rows, left].argmax(axis=1) == data.test_labels
        results.append(AnswersWithExits(correct, found.payload_bytes[:, rows, left], np.array(used)[left]))
    return results


@dataclass(frozen=True)
class ExitServingPlan(ServingPlan):
    """How requests are answered when they leave at different exits.

    Args:
        by_exit: the plan of a sample that leaves there; of exits in use.
    """

    by_exit: dict[int, ServingPlan]


def exit_plan_of(placement: ExitPlacement, profile: Profile, tiers: tuple[Tier, ...], priority: int) -> ExitServingPlan:
    """The plan that does what a placement of a model with exits says.

    Args:
        placement: of a source's requests.
        profile: of the whole model.
        tiers: of the source's path.
        priority: of the work.
    """
    exits, by_exit = ExitProfile(profile), {}
    for count, exit_ in enumerate(placement.used, start=1):
        used = placement.used[:count]
        part = Placement(
            cuts=exits.cuts_until(placement.cuts, used),
            devices=placement.devices,
            nodes=len(exits.places(used)),
            estimate_s=0.0,
            planner="",
        )
        plan = plan_of(part, exits.until(used), tiers, priority)
        legs = tuple(replace(leg, nodes=tuple(exits.places(used)[node] for node in leg.nodes)) for leg in plan.legs)
        by_place = dict(zip(plan.legs, legs, strict=True))
        hops = tuple(hop._replace(leg=hop.leg and by_place[hop.leg]) for hop in plan.hops)
        described = f"{part.describe()} exit {exit_ + 1}"
        by_exit[exit_] = replace(plan, placement=placement, legs=legs, hops=hops, described=described)
    last = by_exit[placement.used[-1]]
    return ExitServingPlan(placement, last.legs, last.devices, last.described, last.hops, by_exit)


def local_exit(placement: ExitPlacement, profile: Profile) -> int:
    """The last exit in use that lies on the asking device.

    Args:
        placement: of its requests.
        profile: of the whole model.

    Raises:
        NetflError: no exit lies there.
    """
    exits, own = ExitProfile(profile).exits, placement.cuts[0] if placement.cuts else placement.nodes
    there = [each for each in placement.used if exits[each] < own]
    if not there:
        raise NetflError(
            f"no exit lies on the asking device, which has {placement.describe().split(' ')[0]}: there is nothing to answer with"
        )
    return there[-1]


def local_plan_of(placement: ExitPlacement, profile: Profile) -> ServingPlan:
    """How an asking device answers with what it has computed already; see `local_exit`."""
    source, exit_ = placement.devices[0], local_exit(placement, profile)
    alone = replace(placement, cuts=(), devices=(source,), used=(exit_,), threshold=0.0)
    return ServingPlan(alone, (Leg(source, None, 0),), (source,), f"{source} exit {exit_ + 1}", ())


_EXIT_PROFILE = Function("exit_profile", 1, _exit_profile, FactForm(Profile.to_json, Profile.from_json))


def _to_plain(found: AnswersWithExits) -> dict[str, Any]:
    return {**found.to_plain(), "left": found.left.tolist()}


def _from_plain(plain: dict[str, Any]) -> AnswersWithExits:
    answers = Answers.from_plain(plain)
    return AnswersWithExits(answers.correct, answers.payload_bytes, np.array(plain["left"], dtype=np.int64))


_INFER_WITH_EXITS = Function("infer_with_exits", 1, _infer_with_exits, FactForm(_to_plain, _from_plain))
