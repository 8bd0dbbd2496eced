"""Split execution: bit-equal to the whole model at every cut, whatever is in the model."""

from __future__ import annotations

import pickle
from typing import ClassVar

import numpy as np
import pytest
import torch
from placement_models import ARCHITECTURES, ChannelsLast, Cnn, InPlace, Mlp, Residual, Tied, Tokens, seeded
from torch import nn
from torch.nn import functional

from netfl.errors import NetflError
from netfl.placement import Profile, trace
from netfl.placement.graph import one_thread
from netfl.placement.split import Split


def samples_of(kind: type[nn.Module], count: int = 9) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((count, *kind.shape)).astype(np.float32)


def whole(module: nn.Module, inputs: np.ndarray) -> np.ndarray:
    """The whole module's output in eval mode, on one thread, in one batch."""
    training = module.training
    with torch.no_grad(), one_thread():
        output = module.eval()(torch.tensor(inputs)).numpy()
    module.train(training)
    return output


def through(split: Split, profile: Profile, inputs: np.ndarray, vector: np.ndarray | None = None) -> np.ndarray:
    """The split model's output; what crosses a cut crosses as raw bytes."""
    tensors = {profile.nodes[0].name: inputs}
    for piece in split.pieces:
        tensors = piece(tensors, vector)
        for tensor in tensors.values():
            assert tensor.dtype == np.float32 and tensor.flags.c_contiguous
        tensors = {name: np.frombuffer(tensor.tobytes(), dtype=np.float32).reshape(tensor.shape) for name, tensor in tensors.items()}
    return tensors["output"]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_trap_11_every_prefix_cut_is_bit_equal_to_the_whole(kind: type[nn.Module]):
    module = seeded(kind)
    profile = trace(module, kind.shape)
    inputs = samples_of(kind)
    expected = whole(module, inputs)
    assert np.ptp(expected) > 0
    for cut in range(1, len(profile.nodes) + 1):
        split = Split(module, profile, (cut,))
        crossing = split.run_piece(0, {profile.nodes[0].name: inputs})
        wanted = profile.crossing(cut) or ("output",)
        assert tuple(crossing) == wanted
        for name in profile.crossing(cut):
            assert crossing[name].shape == (9, *profile.nodes[profile.index[name]].output_shape)
            assert crossing[name][0].size == profile.nodes[profile.index[name]].output_values
        assert np.array_equal(through(split, profile, inputs), expected), f"cut {cut}"


class Parted(nn.Module):
    """Branches as an Inception block has them; one overwrites what it made, and one what all read."""

    shape: ClassVar = (3, 6, 6)

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = (nn.Conv2d(count, 4, 3, padding=1) for count in (3, 4, 4))
        self.head = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x.relu_()
        parts = (self.left(x).relu_(), torch.tanh(self.right(x)), functional.max_pool2d(x, 3, 1, 1))
        return self.head(torch.cat(parts, 1).mean(dim=(2, 3)))


@pytest.mark.parametrize("kind", [Tokens, Parted])
def test_trap_11_branches_that_part_are_bit_equal_too(kind: type[nn.Module]):
    """Over three tiers, each node on any that its data has reached: what `mincut` may choose and no prefix cut can."""
    module = seeded(kind)
    profile = trace(module, kind.shape)
    inputs, draw = samples_of(kind), np.random.default_rng(6)
    expected = whole(module, inputs)
    parted = 0
    for _ in range(12):
        labels = [0]
        for node in profile.nodes[1:]:
            nearest = max(labels[profile.index[name]] for name in node.predecessors)
            labels.append(min(2, nearest + int(draw.random() < 0.25)))
        labels[-1] = max(labels)
        order = tuple(sorted(range(len(labels)), key=lambda place: (labels[place], place)))
        placed = profile.in_order(order)
        cuts = tuple(sum(label <= hop for label in labels) for hop in range(2))
        assert np.array_equal(through(Split(module, placed, cuts), placed, inputs), expected), labels
        parted += order != tuple(range(len(labels)))
    assert parted > 0


def test_three_pieces_and_empty_ones():
    module = seeded(Residual)
    profile = trace(module, Residual.shape)
    inputs = samples_of(Residual)
    last = len(profile.nodes)
    for cuts in ((1, 5, 8), (4, 4, 6), (3, 3, 3), (1, 1, 1), (5, last, last), (last, last, last)):
        split = Split(module, profile, cuts)
        assert len(split.pieces) == 4
        assert np.array_equal(through(split, profile, inputs), whole(module, inputs)), cuts


def test_trap_11_memory_order_is_restored():
    # The permuted image makes every later tensor channels-last: the receiving kernel must see the same order.
    module = seeded(ChannelsLast)
    profile = trace(module, ChannelsLast.shape)
    split = Split(module, profile, (3,))
    layout = split._traced.layouts[split._by_name["conv1"]][0]
    assert layout.order == (0, 2, 3, 1)
    rebuilt = layout.from_samples(np.zeros((2, 16, 6, 6), dtype=np.float32))
    assert rebuilt.is_contiguous(memory_format=torch.channels_last)


def test_trap_10_in_place_operations_leave_the_callers_arrays_alone():
    class First(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mul_(2.0).add_(1.0) * 3.0

    profile = trace(First(), (4,))
    inputs = np.ones((2, 4), dtype=np.float32)
    for cut in (1, 2, 3, 4):
        kept = inputs.copy()
        # (1 * 2 + 1) * 3 = 9.
        assert (through(Split(First(), profile, (cut,)), profile, inputs) == 9).all()
        assert np.array_equal(inputs, kept)


def test_trap_10_what_was_overwritten_is_read_as_overwritten():
    module = seeded(InPlace)
    inputs = samples_of(InPlace)
    hidden = torch.tensor(inputs) @ module.fc.weight.T + module.fc.bias
    # y = 2 * (relu + relu), through the leaky ReLU unchanged since y >= 0, less 1 in place under both names: 2 * (4 relu - 1).
    expected = (2 * (4 * hidden.clamp(min=0) - 1)).detach().numpy()
    profile = trace(module, InPlace.shape)
    np.testing.assert_allclose(through(Split(module, profile, (4,)), profile, inputs), expected, rtol=1e-5, atol=1e-5)


def test_trap_12_a_crossing_tensor_is_its_own_values_alone():
    module = seeded(Cnn)
    profile = trace(module, Cnn.shape)
    crossing = Split(module, profile, (2,)).run_piece(0, {"x": samples_of(Cnn, 64)})["conv1"]
    # One sample's 6 * 8 * 8 float32 are 1536 bytes; a pickled torch view would carry the batch's 98304.
    assert crossing[0].tobytes().__len__() == 1536
    view = torch.tensor(crossing)[0]
    assert len(pickle.dumps(view)) > 64 * 1536


def test_trap_13_dropout_and_batch_norm_run_in_eval_mode_and_stay_as_they_were():
    module = seeded(Residual).train()
    profile = trace(module, Residual.shape)
    statistics = module.bn1.running_mean.clone()
    inputs = samples_of(Residual)
    assert np.array_equal(through(Split(module, profile, (3,)), profile, inputs), whole(module, inputs))
    assert module.training and torch.equal(module.bn1.running_mean, statistics)
    dropping = seeded(Mlp).train()
    split = Split(dropping, trace(dropping, Mlp.shape), (4,))
    first = split.run_piece(0, {"input_1": samples_of(Mlp)})
    assert all(np.array_equal(first[name], again) for name, again in split.run_piece(0, {"input_1": samples_of(Mlp)}).items())


@pytest.mark.parametrize("kind", [Mlp, Residual, Tied, Tokens])
def test_weights_come_from_the_vector_or_from_the_module_at_call_time(kind: type[nn.Module]):
    module = seeded(kind)
    profile = trace(module, kind.shape)
    split = Split(module, profile, (3,))
    inputs = samples_of(kind)
    old = torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy().copy()
    before = through(split, profile, inputs)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)
    after = through(split, profile, inputs)
    assert not np.array_equal(before, after)
    assert np.array_equal(after, whole(module, inputs))
    assert np.array_equal(through(split, profile, inputs, old), before)
    # The vector replaced the split's own weights, not the module's, and not for good.
    assert np.array_equal(through(split, profile, inputs), after)
    assert np.array_equal(torch.nn.utils.parameters_to_vector(module.parameters()).detach().numpy(), np.float32(1.5) * old)


def test_batch_statistics_come_from_the_module_at_call_time():
    module = seeded(Residual)
    profile = trace(module, Residual.shape)
    split = Split(module, profile, (5,))
    module.bn2.running_mean.add_(1.0)
    assert np.array_equal(through(split, profile, samples_of(Residual)), whole(module, samples_of(Residual)))


def test_what_does_not_fit_is_refused():
    module = seeded(Mlp)
    profile = trace(module, Mlp.shape)
    split = Split(module, profile, (2,))
    with pytest.raises(NetflError, match="expected the tensors _0, got _1"):
        split.run_piece(1, {"_1": np.zeros((2, 16), dtype=np.float32)})
    with pytest.raises(NetflError, match=r"expected '_0' of shape \(2, 16\), got \(2, 15\)"):
        split.run_piece(1, {"_0": np.zeros((2, 15), dtype=np.float32)})
    with pytest.raises(NetflError, match=r"a vector of \(293,\) weights, got \(292,\)"):
        split.run_piece(1, {"_0": np.zeros((2, 16), dtype=np.float32)}, np.zeros(292, dtype=np.float32))
    with pytest.raises(NetflError, match="not those of this Sequential"):
        Split(nn.Sequential(nn.Linear(12, 5)), profile, (2,))
    for cuts in ((0,), (6,), (3, 2)):
        with pytest.raises(ValueError, match="non-decreasing cuts from 1 to 5"):
            Split(module, profile, cuts)


class Spy(nn.Module):
    """Notes on how many threads it runs; its branch keeps the tracer out, so it runs as a whole."""

    threads: ClassVar[list[int]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.threads.append(torch.get_num_threads())
        return x if x.shape[0] != 7 else x + x


def test_trap_11_pieces_run_on_one_thread_which_is_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        module = nn.Sequential(nn.Linear(4, 4), Spy())
        Split(module, trace(module, (4,)), (2,)).run_piece(1, {"_0": np.zeros((2, 4), dtype=np.float32)})
        assert Spy.threads[-1] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
