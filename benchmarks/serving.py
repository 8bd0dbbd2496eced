"""Serving against bare SimPy: what 100,000 requests cost to simulate, with fair sharing, failover and the whole trace on netfl's side.

    python benchmarks/serving.py [--json] [--requests 100000] [--repeats 3]
    python benchmarks/serving.py --profile

Forty devices behind four gateways upload their inputs to one server and wait for its answer, each for 200 ms at most; then they answer
themselves. Requests are Poisson, the gateways' links about 40 % busy and the server 60 %.

The baseline is what one writes by hand with SimPy for the same queues and timeouts: one process a request, a `Resource` of capacity 1 for every
device's processor, for the server's and for each direction of each link, `timeout` for every transmission, propagation and computation, and
`answer | timeout` for the wait. Links are first come, first served there, which is cheaper than sharing, and it keeps a list of
(arrival, latency, who answered) and nothing else. netfl's time is the run, from a session at time 0 to the last row of the trace in a file on
disk, its digest included: max-min sharing of every link, a row for every transfer, wait, computation and request, and the bytes and energy
of every link and device. Reading the scenario and training the model beforehand are left out; metrics are not.

CPU seconds of this process, in turns; the best of the repeats counts. The two simulate the same system but for the sharing, so before a ratio is
given, the median latencies are compared: they must agree to 10 %, or the script fails.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import math
import pstats
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import simpy

from netfl.memory import collecting_seldom
from netfl.report import metrics
from netfl.scenario import load
from netfl.scenario.build import Bench, prepare
from netfl.workloads.requests import Requests
from netfl.workloads.serving_path import path_of

BASELINE = "bare SimPy"
GATEWAYS, DEVICES = 4, 10
RATE_PER_S = 15.0
TIMEOUT_S = 0.2
ACCESS_BPS, ACCESS_S = 2e6, 0.002
TRUNK_BPS, TRUNK_S = 0.78e6, 0.005


def scenario() -> dict[str, Any]:
    devices: dict[str, Any] = {
        "server": {"profile": "mini-pc", "tier": "cloud"},
    }
    links: dict[str, Any] = {}
    for number in range(1, GATEWAYS + 1):
        devices[f"gateway-{number}"] = {"profile": "pi-4", "tier": "gateway"}
        devices[f"device-{number}-{{1..{DEVICES}}}"] = {"profile": "esp32-s3"}
        links[f"trunk-{number}"] = {"between": [f"gateway-{number}", "server"], "rate": f"{TRUNK_BPS} bit/s", "latency": f"{TRUNK_S} s"}
        links[f"access-{number}-{{1..{DEVICES}}}"] = {
            "between": [f"device-{number}-{{1..{DEVICES}}}", f"gateway-{number}"], "rate": f"{ACCESS_BPS} bit/s", "latency": f"{ACCESS_S} s",
        }  # fmt: skip
    return {
        "schema": 1, "name": "serving", "seed": 1,
        "topology": {"schema": 1, "name": "serving", "devices": devices, "links": links},
        "data": {"source": "digits"}, "model": {"kind": "mlp", "hidden": [16]},
        "workloads": {
            "serving": {
                "kind": "requests", "pretrained": {"kind": "sgd", "epochs": 1, "batch_size": 16, "learning_rate": 0.1},
                "server": "server", "placement": "upload", "arrivals": {"kind": "poisson", "rate": f"{RATE_PER_S} per s"},
                "failover": {"timeout": f"{TIMEOUT_S} s", "then": "local"}, "deadline": "250 ms",
            }
        },
        "stop": {"after": "1 s"},
    }  # fmt: skip


def by_netfl(bench: Bench, seconds: float, folder: Path) -> tuple[float, int, float]:
    """(CPU seconds, requests, median latency)."""
    gc.collect()
    path = folder / f"{time.monotonic_ns()}.db"
    began_s = time.process_time()
    session = bench.session(path)
    env = session.world.env
    with collecting_seldom():
        while env.peek() <= seconds:
            session.world.step()
    session.finish("benchmark")
    found = metrics(session.world.trace.connection)["serving"]["serving"]
    session.world.trace.digest()
    session.world.trace.close()
    took_s = time.process_time() - began_s
    path.unlink()
    return took_s, found["requests"], found["p50_s"]


def by_simpy(figures: dict[str, float], seconds: float) -> tuple[float, int, float]:
    """The same system by hand."""
    gc.collect()
    began_s = time.process_time()
    env = simpy.Environment()
    server = simpy.Resource(env)
    done: list[tuple[float, float, str]] = []
    asked = 0

    def use(resource: simpy.Resource, hold_s: float) -> Generator[Any, Any, None]:
        with resource.request() as turn:
            yield turn
            yield env.timeout(hold_s)

    def elsewhere(access: dict[str, simpy.Resource], trunk: dict[str, simpy.Resource]) -> Generator[Any, Any, None]:
        yield from use(access["up"], figures["request_bits"] / ACCESS_BPS)
        yield env.timeout(ACCESS_S)
        yield from use(trunk["up"], figures["request_bits"] / TRUNK_BPS)
        yield env.timeout(TRUNK_S)
        yield from use(server, figures["server_s"])
        yield from use(trunk["down"], figures["reply_bits"] / TRUNK_BPS)
        yield env.timeout(TRUNK_S)
        yield from use(access["down"], figures["reply_bits"] / ACCESS_BPS)
        yield env.timeout(ACCESS_S)

    def request(access: dict[str, simpy.Resource], trunk: dict[str, simpy.Resource], own: simpy.Resource) -> Generator[Any, Any, None]:
        came_s = env.now
        answer = env.process(elsewhere(access, trunk))
        yield answer | env.timeout(TIMEOUT_S)
        who = "server"
        if not answer.triggered:
            yield from use(own, figures["device_s"])
            who = "device"
        done.append((came_s, env.now - came_s, who))

    def ask(number: int, trunk: dict[str, simpy.Resource]) -> Generator[Any, Any, None]:
        nonlocal asked
        generator = np.random.default_rng([1, number])
        access = {"up": simpy.Resource(env), "down": simpy.Resource(env)}
        own = simpy.Resource(env)
        while True:
            for gap_s in generator.exponential(1 / RATE_PER_S, 1000).tolist():
                yield env.timeout(gap_s)
                asked += 1
                env.process(request(access, trunk, own))

    for gateway in range(GATEWAYS):
        trunk = {"up": simpy.Resource(env), "down": simpy.Resource(env)}
        for device in range(DEVICES):
            env.process(ask(DEVICES * gateway + device, trunk))
    with collecting_seldom():
        env.run(until=seconds)
    took_s = time.process_time() - began_s
    return took_s, asked, float(np.median([latency_s for _, latency_s, _ in done]))


def figures_of(bench: Bench) -> dict[str, float]:
    """What the baseline must know of the model: message lengths, and seconds on server and device."""
    from netfl.placement.plan import piece_s

    session = bench.session(None)
    settings = bench.loaded.scenario.workloads["serving"]
    assert isinstance(settings, Requests)
    encoded_bytes, result_bytes = settings.lengths(session)
    profile = session.task.profile
    path = path_of(session, "device-1-1", "server")
    return {
        "request_bits": 8 * encoded_bytes(profile.nodes[0].output_values), "reply_bits": 8 * result_bytes,
        "server_s": piece_s(profile, path.tiers[-1], 1, len(profile.nodes)), "device_s": piece_s(profile, path.tiers[0], 1, len(profile.nodes)),
    }  # fmt: skip


def compared(requests: int, repeats: int) -> dict[str, Any]:
    bench = prepare(load(scenario()))
    figures = figures_of(bench)
    seconds = requests / (GATEWAYS * DEVICES * RATE_PER_S)
    ours, theirs = math.inf, math.inf
    with tempfile.TemporaryDirectory() as folder:
        by_netfl(bench, 1.0, Path(folder))  # the answers of the pieces, which are computed once
        for _ in range(repeats):
            took_s, count, p50_s = by_netfl(bench, seconds, Path(folder))
            ours = min(ours, took_s)
            took_s, their_count, their_p50_s = by_simpy(figures, seconds)
            theirs = min(theirs, took_s)
            if abs(p50_s / their_p50_s - 1) > 0.1 or abs(count / their_count - 1) > 0.05:
                sys.exit(f"not the same system: median {p50_s:g} s of {count} requests, and {their_p50_s:g} s of {their_count}")
    return {"case": f"{count} requests", "baseline": BASELINE, "ratio": theirs / ours, "netfl_s": ours, "baseline_s": theirs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--requests", type=int, default=100_000, help="how many requests, about")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many counts")
    parser.add_argument("--profile", action="store_true", help="show where netfl's time goes")
    given = parser.parse_args()
    if given.profile:
        bench = prepare(load(scenario()))
        with tempfile.TemporaryDirectory() as folder:
            by_netfl(bench, 1.0, Path(folder))
            profiler = cProfile.Profile()
            profiler.enable()
            by_netfl(bench, given.requests / (GATEWAYS * DEVICES * RATE_PER_S), Path(folder))
            profiler.disable()
        pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
        return
    row = compared(given.requests, given.repeats)
    if given.json:
        print(json.dumps([row], indent=2))
        return
    print(
        f"{row['case']}: netfl {row['netfl_s']:.2f} s, {row['baseline']} {row['baseline_s']:.2f} s of CPU; {1 / row['ratio']:.2f} times as much"
    )


if __name__ == "__main__":
    main()
