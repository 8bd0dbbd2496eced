"""Executors of batches: the same bits wherever shares train, and a share that is lost trains here. Ray and Slurm themselves are started in
`tests/studies/test_clusters.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from trainer_nets import jobs_of, same_bits

from netfl.learning import executors, workers
from netfl.learning.executors import Processes
from netfl.learning.models import Mlp
from netfl.learning.parcels import Parcel
from netfl.learning.trainer import FitJob, Sgd, fit
from netfl.learning.workers import LostShareError, train_share, training_on

SHAPE = (1, 6, 6)
SGD = Sgd(learning_rate=0.05, batch_size=10)


class Elsewhere:
    """Trains shares at once, and loses those of given numbers."""

    works_here = False

    def __init__(self, num_shares: int, lost: Sequence[int] = ()) -> None:
        self.num_shares = num_shares
        self.lost = lost
        self.batches: list[int] = []
        self.stops = 0

    def submit(self, shares: Sequence[Parcel]) -> list[Future[bytes]]:
        self.batches.append(len(shares))
        answers = [Future[bytes]() for _ in shares]
        for index, (share, answer) in enumerate(zip(shares, answers, strict=True)):
            try:
                if index in self.lost:
                    raise LostShareError("a node went down")
                answer.set_result(train_share(b"".join(share)))
            except Exception as error:
                answer.set_exception(error)
        return answers

    def stop(self) -> None:
        self.stops += 1


def test_every_batch_goes_to_the_executor_in_shares() -> None:
    jobs = jobs_of(Mlp(), SHAPE)
    alone = fit(SGD, Mlp(), SHAPE, 10, jobs, workers=1)
    for number, shares in ((1, 1), (3, 3), (99, len(jobs))):
        there = Elsewhere(number)
        with training_on(there):
            assert same_bits(fit(SGD, Mlp(), SHAPE, 10, jobs), alone)
            assert same_bits(fit(SGD, Mlp(), SHAPE, 10, jobs[:1]), alone[:1])
            assert fit(SGD, Mlp(), SHAPE, 10, []) == []
        assert (there.batches, there.stops) == ([shares, 1], 1)
    assert same_bits(fit(SGD, Mlp(), SHAPE, 10, jobs), alone)
    assert there.batches == [len(jobs), 1]  # no longer asked


def test_a_lost_share_trains_here_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    jobs = jobs_of(Mlp(), SHAPE)
    workers._say_once.cache_clear()
    with caplog.at_level(logging.WARNING, "netfl"), training_on(Elsewhere(3, lost=(1,))):
        assert same_bits(fit(SGD, Mlp(), SHAPE, 10, jobs), fit(SGD, Mlp(), SHAPE, 10, jobs, workers=1))
    assert "a share of a batch was lost (a node went down); this process trains it" in caplog.text


def test_what_is_wrong_with_a_job_is_raised_here_and_ends_what_still_works() -> None:
    jobs = jobs_of(Mlp(), SHAPE, lengths=(30, 9))
    wrong = FitJob(jobs[1].start, jobs[1].inputs.astype(np.float64), jobs[1].labels, jobs[1].stream)
    there = Elsewhere(2)
    with pytest.raises(ValueError, match="of float64"), training_on(there):
        fit(SGD, Mlp(), SHAPE, 10, [jobs[0], wrong])
    assert there.stops == 2  # by the failure, and at the end


def test_serial_is_one_process_whatever_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SHARED_WORK", 0)
    monkeypatch.setattr(workers, "STARTING_WORK", 0)
    one = Processes(1)
    with training_on(one):
        fit(SGD, Mlp(), SHAPE, 10, jobs_of(Mlp(), SHAPE))
    assert one._executor is None


def test_a_slurm_job_leaves_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NETFL_WORKERS", "OMP_NUM_THREADS"):  # a job sets both
        monkeypatch.setenv(name, "1")
    jobs = jobs_of(Mlp(), SHAPE, lengths=(5, 9))
    shares: list[bytes] = []

    class Kept(Elsewhere):
        def submit(self, shares_: Sequence[Parcel]) -> list[Future[bytes]]:
            shares.extend(b"".join(share) for share in shares_)
            return super().submit(shares_)

    with training_on(Kept(1)):
        fit(SGD, Mlp(), SHAPE, 10, jobs)
    (tmp_path / "share-4").write_bytes(shares[0])
    assert executors.main(str(tmp_path), "4") == 0
    assert (tmp_path / "answer-4").read_bytes() == train_share(shares[0])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answer-4", "share-4"]
