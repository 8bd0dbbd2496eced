"""What every way to share a model's layers is held to."""

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from torch import nn

from netfl.learning.models import to_vector
from netfl.placement.graph import Traced, trace_graph
from netfl.placement.shared import SharedModel


def lossless(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return samples.copy(), np.full(len(samples), 4 * samples.shape[1], dtype=np.int64)


def assert_pieces_compute_the_whole(
    module: nn.Module, shape: tuple[int, ...], shared: Iterable[Callable[[Traced], tuple[SharedModel, int]]]
) -> None:
    """A module shared in several ways, each with so many workers, answers as it does alone.

    To 1e-6: kernels sum in another order for fewer output channels, and choose other blocks for other heights.
    """
    module.eval()
    inputs = np.random.default_rng(1).normal(size=(3, *shape)).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(inputs)).numpy()
    traced = trace_graph(module, shape)
    for share in shared:
        model, workers = share(traced)
        found, lengths = model.run(inputs, to_vector(module), lossless, (False,) * workers, -1)
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
        # As many messages of as many values as the portions say.
        messages = [message for _, sent in model.portions().steps for message in sent if message[2]]
        assert [int(length[0]) for length in lengths] == [4 * values for _, _, values in messages]
