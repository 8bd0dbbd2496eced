"""The roofline, and first come first served between steps: timelines by hand."""

import math

import pytest
import simpy

from netfl.compute import PROFILES, DeviceProfile, Job, Processor, Work


class Up:
    """Always up."""

    def finish_of(self, start_s: float, work_s: float) -> float:
        return start_s + work_s


class DownFromTo:
    """Down once."""

    def __init__(self, start_s: float, end_s: float) -> None:
        self.start_s, self.end_s = start_s, end_s

    def finish_of(self, start_s: float, work_s: float) -> float:
        if self.start_s <= start_s < self.end_s:
            return self.end_s + work_s
        finish_s = start_s + work_s
        return finish_s + self.end_s - self.start_s if start_s < self.start_s < finish_s else finish_s


def profile(**changes: float) -> DeviceProfile:
    figures = {
        "inference_flop_per_s": 100.0, "training_flop_per_s": 10.0, "memory_bytes_per_s": 1000.0, "overhead_s": 0.0,
        "memory_bytes": 10**6, "idle_w": 1.0, "busy_w": 3.0,
    }  # fmt: skip
    return DeviceProfile(**{**figures, **changes})  # type: ignore[arg-type]


def timeline(arrivals: list[tuple[float, Work]], uptime: object = None, **changes: float) -> tuple[list[Job], Processor]:
    """Submit work at its times and run to the end; jobs in the order in which they were submitted."""
    env = simpy.Environment()
    processor = Processor(env, profile(**changes), uptime or Up())  # type: ignore[arg-type]
    jobs: list[Job] = []

    def source() -> object:
        for time_s, work in arrivals:
            yield env.timeout(time_s - env.now)
            jobs.append(processor.submit(work))

    env.process(source())  # type: ignore[arg-type]
    env.run()
    return jobs, processor


def test_roofline_by_hand() -> None:
    # 500 flop at 100 FLOP/s = 5 s; 2000 bytes at 1000 B/s = 2 s; the larger, plus overhead 1 s.
    assert Work(kind="inference", flop=500, moved_bytes=2000).step_s(profile(overhead_s=1.0)) == 6.0
    # Nothing to compute but 7000 bytes to move: a node without flop still takes time.
    assert Work(kind="inference", flop=0, moved_bytes=7000).step_s(profile()) == 7.0
    # Training runs at its own rate, 10 FLOP/s: 40 flop in 4 steps of 1 s each, overhead 0.5 s a step.
    assert Work(kind="training", flop=40, steps=4).step_s(profile(overhead_s=0.5)) == 1.5


def test_first_come_first_served() -> None:
    # 2 s and 1 s of work at 0 and 0.5: they end at 2 and 3.
    jobs, processor = timeline([(0.0, Work(kind="inference", flop=200)), (0.5, Work(kind="inference", flop=100))])
    assert [job.end_s for job in jobs] == [2.0, 3.0]
    assert [job.waited_s for job in jobs] == [0.0, 1.5]
    assert processor.busy_s() == 3.0


def test_a_request_waits_for_the_mini_batch_in_progress_and_not_for_the_epoch() -> None:
    # Training: 5 steps of 1 s from 0. A request of 0.25 s at 2.5 waits until 3, runs to 3.25; training ends at 5.25.
    jobs, _ = timeline([(0.0, Work(kind="training", flop=50, steps=5)), (2.5, Work(kind="inference", flop=25))])
    assert [job.end_s for job in jobs] == [5.25, 3.25]
    assert jobs[1].waited_s == 0.5
    assert jobs[0].waited_s == 0.25


def test_a_request_on_a_step_boundary_does_not_wait_for_the_next_step() -> None:
    jobs, _ = timeline([(0.0, Work(kind="training", flop=50, steps=5)), (2.0, Work(kind="inference", flop=25))])
    assert [job.end_s for job in jobs] == [5.25, 2.25]


def test_two_trainings_take_turns() -> None:
    # Steps of 1 s: A at 0 (3 steps), B at 0.5 (2 steps): A 0-1, B 1-2, A 2-3, B 3-4, A 4-5.
    jobs, _ = timeline([(0.0, Work(kind="training", flop=30, steps=3)), (0.5, Work(kind="training", flop=20, steps=2))])
    assert [job.end_s for job in jobs] == [5.0, 4.0]


def test_higher_priority_goes_before_all_that_waits_and_cuts_no_step_short() -> None:
    # Training: 5 steps of 1 s from 0. Two requests of 0.5 s each at 0.2 and 0.4, one of priority 1 at 0.6: the step ends at 1, then the
    # one of priority 1, to 1.5; then the others in their order, to 2 and 2.5; training goes on to 6.5.
    plain, urgent = Work(kind="inference", flop=50), Work(kind="inference", flop=50, priority=1)
    jobs, _ = timeline([(0.0, Work(kind="training", flop=50, steps=5)), (0.2, plain), (0.4, plain), (0.6, urgent)])
    assert [job.end_s for job in jobs] == [6.5, 2.0, 2.5, 1.5]


def test_trainings_wait_for_all_requests_of_higher_priority() -> None:
    # Two trainings of 3 steps of 1 s at 0 and 0.3, requests of 0.5 s at 0.1, 0.2 and 1.6. The first step ends at 1; the requests run to 1.5, 2
    # and 2.5, the last one before both trainings; these take turns from then on: the second ends its steps at 3.5, 5.5, 7.5, the first at 4.5, 6.5.
    training, urgent = Work(kind="training", flop=30, steps=3), Work(kind="inference", flop=50, priority=1)
    jobs, _ = timeline([(0.0, training), (0.1, urgent), (0.2, urgent), (0.3, training), (1.6, urgent)])
    assert [job.end_s for job in jobs] == [6.5, 1.5, 2.0, 7.5, 2.5]


def test_lower_priority_waits_until_nothing_else_does() -> None:
    # A request of priority -1 waits for all of the training of 5 s that came before it, and for a plain request that came after it.
    jobs, _ = timeline(
        [
            (0.0, Work(kind="training", flop=50, steps=5)),
            (0.5, Work(kind="inference", flop=50, priority=-1)),
            (4.5, Work(kind="inference", flop=100)),
        ]
    )
    assert [job.end_s for job in jobs] == [5.0, 6.5, 6.0]


def test_so_many_in_one_call_pay_its_overhead_once() -> None:
    # 1 s overhead + 3 x 2 s, whether the seconds are counted or come from the roofline.
    assert Work(kind="inference", flop=200).times(3).step_s(profile(overhead_s=1.0)) == 7.0
    assert Work(kind="inference", flop=1, counted_s=2.0, memory_bytes=5).times(3).step_s(profile(overhead_s=1.0)) == 7.0
    assert Work(kind="inference", flop=1, memory_bytes=5).times(3).memory_bytes == 15


def test_work_stands_still_while_the_device_is_down() -> None:
    # 5 steps of 1 s from 0, down from 2.5 to 10: 2.5 s are left at 10. A request at 6 waits for the step in progress (to 10.5).
    jobs, processor = timeline(
        [(0.0, Work(kind="training", flop=50, steps=5)), (6.0, Work(kind="inference", flop=25))], DownFromTo(2.5, 10.0)
    )
    assert [job.end_s for job in jobs] == [12.75, 10.75]
    assert processor.busy_s() == 5.25


def test_busy_time_of_a_job_in_progress_counts_whole_steps() -> None:
    env = simpy.Environment()
    processor = Processor(env, profile(), Up())
    processor.submit(Work(kind="training", flop=50, steps=5))
    env.run(until=2.5)
    assert processor.busy_s() == 2.0


def test_memory_of_started_work_adds_up() -> None:
    works = [Work(kind="training", flop=20, steps=2, memory_bytes=100), Work(kind="inference", flop=100, memory_bytes=30)]
    _, processor = timeline([(0.0, works[0]), (0.5, works[1]), (9.0, works[1])])
    # The request runs between the two steps of training: both are in memory.
    assert processor.peak_memory_bytes == 130


def test_work_that_never_ends_because_its_device_never_comes_back() -> None:
    class Gone:
        def finish_of(self, start_s: float, work_s: float) -> float:
            return math.inf

    jobs, _ = timeline([(0.0, Work(kind="inference", flop=1))], Gone())
    assert math.isnan(jobs[0].end_s)


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_presets_are_plausible_and_have_sources(name: str) -> None:
    found = PROFILES[name]
    assert found.source
    assert 0 < found.training_flop_per_s <= found.inference_flop_per_s
    assert 0 <= found.idle_w < found.busy_w
