"""The processor's queue against the closed forms of M/M/1 and M/D/1, over independent replications.

Source: Kleinrock, "Queueing Systems", vol. 1, 1975. With arrivals at rate l, mean service 1/m and load r = l/m, the mean wait before service is
r / (m - l) where service is exponential and half of that where it is constant (Pollaczek-Khinchine).
"""

import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import simpy

from netfl import run
from netfl.compute import DeviceProfile, Job, Processor, Work
from netfl.network.outages import ALWAYS_UP
from tests.workloads.small import serving_only

_PROFILE = DeviceProfile(
    inference_flop_per_s=1.0, training_flop_per_s=1.0, memory_bytes_per_s=1e12, overhead_s=0.0, memory_bytes=10**9, idle_w=0.0, busy_w=1.0
)
_REPLICATIONS = 32
_JOBS = 1_500
_DISCARDED = 300


def waits(load: float, exponential: bool, replication: int) -> list[float]:
    """The waits of jobs that come to one processor as a Poisson process; mean service 1 s. The first ones, on a queue that begins empty, are left out."""
    generator = np.random.default_rng([replication, int(1000 * load), exponential])
    gaps_s = generator.exponential(1 / load, _JOBS).tolist()
    services_s = generator.exponential(1.0, _JOBS).tolist() if exponential else [1.0] * _JOBS
    env = simpy.Environment()
    processor = Processor(env, _PROFILE, ALWAYS_UP)
    jobs: list[Job] = []

    def source() -> Iterator[simpy.Event]:
        for gap_s, service_s in zip(gaps_s, services_s, strict=True):
            yield env.timeout(gap_s)
            jobs.append(processor.submit(Work(kind="inference", flop=service_s)))

    env.process(source())
    env.run()
    return [job.waited_s for job in jobs[_DISCARDED:]]


def within_standard_errors(means: list[float], expected: float) -> None:
    """The mean of replications lies within three standard errors of what is expected, and they are narrow enough to say something."""
    error = float(np.std(means, ddof=1)) / math.sqrt(len(means))
    assert error < 0.1 * expected
    assert abs(float(np.mean(means)) - expected) < 3 * error


@pytest.mark.parametrize("load", [0.4, 0.7])
@pytest.mark.parametrize("exponential", [True, False], ids=["M/M/1", "M/D/1"])
def test_mean_wait(load: float, exponential: bool) -> None:
    # m = 1 per s: M/M/1 0.4 / 0.6 = 0.667 s and 0.7 / 0.3 = 2.333 s; M/D/1 half of each.
    expected_s = load / (1 - load) * (1 if exponential else 0.5)
    within_standard_errors([float(np.mean(waits(load, exponential, number))) for number in range(_REPLICATIONS)], expected_s)


def test_share_of_jobs_that_wait_at_all() -> None:
    # Arrivals see time averages: a share of `load` finds the processor busy, whatever the service is.
    found = [float(np.mean(np.array(waits(0.5, False, number)) > 1e-9)) for number in range(_REPLICATIONS)]
    within_standard_errors(found, 0.5)


def test_requests_answered_on_their_own_device_wait_as_in_m_d_1(tmp_path: Path) -> None:
    """A whole scenario: 32 devices that answer alone are 32 replications of one queue with Poisson arrivals and constant service."""
    scenario = serving_only(serving__placement="device_only", serving__deadline=None, stop={"after": "1 s"})
    devices, links = scenario["topology"]["devices"], scenario["topology"]["links"]
    devices["node-{1..32}"] = devices.pop("node-{1..4}")
    links["node-{1..32}-radio"] = {**links.pop("node-{1..4}-radio"), "between": ["node-{1..32}", "gateway"]}
    # esp32-s3: 45 MFLOP/s, 0.3 GB/s, 0.1 ms a call. Service by the roofline, node by node; see `netfl.placement.plan.node_s`.
    alone = run({**scenario, "stop": {"after": "2 s"}}, output=tmp_path / "alone")
    service_s = alone.metrics["serving"]["serving"]["breakdown"]["compute_s"]
    assert service_s > 0
    scenario["workloads"]["serving"]["arrivals"] = {"kind": "poisson", "rate": f"{0.5 / service_s} per s"}
    scenario["stop"] = {"after": f"{400 * service_s} s"}
    run(scenario, output=tmp_path / "out")
    with sqlite3.connect(tmp_path / "out" / "run.db") as trace:
        found = trace.execute(
            "SELECT avg(queue_s) FROM requests WHERE outcome = 'answered' AND arrival_s > ? GROUP BY device", (50 * service_s,)
        ).fetchall()
    means = [mean for (mean,) in found]
    assert len(means) == 32
    # M/D/1 at load 0.5: 0.5 / (2 * 0.5) = half a service.
    within_standard_errors(means, 0.5 * service_s)
