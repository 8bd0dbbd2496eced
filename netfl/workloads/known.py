"""What a hub knows of its members when it selects among them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from netfl.codecs import Pipeline
from netfl.learning import values
from netfl.learning.select import ClientFacts
from netfl.store import Recipe

if TYPE_CHECKING:
    from netfl.workloads.federated import Training

__all__ = ["Known"]


class Known:
    """The facts of each member, as rounds add to them.

    Args:
        training: what the members take part in.
        device: the hub.
        uplink: codecs of updates.
        num_samples: of each member.
        with_losses: whether the facts say losses: those are computed where they are asked for, from updates that are kept until then.
    """

    def __init__(self, training: Training, device: str, uplink: Pipeline, num_samples: Mapping[str, int], with_losses: bool) -> None:
        self._training = training
        self._uplink = uplink
        self._device = device
        self._num_samples = num_samples
        self._with_losses = with_losses
        self._at_first: dict[str, ClientFacts] = {}
        self._facts: dict[str, ClientFacts] = {}
        # Of each member by its number: how often it was asked and in which round last, 0 for never; how long it took then, nan if nothing came.
        self._numbers = {member: number for number, member in enumerate(num_samples)}
        self._times = array("q", bytes(8 * len(num_samples)))
        self._rounds = array("q", bytes(8 * len(num_samples)))
        self._durations_s = array("d", [math.nan]) * len(num_samples)
        # Losses, and the updates whose losses nobody has asked for.
        self._losses: dict[str, values.TrainingLoss] = {}
        self._updates: dict[str, Recipe] = {}

    def __getitem__(self, member: str) -> ClientFacts:
        """Of one member, without losses; those of a member that nobody looks at are never made."""
        if member not in self._at_first:
            self._at_first[member] = _at_first(self._training, self._device, self._uplink, member, self._num_samples[member])
        if member not in self._facts:
            number = self._numbers[member]
            duration_s = self._durations_s[number]
            self._facts[member] = replace(
                self._at_first[member],
                last_duration_s=None if math.isnan(duration_s) else duration_s,
                times_selected=self._times[number],
                last_round=self._rounds[number] or None,
            )
        return self._facts[member]

    def facts(self, members: Sequence[str]) -> Mapping[str, ClientFacts]:
        """Of some members."""
        updates = {member: self._updates.pop(member) for member in members if member in self._updates}
        if updates:
            found = self._training.store.force_all([values.training_loss(update) for update in updates.values()])
            self._losses.update(zip(updates, found, strict=True))
        return _Facts(self, members, self._losses)

    def selected(self, member: str, number: int) -> None:
        """A member was asked in a round."""
        self._times[self._numbers[member]] += 1
        self._rounds[self._numbers[member]] = number
        self._facts.pop(member, None)

    def accepted(self, member: str, duration_s: float, update: Recipe | None) -> None:
        """A member's update was aggregated; it is None where nothing tells its loss."""
        self._durations_s[self._numbers[member]] = duration_s
        self._facts.pop(member, None)
        if self._with_losses and update is not None:
            self._updates[member] = update


class _Facts(Mapping[str, ClientFacts]):
    """Those of some members, made when they are looked at."""

    def __init__(self, known: Known, members: Sequence[str], losses: Mapping[str, values.TrainingLoss]) -> None:
        self._known = known
        self._members = members
        self._losses = losses

    def __getitem__(self, member: str) -> ClientFacts:
        facts, loss = self._known[member], self._losses.get(member)
        return facts if loss is None else replace(facts, last_loss=loss.mean, mean_square_loss=loss.mean_square)

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def _at_first(training: Training, device: str, uplink: Pipeline, member: str, num_samples: int) -> ClientFacts:
    world, num_values = training.world, training.session.task.num_parameters
    up, down = world.topology.route(member, device), world.topology.route(device, member)
    dense_bytes = 4 * num_values
    up_bytes = uplink.at_round(1).encoded_bytes(num_values) or dense_bytes
    slowest_up = min((hop.rate_bps for hop in up.hops), default=math.inf)
    slowest_down = min((hop.rate_bps for hop in down.hops), default=math.inf)
    transfers_s = 8 * up_bytes / slowest_up + 8 * dense_bytes / slowest_down + up.latency_s + down.latency_s
    training_s = 0.0
    if member in training.clients:
        work = training.session.task.training_work(training.settings.trainer, num_samples)
        training_s = work.steps * work.step_s(world.profile(member))
    return ClientFacts(
        num_samples=num_samples,
        expected_s=transfers_s + training_s,
        rate_bps=min(slowest_up, slowest_down),
        latency_s=up.latency_s,
    )
