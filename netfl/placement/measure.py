"""How long each node of a model takes on this machine."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any

import torch
from torch import fx, nn

from netfl.errors import NetflError
from netfl.placement.graph import one_thread, trace_graph
from netfl.placement.profile import Profile, trace

__all__ = ["measured", "profile_part"]


def measured(module: nn.Module, profile: Profile, device_class: str, *, passes: int = 20) -> Profile:
    """The profile with the seconds that each node takes here, on one thread and one sample, under the name of a device class.

    Nodes are timed within whole passes, since a node that is repeated alone finds its data in the cache and looks faster than it is. The
    median over the passes counts. These are the only figures of netfl that depend on the host: they are input, as a file of
    measurements is, and no simulated result reads a clock.

    Args:
        module: whose `trace` the profile is.
        profile: the model's nodes.
        device_class: the name that the seconds get, such as that of a device profile.
        passes: after two to warm up.
    """
    traced = trace_graph(module, profile.sample_shape, profile.tracer)
    seconds: dict[str, list[float]] = {node.name: [] for node in profile.nodes}
    sample = torch.zeros(1, *profile.sample_shape)
    with torch.no_grad(), one_thread():
        for number in range(passes + 2):
            runner = fx.Interpreter(traced.body, garbage_collect_values=False)
            runner.env = {traced.nodes[0]: sample}
            for node in traced.nodes[1:]:
                start = time.perf_counter()
                runner.env[node] = runner.run_node(node)
                if number > 1 and node.name in seconds:
                    seconds[node.name].append(time.perf_counter() - start)
    nodes = []
    for each in profile.nodes:
        others = tuple(pair for pair in each.measured_s if pair[0] != device_class)
        took_s = statistics.median(seconds[each.name]) if seconds[each.name] else 0.0
        nodes.append(dataclasses.replace(each, measured_s=(*others, (device_class, took_s))))
    return dataclasses.replace(profile, nodes=tuple(nodes))


def profile_part(part: Any, sample_shape: tuple[int, ...], num_classes: int, device_class: str | None = None) -> Profile:
    """The profile of a model's settings, on samples of any shape; torch's random state stays as it was.

    Args:
        part: has `build(sample_shape, num_classes)`.
        sample_shape: without the batch axis.
        num_classes: how many labels.
        device_class: measure here, under this name; none does not measure.

    Raises:
        NetflError: no such model exists for such samples, or it cannot be traced.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            module = part.build(sample_shape, num_classes)
    except ValueError as error:
        raise NetflError(str(error)) from error
    profile = trace(module, sample_shape)
    return profile if device_class is None else measured(module, profile, device_class)
