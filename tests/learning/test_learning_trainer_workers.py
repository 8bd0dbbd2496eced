"""Worker processes: the same bits as one process, started by a written rule, and gone when their parent is."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import nn
from trainer_nets import GRAPHS, Built, jobs_of, same_bits

from netfl.learning import workers
from netfl.learning.models import Cnn, Mlp
from netfl.learning.trainer import Adam, FitJob, Sgd, fit

SHAPE = (1, 6, 6)
SGD = Sgd(learning_rate=0.05, batch_size=10)


@pytest.fixture(scope="module", autouse=True)
def _no_process_stays() -> Iterator[None]:
    yield
    pids = list((workers._POOL._executor._processes or {}) if workers._POOL._executor else {})
    workers.stop()
    assert all(is_gone(pid) for pid in pids)


def is_gone(pid: int) -> bool:
    """Whether a process ends within ten seconds; one that nobody has waited for counts as ended."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("name", ["chain", "graph", "loop"])
def test_any_number_of_processes_gives_the_same_bits(name: str) -> None:
    model, shape, tokens = {"chain": (Cnn(channels=(4,)), SHAPE, 0), "graph": GRAPHS["resnet"], "loop": (Built(looped), (6,), 0)}[name]
    jobs = jobs_of(model, shape, tokens)
    alone = fit(SGD, model, shape, 10, jobs, workers=1)
    for number in (2, 3):
        assert same_bits(fit(SGD, model, shape, 10, jobs, workers=number), alone)
    pids = set(workers._POOL._executor._processes or {}) if workers._POOL._executor else set()
    assert len(pids) == 2
    assert os.getpid() not in pids


def looped(sample_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(6), nn.ELU(), nn.Dropout(0.2), nn.Linear(6, num_classes))


def test_more_processes_than_jobs() -> None:
    jobs = jobs_of(Mlp(), SHAPE, lengths=(5, 9))
    assert same_bits(fit(SGD, Mlp(), SHAPE, 10, jobs, workers=9), fit(SGD, Mlp(), SHAPE, 10, jobs, workers=1))
    assert fit(SGD, Mlp(), SHAPE, 10, [], workers=2) == []


def test_a_model_that_workers_do_not_find_trains_here(caplog: pytest.LogCaptureFixture) -> None:
    def local(sample_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        return nn.Sequential(nn.LayerNorm(6), nn.Linear(6, num_classes))

    model = Built(local)
    jobs = jobs_of(model, (6,), lengths=(5, 9))
    with caplog.at_level(logging.WARNING, "netfl"):
        assert same_bits(fit(SGD, model, (6,), 10, jobs, workers=2), fit(SGD, model, (6,), 10, jobs, workers=1))
    assert "Built trains in one process" in caplog.text


def test_what_a_worker_raises_is_raised_here() -> None:
    jobs = jobs_of(Mlp(), SHAPE, lengths=(30, 9))
    wrong = FitJob(jobs[1].start, jobs[1].inputs.astype(np.float64), jobs[1].labels, jobs[1].stream)
    with pytest.raises(ValueError, match="got \\(9, 1, 6, 6\\) of float64"):
        fit(SGD, Mlp(), SHAPE, 10, [jobs[0], wrong], workers=2)


def test_a_worker_that_dies_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    jobs = jobs_of(Mlp(), SHAPE)
    alone = fit(SGD, Mlp(), SHAPE, 10, jobs, workers=1)
    assert same_bits(fit(SGD, Mlp(), SHAPE, 10, jobs, workers=2), alone)
    assert workers._POOL._executor is not None
    workers._say_once.cache_clear()
    for pid in list(workers._POOL._executor._processes or {}):
        os.kill(pid, signal.SIGKILL)
        assert is_gone(pid)
    with caplog.at_level(logging.WARNING, "netfl"):
        for _ in range(2):
            assert same_bits(fit(SGD, Mlp(), SHAPE, 10, jobs, workers=2), alone)


# --- the rule -------------------------------------------------------------------------------------------------------------


def test_work_by_hand() -> None:
    # 36 * 64 + 64 * 10 = 2944 multiply-adds a sample. A convolution of 4 channels on 6 x 6 with 3 x 3 windows: 36 * 4 * 9 = 1296,
    # pooled to 3 x 3, 36 * 10 = 360 behind it. An embedding multiplies nothing; 7 steps of a GRU of 8: (6 * 24 + 8 * 24) for
    # the first layer and 2 * 8 * 24 for the second, and 80 for the answer.
    assert workers.forward_work(Mlp(hidden=(64,)), SHAPE, 10) == 2944
    assert workers.forward_work(Cnn(channels=(4,)), SHAPE, 10) == 1296 + 360
    model, shape, _ = GRAPHS["gru, last step"]
    assert workers.forward_work(model, shape, 10) == 7 * (6 * 24 + 8 * 24 + 2 * 8 * 24) + 80
    assert workers.forward_work(Built(lambda *_: nn.Sequential(nn.Linear(5, 10))), (6,), 10) == 0  # does not run: says nothing


def test_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    # Ten jobs of 178 samples in all, 2 epochs: 3 * 356 * 2944 = 3,144,192 multiply-adds a call.
    jobs = jobs_of(Mlp(), SHAPE)
    task = (Sgd(learning_rate=0.1, epochs=2), Mlp(), SHAPE, 10)
    started = []
    monkeypatch.setattr(workers, "_POOL", workers.Processes())
    monkeypatch.setattr(workers.Processes, "_warm", lambda self: setattr(self, "_is_warm", True))
    monkeypatch.setattr(workers.Processes, "_start", lambda self, number: started.append(number))
    monkeypatch.setenv("NETFL_WORKERS", "3")
    assert workers._workers_for(*task, jobs) == 1
    assert workers._POOL.work == 0  # too little to share at any time
    monkeypatch.setattr(workers, "SHARED_WORK", 3_144_192)
    monkeypatch.setattr(workers, "STARTING_WORK", 2.5 * 3_144_192)
    for calls, warm in ((1, False), (2, True)):
        assert workers._workers_for(*task, jobs) == 1
        assert (workers._POOL._is_warm, started) == (warm, [])
        assert workers._POOL.work == calls * 3_144_192
    assert workers._workers_for(*task, jobs[:1]) == 1  # one job has nothing to share
    assert workers._workers_for(*task, jobs) == 1
    assert started == [2]  # this process is the third
    monkeypatch.setattr(workers._POOL, "_executor", object())
    assert workers._workers_for(*task, jobs) == 3
    monkeypatch.setenv("NETFL_WORKERS", "1")
    assert workers._workers_for(*task, jobs) == 1
    monkeypatch.setattr(workers._POOL, "_executor", None)


def test_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETFL_WORKERS", "7")
    assert workers.workers_allowed() == 7
    monkeypatch.setenv("NETFL_WORKERS", "")
    assert workers.workers_allowed() == len(os.sched_getaffinity(0))
    for text in ("0", "-1", "many", "1.5"):
        monkeypatch.setenv("NETFL_WORKERS", text)
        with pytest.raises(ValueError, match="environment variable NETFL_WORKERS: expected a number of processes, at least 1, got"):
            workers.workers_allowed()
    with pytest.raises(ValueError, match="workers: expected a number of processes, at least 1, got 0"):
        fit(SGD, Mlp(), SHAPE, 10, [], workers=0)


def test_shares_are_balanced() -> None:
    shares = workers._shares([3, 1, 1, 1, 2, 8, 5], 3)
    assert sorted(index for share in shares for index in share) == list(range(7))
    # 8 alone; 5 + 1 + 1; 3 + 2 + 1 (by the longest first, to who has least)
    assert [share for share in shares if 5 in share] == [[5]]
    assert max(sum([3, 1, 1, 1, 2, 8, 5][index] for index in share) for share in shares) == 8


# --- processes end with their parent --------------------------------------------------------------------------------------

SCRIPT = """
import signal
import sys
import numpy as np
from netfl.learning import workers
from netfl.learning.models import Mlp, initial
from netfl.learning.trainer import FitJob, Sgd, fit
from netfl.randomness import Streams

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
# No guard: workers must not run this file again.
print("started", flush=True)
streams = Streams(seed=1)
start = initial(Mlp(), (4,), 2, streams.stream("model"))
jobs = [FitJob(start, np.ones((20, 4), dtype=np.float32), np.zeros(20, dtype=np.int64), streams.stream("fit", n)) for n in range(4)]
fit(Sgd(learning_rate=0.1), Mlp(), (4,), 2, jobs, workers=3)
print("pids", *workers._POOL._executor._processes, flush=True)
if sys.argv[1] == "end":
    sys.exit()
while True:
    fit(Sgd(learning_rate=0.1, epochs=2000), Mlp(), (4,), 2, jobs, workers=3)
"""


@pytest.mark.parametrize("end", ["end", "SIGINT", "SIGKILL"])
def test_no_process_outlives_its_parent(end: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with subprocess.Popen([sys.executable, str(script), end], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "started\n"
        word, *pids = process.stdout.readline().split()
        assert (word, len(pids)) == ("pids", 2)
        if end != "end":
            time.sleep(0.2)
            process.send_signal(getattr(signal, end))
        errors = process.stderr.read()
        assert process.wait(timeout=30) == (0 if end == "end" else -getattr(signal, end) if end != "SIGINT" else -2)
    assert all(is_gone(int(pid)) for pid in pids)
    assert "Process" not in errors  # no traceback of a worker
    assert errors.count("Traceback") == (end == "SIGINT")


def test_adam_too() -> None:
    jobs = jobs_of(Mlp(), SHAPE)
    trainer = Adam(batch_size=10, clip_norm=1.0, schedule="cosine")
    assert same_bits(fit(trainer, Mlp(), SHAPE, 10, jobs, workers=2), fit(trainer, Mlp(), SHAPE, 10, jobs, workers=1))
