"""A checked scenario into a session that can run: world, learning task and workloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from netfl.errors import ScenarioError
from netfl.network.topology import Topology
from netfl.network.transport import Fluid
from netfl.randomness import Streams
from netfl.scenario.load import Loaded
from netfl.scenario.tree import parse_path
from netfl.store import Store
from netfl.trace import Trace, Workload
from netfl.units import format_duration
from netfl.workloads import Progress, Session, Task
from netfl.world import World

__all__ = ["Bench", "prepare"]

_REHEARSALS = 2**31
"""Rehearsals draw as replicates from here on, which no study numbers."""

_TRUST = "if you trust it, add --trust-code to the command, or trust_code=True in Python"


@dataclass(frozen=True)
class Bench:
    """A scenario whose last checks, those that need data and model, have passed.

    Args:
        loaded: the scenario.
        store: where values are computed.
        task: what is learnt; None without data and model.
        streams: the run's random streams.
    """

    loaded: Loaded
    store: Store
    task: Task | None
    streams: Streams

    def session(self, trace_path: Path | None, on_progress: Callable[[Progress], None] | None = None) -> Session:
        """A session at time 0 with all workloads started.

        Args:
            trace_path: where the trace goes; None keeps it in memory.
            on_progress: called at the end of every round.
        """
        scenario = self.loaded.scenario
        world = World(
            topology=self.loaded.built.topology,
            profiles=self.loaded.built.profiles,
            transport=scenario.network,
            streams=self.streams,
            trace=Trace(trace_path),
        )
        session = Session(world, self.store, self.task, scenario.stop.accuracy, on_progress, alone=len(scenario.workloads) == 1)
        session.rehearse = self.rehearsal
        for name, workload in scenario.workloads.items():
            dense_bytes = session.dense_bytes if workload.role == "training" else 0
            world.trace.append(Workload(workload=name, role=workload.role, dense_bytes=dense_bytes))
        # Training comes first: its feeds of models must be there when serving looks for them.
        trainings_first = sorted(scenario.workloads.items(), key=lambda item: item[1].role != "training")
        session.processes = {name: world.env.process(workload.start(session, name)) for name, workload in trainings_first}
        ending = [name for name, workload in trainings_first if workload.ends]
        if ending:
            done = "all training done" if all(scenario.workloads[name].role == "training" for name in ending) else "all workloads done"
            world.env.all_of([session.processes[name] for name in ending]).callbacks.append(lambda _: session.stop(done))
        if scenario.stop.after is not None:
            reason = f"{format_duration(scenario.stop.after)} passed"
            world.env.timeout(scenario.stop.after).callbacks.append(lambda _: session.stop(reason))
        return session

    def rehearsal(self, number: int, store: Store, idle: bool) -> tuple[Session, Mapping[str, Any]]:
        """A session to try things out in; see `netfl.workloads.session.Rehearse`."""
        scenario, topology = self.loaded.scenario, self.loaded.built.topology
        if idle:
            topology = Topology(
                [replace(site, outages=None, battery=None) for site in topology.sites.values()],
                [replace(link, outages=None) for link in topology.links.values()],
                topology.media.values(),
                topology.name,
                topology.routing,
            )
        world = World(
            topology=topology,
            profiles=self.loaded.built.profiles,
            transport=Fluid() if idle else scenario.network,
            streams=Streams(self.streams.seed, _REHEARSALS + number),
            trace=Trace(),
        )
        return Session(world, store, self.task), scenario.workloads


def prepare(loaded: Loaded, store: Store | None = None, *, trust_code: bool = False) -> Bench:
    """Load the data, trace the model, and make the checks that need them.

    Args:
        loaded: the scenario.
        store: where values are computed.
        trust_code: whether code that the scenario names may run.

    Raises:
        ScenarioError: everything that is wrong, at once.
        MissingExtraError: data, or a package that reads it, is not there.
    """
    scenario = loaded.scenario
    store = store or Store()
    streams = Streams(scenario.seed, scenario.replicate)
    task = None
    if scenario.data is not None and scenario.model is not None:
        if getattr(scenario.model, "runs_code", False) and not trust_code:
            raise ScenarioError(loaded.problem(("model",), "this kind runs code that the scenario names", _TRUST))
        try:
            task = Task.load(scenario.data.source, scenario.data.partition, scenario.model, streams, store)
        except ScenarioError as error:
            raise ScenarioError(*(loaded.problem(parse_path(each.path), each.message, each.hint) for each in error.problems)) from error
    bench = Bench(loaded, store, task, streams)
    world = World(
        topology=loaded.built.topology, profiles=loaded.built.profiles, transport=scenario.network, streams=streams, trace=Trace()
    )
    session = Session(world, store, task)
    problems = [
        loaded.problem(("workloads", name, *path), message)
        for name, workload in scenario.workloads.items()
        for path, message in workload.model_problems(session)
    ]
    if problems:
        raise ScenarioError(*problems)
    return bench
