"""Placements that are planned anew while they serve, with the rates that requests had; what moves is paid."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from netfl.placement import Placement, Profile
from netfl.placement.planners.adaptive import Adaptive
from netfl.workloads.rollout import Rollout
from netfl.workloads.serving_path import path_of
from netfl.workloads.serving_plan import ServingPlan, nodes_of, plan_of
from netfl.workloads.session import Session

if TYPE_CHECKING:
    from netfl.workloads.requests import Requests

__all__ = ["Replanning"]

Process = Generator[Any, Any, None]


class Replanning:
    """What the planner `adaptive` does while a workload serves.

    Args:
        settings: of the workload.
        planner: its.
        session: of the run.
        rollout: which devices hold what.
        plans: of every source; a new one takes the old one's place.
        note: called with a plan that serves from now on, and whose it is.
    """

    def __init__(
        self,
        settings: Requests,
        planner: Adaptive,
        session: Session,
        rollout: Rollout,
        plans: dict[str, ServingPlan],
        note: Callable[[ServingPlan, str], None],
    ) -> None:
        self.settings = settings
        self.planner = planner
        self.session = session
        self.rollout = rollout
        self.plans = plans
        self.note = note
        self._rates_bps: dict[tuple[str, str], float] = {}

    def saw(self, source: str, destination: str, payload_bytes: int, moving_s: float) -> None:
        """A message took so long to move over a hop."""
        found_bps, weight = 8 * payload_bytes / moving_s, self.planner.smoothing
        before_bps = self._rates_bps.get((source, destination), found_bps)
        self._rates_bps[source, destination] = before_bps + weight * (found_bps - before_bps)

    def look_again(self, source: str) -> Process:
        """Plan a source's requests anew from time to time."""
        encoded_bytes, result_bytes = self.settings.lengths(self.session)
        profile = self.settings.profile(self.session)
        nominal = path_of(self.session, source, self.settings.server)
        while True:
            yield self.session.world.sleep(self.planner.period)
            hops = [
                replace(
                    hop,
                    up_bps=self._rates_bps.get((near, far), hop.up_bps),
                    down_bps=self._rates_bps.get((far, near), hop.down_bps),
                )
                for hop, (near, far) in zip(nominal.hops, pairwise(nominal.devices), strict=True)
            ]
            current = self.plans[source].placement
            path = replace(nominal, hops=tuple(hops))
            began_s = time.process_time()
            placement = self.planner.again(profile, path, encoded_bytes, result_bytes, current)
            self.session.planner_s[self.rollout.name] += time.process_time() - began_s
            if placement.labels != current.labels:
                yield from self._move(source, placement, profile)

    def _move(self, source: str, placement: Placement, profile: Profile) -> Process:
        """Send the parameters that devices lack for a new placement, and take it up; not while a new model is on its way."""
        version = self.rollout.version(self.plans[source])
        found = {device: places - self.rollout.nodes_on[device] for device, places in nodes_of(placement).items()}
        lacking = {device: places for device, places in found.items() if places}
        if not self._may_move(lacking, version):
            return
        label = f"move, version {version}"
        tried = [self.rollout.send(device, version, places, label) for device, places in lacking.items()]
        sendings = [sending for sending in tried if sending is not None]
        yield self.session.world.env.all_of(sendings)
        if all(sending.delivered for sending in sendings) and self._may_move(lacking, version):
            tiers = path_of(self.session, source, self.settings.server).tiers
            self.plans[source] = plan_of(placement, profile, tiers, self.settings.priority)
            self.rollout.place(nodes_of(placement))
            self.note(self.plans[source], source)
            for device in lacking:
                self.rollout.hold(device, {version})

    def _may_move(self, lacking: dict[str, set[int]], version: int) -> bool:
        """Whether the devices that get new nodes hold no version of others but this one, and no newer one is on its way."""
        rollout = self.rollout
        return rollout.feed.version == version and all(
            not rollout.nodes_on[device] or rollout.held[device] == {version} for device in lacking
        )
