"""Local training under differential privacy of single samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import annotated_types

from netfl.learning.models import Model
from netfl.learning.privacy import epsilon_of_fixed_number, sigma_of
from netfl.learning.trainer import Count, FitJob, FitResult, NotNegative, Positive, Trainer

__all__ = ["DpSgd"]


@dataclass(frozen=True, kw_only=True)
class DpSgd:
    """DP-SGD (M. Abadi et al., CCS 2016): each sample's gradient is clipped, and noise is added to their sum.

    A step draws `batch_size` of the client's samples without replacement, a fixed number, anew for every step; there are as many steps
    as batches in `epochs` passes. With C for the clip norm: w -= learning_rate * (sum of clipped gradients + N(0, (noise_multiplier
    C)^2)) / (samples drawn). Clients train one after another, each step's samples together.

    The model that a client sends is private; the losses that it would send to a selector that asks for them are not.

    Args:
        learning_rate: step length, greater than 0.
        clip_norm: gradients longer than this (Euclidean norm over all parameters) are scaled down to it.
        noise_multiplier: standard deviation of the noise on the sum, in clip norms; 0 clips only.
        epochs: passes over the shard, in numbers of steps.
        batch_size: samples a step; a shard with fewer gives all.
        delta: for which a run tells epsilon; the usual 1e-5 is a choice.
    """

    learning_rate: Positive
    clip_norm: Positive = 1.0
    noise_multiplier: NotNegative = 1.0
    epochs: Count = 1
    batch_size: Annotated[int, annotated_types.Ge(1)] = 16
    delta: Annotated[float, annotated_types.Gt(0), annotated_types.Lt(1)] = 1e-5

    def steps(self, num_samples: int) -> int:
        """How many steps a shard of so many samples takes."""
        return self.epochs * math.ceil(num_samples / self.batch_size)

    def in_round(self, number: int) -> Trainer:
        """See `Trainer`."""
        return self

    def fit(self, model: Model, sample_shape: tuple[int, ...], num_classes: int, jobs: Sequence[FitJob]) -> list[FitResult]:
        """Train the jobs, one after another.

        Raises:
            ValueError: a job's arrays do not fit the model or each other, or it has an offset, or the model cannot give gradients by sample.
        """
        from netfl.learning import per_sample

        results = []
        for job in jobs:
            count = len(job.labels)
            vector, loss, square, last = per_sample.train(
                model, sample_shape, num_classes, job, steps=self.steps(count), batch_size=min(self.batch_size, count),
                learning_rate=self.learning_rate, clip_norm=self.clip_norm, noise_multiplier=self.noise_multiplier,
                steps_an_epoch=self.steps(count) // self.epochs,
            )  # fmt: skip
            results.append(FitResult(vector, loss, count, self.steps(count), square, last))
        return results

    def epsilon(self, num_samples: int, rounds: int, delta: float) -> float:
        """What a client's sample is protected by after so many rounds that the client took part in, under replacement of one sample.

        Raises:
            ValueError: the numbers make no sense.
            MissingExtraError: dp-accounting is not installed.
        """
        return epsilon_of_fixed_number(
            sigma=sigma_of(self.noise_multiplier), sampled=min(self.batch_size, num_samples), total=num_samples,
            rounds=rounds * self.steps(num_samples), delta=delta,
        )  # fmt: skip
