"""All planners on one scenario: what each places where, what it promises, and what one simulated request takes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, Literal

from netfl.errors import NetflError, Problem, ScenarioError
from netfl.learning.exits import WithExits
from netfl.parts import nearest
from netfl.placement import Estimate, Path, Placement, Profile, estimate
from netfl.placement.figures import Figures, figures
from netfl.placement.planners import PLANNERS
from netfl.placement.planners.chain import Chain
from netfl.placement.planners.milp import Milp
from netfl.placement.planners.mincut import MinCut
from netfl.placement.planners.route import Route
from netfl.placement.planners.simulate import Simulate
from netfl.scenario import Loaded, load
from netfl.scenario.build import prepare
from netfl.store import Store
from netfl.workloads.cooperative import Cooperative
from netfl.workloads.rehearsal import idle_latency_s
from netfl.workloads.requests import Requests
from netfl.workloads.serving_path import Ways, path_of
from netfl.workloads.session import Session

__all__ = ["Compared", "Comparison", "Group", "Objective", "compare", "serving_of", "value_of"]

Objective = Literal["latency", "throughput", "energy"]

_NEEDS_SETTINGS = ("early_exit", "fixed", "route")


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What one planner does for one group of devices.

    Args:
        planner: its kind; the scenario's own planner is called `scenario: KIND`.
        placement: what it decided; none if it could not.
        figures: what that promises.
        parts: of its latency.
        gap: by what fraction it misses the best placement on the path that fits, for the objective; none where that is not known, or it leaves the
            path.
        simulated_s: one request, simulated on an idle network.
        planner_s: CPU seconds on this machine.
        error: why there is no placement.
    """

    planner: str
    placement: Placement | None = None
    figures: Figures | None = None
    parts: Estimate | None = None
    gap: float | None = None
    simulated_s: float | None = None
    planner_s: float = 0.0
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Devices whose paths to the server, and to replicas where there are any, are equal but for names.

    Args:
        sources: their names.
        path: of the first, to the server.
        rows: one a planner.
    """

    sources: tuple[str, ...]
    path: Path
    rows: tuple[Compared, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All planners on a serving workload of a scenario.

    Args:
        scenario: its name.
        workload: its name.
        objective: what gaps are about.
        profile: of the model that serves.
        groups: by equal paths.
    """

    scenario: str
    workload: str
    objective: Objective
    profile: Profile
    groups: tuple[Group, ...]


def compare(
    source: str | FilePath | Loaded,
    planners: Sequence[str] = ("all",),
    objective: Objective = "latency",
    *,
    workload: str | None = None,
    overrides: Sequence[str] = (),
    store: Store | None = None,
    trust_code: bool = False,
) -> Comparison:
    """Plan a serving workload with several planners.

    Args:
        source: path of a scenario, or one that has been loaded.
        planners: kinds, with their default settings; `all` for all that need none, and the scenario's own.
        objective: what planners that can choose minimise, and what gaps are about.
        workload: which serving workload; the only one where left out.
        overrides: settings as `path=value` texts.
        store: where values are computed.
        trust_code: whether code that the scenario names may run.

    Raises:
        ScenarioError: the scenario is wrong, serves nothing, or a planner's kind is unknown.
    """
    loaded = source if isinstance(source, Loaded) else load(source, overrides=list(overrides))
    name, settings = serving_of(loaded, workload)
    if not isinstance(settings, Requests):
        raise ScenarioError(Problem("expected a workload of kind requests: planners cut a path", path=f"workloads.{name}"))
    if isinstance(settings.pretrained, WithExits):
        expected = "a model without exits: other planners have no use for them; `netfl run` shows what `early_exit` does"
        raise ScenarioError(Problem(f"expected {expected}", path=f"workloads.{name}.pretrained"))
    kinds = _kinds(planners)
    # The scenario's own planner may be one that finds nothing: that is a row here and no error.
    anyhow = {**loaded.scenario.workloads, name: replace(settings, placement=_Anything())}
    loaded = Loaded(replace(loaded.scenario, workloads=anyhow), loaded.built, loaded.tree, loaded.given)
    bench = prepare(loaded, store, trust_code=trust_code)
    session = bench.session(None)
    own = PLANNERS.kind_of(settings.placement)
    tried: dict[str, Any] = {kind: _planner(kind, objective) for kind in kinds}
    if settings.placement not in tried.values() and "all" in planners:
        tried[f"scenario: {own}"] = settings.placement
    profile = settings.profile(session)
    rehearsed: dict[str, dict[str, Placement]] = {}
    groups: defaultdict[object, list[str]] = defaultdict(list)
    for device in settings.asking(session):
        path = path_of(session, device, settings.server)
        groups[tuple(replace(tier, device="") for tier in path.tiers), path.hops, _ways(settings, device, session)].append(device)
    return Comparison(
        scenario=loaded.scenario.name,
        workload=name,
        objective=objective,
        profile=profile,
        groups=tuple(_group(session, settings, name, tuple(sources), tried, objective, rehearsed) for sources in groups.values()),
    )


def value_of(found: Figures, objective: Objective) -> float:
    """What an objective says of figures; lower is better."""
    return {"latency": found.latency_s, "throughput": found.bottleneck_s, "energy": found.energy_j}[objective]


@dataclass(frozen=True, kw_only=True)
class _Anything:
    """All on the asking device, whether it fits or not."""

    def plan(self, profile: Profile, path: Path, encoded_bytes: Any, result_bytes: int) -> Placement:
        return Placement(
            cuts=(len(profile.nodes),) * len(path.hops), devices=path.devices, nodes=len(profile.nodes), estimate_s=0.0, planner="any"
        )


@dataclass(frozen=True, kw_only=True)
class _NoSum:
    """What `mincut` has to say about throughput."""

    def plan(self, profile: Profile, path: Path, encoded_bytes: Any, result_bytes: int) -> Placement:
        raise NetflError(
            "a minimum cut finds the least sum, and throughput is what the busiest processor or link takes; milp and chain look for that"
        )


def _ways(settings: Requests, device: str, session: Session) -> object:
    """The ways from a device to the replicas of planner `route`; where there are none to all of them, the planner's row will say so."""
    try:
        return settings.placement.ways(device, Ways(session)) if isinstance(settings.placement, Route) else None
    except NetflError:
        return None


def serving_of(loaded: Loaded, workload: str | None) -> tuple[str, Requests | Cooperative]:
    """The name and the settings of the workload whose requests are to be placed.

    Args:
        loaded: the scenario.
        workload: the name; the only one where left out.

    Raises:
        ScenarioError: there is none, or several and no name.
    """
    found = {name: each for name, each in loaded.scenario.workloads.items() if isinstance(each, Requests | Cooperative)}
    if not found:
        raise ScenarioError(loaded.problem(("workloads",), "no workload serves requests: there is nothing to place"))
    if workload is None and len(found) > 1:
        raise ScenarioError(loaded.problem(("workloads",), f"several workloads serve: name one of {', '.join(found)}"))
    name = next(iter(found)) if workload is None else workload
    if name not in found:
        raise ScenarioError(
            loaded.problem(("workloads",), f"no serving workload '{name}'; there are: {', '.join(found)}", nearest(name, list(found)))
        )
    return name, found[name]


def _kinds(planners: Sequence[str]) -> list[str]:
    known = PLANNERS.kinds()
    for each in planners:
        if each != "all" and each not in known:
            raise ScenarioError(
                Problem(f"no planner '{each}'; there are: all, {', '.join(known)}", path="--planner", hint=nearest(each, known))
            )
        if each in _NEEDS_SETTINGS:
            raise ScenarioError(Problem(f"planner '{each}' needs settings: name it in the scenario's `placement`", path="--planner"))
    if "all" in planners:
        return [kind for kind in known if kind not in _NEEDS_SETTINGS]
    return list(dict.fromkeys(planners))


def _planner(kind: str, objective: Objective) -> Any:
    if kind == "milp":
        return Milp(objective=objective)
    if kind == "chain":
        return Chain(objective=objective)
    if kind == "mincut":
        return _NoSum() if objective == "throughput" else MinCut(objective=objective)
    return PLANNERS.find(kind)()


def _group(
    session: Session,
    settings: Requests,
    name: str,
    sources: tuple[str, ...],
    tried: dict[str, Any],
    objective: Objective,
    rehearsed: dict[str, dict[str, Placement]],
) -> Group:
    path = path_of(session, sources[0], settings.server)
    ways = Ways(session)
    encoded_bytes, result_bytes = settings.lengths(session)
    profile = settings.profile(session)
    rows = []
    for label, planner in tried.items():
        start_s = time.process_time()
        try:
            if isinstance(planner, Simulate):
                # All devices share the load, so they are tried out together, once.
                if label not in rehearsed:
                    rehearsed[label] = replace(settings, placement=planner).plans(session, name)
                placement = rehearsed[label][sources[0]]
            elif isinstance(planner, Route):
                placement = planner.through(profile, sources[0], ways, encoded_bytes, result_bytes)
            else:
                placement = planner.plan(profile, path, encoded_bytes, result_bytes)
        except NetflError as error:
            rows.append(Compared(planner=label, planner_s=time.process_time() - start_s, error=str(error)))
            continue
        planner_s = time.process_time() - start_s
        used = path if placement.devices == path.devices else ways.through(placement.devices)
        rows.append(
            Compared(
                planner=label,
                placement=placement,
                figures=figures(profile, used, placement, encoded_bytes, result_bytes),
                parts=estimate(placement.arranged(profile), used, placement.cuts, encoded_bytes, result_bytes),
                simulated_s=idle_latency_s(session, settings, sources[0], placement),
                planner_s=planner_s,
            )
        )
    best = _best(profile, path, encoded_bytes, result_bytes, objective)
    # What leaves the path is not held to the best of the path.
    known = [row if row.placement is None or row.placement.devices != path.devices else _with_gap(row, best, objective) for row in rows]
    return Group(sources=sources, path=path, rows=tuple(known))


def _best(profile: Profile, path: Path, encoded_bytes: Any, result_bytes: int, objective: Objective) -> float | None:
    """The objective's value at the best placement that fits, proved; none where nothing fits or nothing was proved."""
    try:
        placement = Milp(objective=objective).plan(profile, path, encoded_bytes, result_bytes)
    except NetflError:
        return None
    if placement.gap != 0:
        return None
    return value_of(figures(profile, path, placement, encoded_bytes, result_bytes), objective)


def _with_gap(row: Compared, best: float | None, objective: Objective) -> Compared:
    if best is None or row.figures is None:
        return row
    value = value_of(row.figures, objective)
    return replace(row, gap=0.0 if value <= best else (value - best) / best if best else float("inf"))
