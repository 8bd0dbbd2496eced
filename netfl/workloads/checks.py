"""What several workloads check of their settings before a run begins: (path below the workload, message) each."""

from __future__ import annotations

from collections.abc import Iterator

from netfl.codecs import Pipeline, Stage
from netfl.errors import NetflError, NoRouteError
from netfl.learning.aggregators import Aggregator
from netfl.parts import nearest
from netfl.units import counted
from netfl.workloads.session import Session, Setting, matching

__all__ = [
    "Found",
    "aggregator_problems",
    "check_pipeline",
    "check_positive",
    "dealing_problems",
    "learner_problems",
    "missing_device",
    "server_problems",
    "serving_problems",
    "shortened",
    "unmatched",
    "unreachable",
]

Found = Iterator[tuple[tuple[str | int, ...], str]]


def check_pipeline(name: str, stages: tuple[Stage, ...]) -> None:
    """Raise ValueError, naming the setting, if the stages cannot be composed."""
    try:
        Pipeline(stages)
    except (NetflError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from None


def check_positive(name: str, value: float | None) -> None:
    """Raise ValueError, naming the setting, if a duration that was given is zero."""
    if value is not None and value <= 0:
        raise ValueError(f"{name}: expected a duration greater than 0")


def shortened(path: tuple[str | int, ...], messages: list[str]) -> Found:
    """A few of many like problems, and how many more there are."""
    for message in messages[:3]:
        yield path, message
    if len(messages) > 3:
        more = len(messages) - 3
        yield path, f"and {counted(more, 'more device')} {'has' if more == 1 else 'have'} the same problem"


def missing_device(setting_name: str, device: str, setting: Setting) -> Found:
    """A problem if a setting names a device that the topology does not have."""
    if device not in setting.topology.sites:
        yield (setting_name,), f"no device '{device}' in the topology. {nearest(device, sorted(setting.topology.sites))}".rstrip()


def unmatched(setting_name: str, patterns: tuple[str, ...], setting: Setting) -> Found:
    """A problem for each pattern that no device's name matches."""
    for index, pattern in enumerate(patterns):
        if not matching((pattern,), setting.topology):
            yield (setting_name, index), f"no device matches '{pattern}'"


def unreachable(setting_name: str, devices: list[str], server: str, setting: Setting) -> Found:
    """A problem that names the devices from which no path of links leads to the server."""
    if server not in setting.topology.sites:
        return
    cut_off = [device for device in devices if not _reaches(setting, device, server)]
    if cut_off:
        shown = ", ".join(f"'{name}'" for name in cut_off[:5]) + (f" and {len(cut_off) - 5} more" if len(cut_off) > 5 else "")
        yield (setting_name,), f"no route to '{server}' from {shown}"


def learner_problems(patterns: tuple[str, ...], setting: Setting) -> Found:
    """Problems of who trains: nothing to learn, or nobody to do it."""
    if not setting.has_task:
        yield (), "training needs `data` and `model` in the scenario"
    yield from unmatched("clients", patterns, setting)
    if not matching(patterns, setting.topology):
        yield ("clients",), "no device matches: training has no clients"


def serving_problems(sources: tuple[str, ...], setting: Setting, **trainings: str | None) -> Found:
    """Problems of who asks what: no model, nobody who asks, or a setting that names a training workload which is not there."""
    if not setting.has_task:
        yield (), "serving needs `data` and `model` in the scenario"
    known = sorted(name for name, each in setting.workloads.items() if getattr(each, "role", None) == "training")
    for setting_name, training in trainings.items():
        if training is not None and training not in known:
            yield (setting_name,), f"no training workload '{training}'; there are: {', '.join(known) or 'none'}"
    yield from unmatched("sources", sources, setting)
    if not matching(sources, setting.topology):
        yield ("sources",), "no device matches: nobody asks"


def server_problems(server: str, patterns: tuple[str, ...], setting: Setting) -> Found:
    """Problems of a training's server: it is not there, it is one of its clients, or some cannot reach it."""
    yield from missing_device("server", server, setting)
    clients = matching(patterns, setting.topology)
    if server in clients:
        yield ("clients",), f"the server '{server}' cannot be its own client"
    yield from unreachable("server", clients, server, setting)


def dealing_problems(num_clients: int, session: Session) -> Found:
    """A problem if the training samples cannot be dealt to so many clients."""
    try:
        session.shard_samples(num_clients)
    except (NetflError, ValueError) as error:
        yield (), f"the data cannot be dealt to {num_clients} clients: {error}"


def _reaches(setting: Setting, source: str, destination: str) -> bool:
    try:
        setting.topology.route(source, destination)
    except NoRouteError:
        return False
    return True


def aggregator_problems(
    aggregator: Aggregator, trainer: object, updates: tuple[str, int] | None, *, carries_controls: bool = True
) -> Found:
    """Problems of an aggregator in a workload.

    Args:
        aggregator: what is checked.
        trainer: what makes the updates.
        updates: the setting that says how many updates it gets at most, and its value; None if that depends on the topology.
        carries_controls: whether the workload carries control variates.
    """
    if updates is not None and updates[1] < aggregator.least_updates:
        yield ("aggregator",), f"needs at least {aggregator.least_updates} updates a round; `{updates[0]}` is {updates[1]}"
    unfit = aggregator.unfit(trainer)
    if unfit is not None:
        yield ("aggregator",), unfit
    if aggregator.uses_controls and not carries_controls:
        yield ("aggregator",), "needs control variates, which travel only in `kind: synchronous` without `selective`"
