"""Tracing: counts by hand, the traps of counters and tracers, and that nothing is changed by looking."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest
import torch
from placement_models import ARCHITECTURES, Branching, Cnn, InPlace, Mlp, Recurrent, Residual, Separable, Tied, Tokens, seeded
from torch import nn
from torch.nn import functional

from netfl.errors import NetflError
from netfl.placement import Node, Profile, trace


def node_of(profile: Profile, name: str) -> Node:
    return profile.nodes[profile.index[name]]


def test_conv_and_linear_by_hand():
    profile = trace(seeded(Cnn), Cnn.shape)
    conv = node_of(profile, "conv1")
    # 6 filters of 1x3x3 at 8x8 places, two operations a multiply-accumulate: 2 * 6 * 9 * 64 = 6912.
    assert conv.flop == 6912
    # float32: input 64, output 6 * 64 = 384, parameters 54 + 6 = 60 values: 508 * 4 = 2032.
    assert conv.moved_bytes == 2032
    assert (conv.output_shape, conv.output_values, conv.op) == ((6, 8, 8), 384, "Conv2d")
    assert (conv.parameters, conv.parameter_bytes) == (((0, 54), (54, 60)), 240)
    head = node_of(profile, "head")
    # 8 inputs, 10 outputs: 2 * 80 = 160; input 8 + output 10 + 90 parameters = 108 values.
    assert (head.flop, head.moved_bytes) == (160, 432)
    # conv1 60, conv2 8 * (6 * 9) + 8 = 440, head 90 values.
    assert profile.parameter_bytes == 4 * (60 + 440 + 90)


def test_parameter_slices_lie_in_the_flat_vector():
    module = seeded(Residual)
    flat = torch.nn.utils.parameters_to_vector(module.parameters())
    (start, stop), (_, end) = node_of(trace(module, Residual.shape), "fc").parameters
    assert torch.equal(flat[start:stop], module.fc.weight.reshape(-1))
    assert torch.equal(flat[stop:end], module.fc.bias)


def test_trap_1_a_tensor_with_two_readers_crosses_once():
    profile = trace(seeded(Residual), Residual.shape)
    # The first ReLU is read by the convolution and by the addition.
    after_relu = profile.index["relu"] + 1
    assert [node.name for node in profile.nodes if "relu" in node.predecessors] == ["conv", "add"]
    assert profile.crossing(after_relu) == ("relu",)
    assert profile.crossing(after_relu + 1) == ("relu", "conv")
    assert profile.crossing(len(profile.nodes)) == ()


def test_trap_7_nodes_that_the_counter_does_not_know_move_bytes_and_count_one_per_value():
    profile = trace(seeded(Cnn), Cnn.shape)
    relu, pool = node_of(profile, "relu"), node_of(profile, "max_pool2d")
    # ReLU reads and writes 384 values. Pooling reads these and writes 6 * 4 * 4 = 96.
    assert (relu.flop, relu.moved_bytes) == (384, 4 * (384 + 384))
    assert (pool.flop, pool.moved_bytes) == (96, 4 * (384 + 96))


def test_a_view_costs_nothing():
    view = node_of(trace(seeded(Cnn), Cnn.shape), "view")
    assert (view.flop, view.moved_bytes, view.output_values) == (0, 0, 8)


def test_trap_8_grouped_convolution_counts_each_group_alone():
    depthwise = trace(seeded(Separable), Separable.shape).nodes[1]
    # 4 filters of 1x3x3 (not 4x3x3) at 6x6 places: 2 * 4 * 9 * 36 = 2592.
    assert depthwise.flop == 2592


def test_trap_8_training_is_three_forward_passes_whatever_the_counter_says_of_the_backward_one():
    from torch.utils.flop_counter import FlopCounterMode

    from netfl.learning.trainer import Sgd
    from netfl.workloads.session import Task

    module = seeded(Separable)
    profile = trace(module, Separable.shape)
    task = Task(model=None, dataset=None, facts=None, partition=None, profile=profile)  # type: ignore[arg-type]
    assert task.training_work(Sgd(learning_rate=0.1, epochs=2), 10).flop == 3 * profile.total_flop * 10 * 2
    # The depthwise layer alone: three times 2592, where the library's counter, which takes its backward pass for a dense one, says more.
    counter = FlopCounterMode(display=False)
    with counter:
        module[0](torch.zeros(1, *Separable.shape, requires_grad=True)).sum().backward()
    assert counter.get_total_flops() >= 3 * 2592


def test_trap_8_recurrent_layers_and_attention_are_counted_in_eval_mode():
    # Four gates of 6 units, each reading 4 inputs and 6 states, over 5 steps: 2 * 24 * 10 * 5 = 2400.
    for tracer in ("torch.export", "torch.fx"):
        assert node_of(trace(seeded(Recurrent), Recurrent.shape, tracer), "lstm").flop == 2400

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.attention(x, x, x, need_weights=False)[0]

    frozen = seeded(Attention).requires_grad_(False)
    attention = trace(frozen, (5, 8), "torch.fx").nodes[1]
    # Four projections 2 * 5 * 8 * 8 = 640 each, scores and mixture 2 * 5 * 5 * 8 = 400 each (two heads of 4).
    assert attention.flop == 4 * 640 + 2 * 400
    # Export sees the calls within: the same products, and one operation a value for what the counter does not know.
    exported = trace(frozen, (5, 8))
    assert sum(node.flop for node in exported.nodes if node.op in ("linear", "scaled_dot_product_attention")) == 4 * 640 + 2 * 400


def test_trap_13_profiling_neither_trains_nor_drops():
    module = seeded(Residual).train()
    profile = trace(module, Residual.shape)
    assert module.training and module.bn1.training
    assert module.bn1.num_batches_tracked.item() == 0
    assert profile == trace(copy.deepcopy(module).eval(), Residual.shape)
    dropout = trace(seeded(Mlp).train(), Mlp.shape).nodes[3]
    assert (dropout.op, dropout.flop, dropout.moved_bytes) == ("Dropout", 0, 0)


def test_trap_14_a_tied_weight_counts_once():
    profile = trace(seeded(Tied), Tied.shape)
    # Two weights of 8 * 8 values, the first used twice.
    assert profile.parameter_bytes == 2 * 64 * 4
    assert profile.nodes[1].parameters == profile.nodes[3].parameters == ((0, 64),)
    # Both sides hold it when it is used on both: 256 before the cut, 512 behind.
    assert profile.piece_parameter_bytes(0, 2) == 256
    assert profile.piece_parameter_bytes(2, 4) == 512


def test_trap_15_nodes_without_a_tensor_are_dependencies_of_no_bytes():
    profile = trace(seeded(Cnn), Cnn.shape, "torch.fx")
    size = node_of(profile, "size")
    assert (size.flop, size.moved_bytes, size.output_values, size.predecessors) == (0, 0, 0, ("mean",))
    assert node_of(profile, "view").predecessors == ("mean", "size")
    assert profile.crossing(profile.index["size"] + 1) == ("mean",)


def test_trap_15_a_tensor_that_only_its_shape_is_asked_of_does_not_cross():
    class Sized(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(x)
            return (y + 1.0) * x.size(1)

    profile = trace(Sized(), (4,), "torch.fx")
    assert [node.name for node in profile.nodes] == ["x", "relu", "add", "size", "mul"]
    assert profile.crossing(2) == ("relu",)


def test_trap_15_a_chain_is_the_fallback_where_control_flow_stops_the_tracer():
    profile = trace(nn.Sequential(nn.Linear(4, 4), _Gate(), nn.Linear(4, 2)), (4,))
    assert [node.op for node in profile.nodes] == ["input", "Linear", "_Gate", "Linear"]
    assert profile.tracer == "chain of children"
    assert [note.split(":")[0] for note in profile.notes] == ["torch.export", "torch.fx"]


class _Gate(nn.Module):
    """Branches on the length of the batch, which a tracer cannot but a fake tensor can follow."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2.0 if x.shape[0] != 7 else x + x


@pytest.mark.parametrize(
    ("module", "shape", "says"),
    [
        (Branching(), (4,), "cannot trace Branching"),
        (nn.Sequential(nn.Linear(3, 2)), (4,), r"does not run on samples of shape \(4,\)"),
        (nn.LSTM(4, 4), (5, 4), "LSTM"),
        (nn.Bilinear(3, 3, 2), (3,), "further inputs input2"),
        (nn.Softmax(dim=0), (3, 4), None),
    ],
)
def test_what_cannot_be_traced_is_said(module: nn.Module, shape: tuple[int, ...], says: str | None):
    if says is None:
        assert len(trace(module, shape).nodes) == 2
        return
    with pytest.raises(NetflError, match=says):
        trace(module, shape)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_export_and_fx_count_the_same_and_name_layers_alike(kind: type[nn.Module]):
    exported, traced = (trace(seeded(kind), kind.shape, tracer) for tracer in ("torch.export", "torch.fx"))
    assert trace(seeded(kind), kind.shape) == exported
    assert (exported.tracer, exported.notes) == ("torch.export", ())
    assert exported.total_flop == traced.total_flop
    assert exported.parameter_bytes == traced.parameter_bytes
    # fx numbers further additions after the ones that depend on no sample, which are no nodes.
    layers = [name for name in traced.index if traced.nodes[traced.index[name]].parameters and not name.startswith("add")]
    assert [name for name in exported.index if exported.nodes[exported.index[name]].parameters and not name.startswith("add")] == layers


def test_a_module_that_fx_cannot_follow_is_exported():
    class Sorted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flip(1) if x.dim() == 2 and x.shape[1] == 4 else x * 2.0

    assert [node.op for node in trace(Sorted(), (4,)).nodes] == ["input", "flip"]
    with pytest.raises(NetflError, match="cannot trace Sorted"):
        trace(Sorted(), (4,), "torch.fx")


def test_a_shape_that_depends_on_values_is_said():
    class Chosen(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[x > 0]

    with pytest.raises(NetflError, match="depends on the sample's values"):
        trace(Chosen(), (4,))


@pytest.mark.parametrize("returned", ["dict", "tuple"])
def test_a_module_that_returns_no_tensor_is_refused(returned: str):
    class Many(nn.Module):
        def forward(self, x: torch.Tensor) -> object:
            return {"logits": x, "hidden": x * 2.0} if returned == "dict" else (x, x * 2.0)

    with pytest.raises(NetflError, match=f"expected a module that returns one tensor, got one that returns a {returned}"):
        trace(Many(), (4,))


def test_samples_that_a_module_mixes_are_refused():
    class Mean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.mean()

    with pytest.raises(NetflError, match="'mean' does not keep the samples of a batch apart"):
        trace(Mean(), (4,))


def test_trap_10_an_overwritten_tensor_under_another_name_is_refused():
    class Alias(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2.0
            rows = y.view(-1)
            rows.add_(1.0)
            return y

    with pytest.raises(NetflError, match="'add_' writes in place into memory that 'mul' shows"):
        trace(Alias(), (4,))


def test_trap_10_adding_to_a_number_in_place_overwrites_nothing():
    class Counts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            n = x.size(1)
            m = n
            m += 1
            return functional.pad(x, (0, 1)).view(-1, m) * n

    profile = trace(Counts(), (4,), "torch.fx")
    # `mul` reads the width before it was added to.
    assert node_of(profile, "mul").predecessors == ("view", "size")


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_tracing_changes_nothing(kind: type[nn.Module]):
    module = seeded(kind).train()
    before = copy.deepcopy(module.state_dict())
    flags = [(inner.training, getattr(inner, "inplace", None)) for inner in module.modules()]
    attributes = {name: sorted(vars(inner)) for name, inner in module.named_modules()}

    def torch_state() -> tuple[object, ...]:
        return (
            torch.get_rng_state().tolist(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.get_default_device(),
            torch.backends.mha.get_fastpath_enabled(),
            nn.Module.__call__,
            nn.Module.__getattr__,
        )

    state = torch_state()
    trace(module, kind.shape)
    assert torch_state() == state
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert flags == [(inner.training, getattr(inner, "inplace", None)) for inner in module.modules()]
    assert attributes == {name: sorted(vars(inner)) for name, inner in module.named_modules()}
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_total_is_the_sum_and_json_gives_the_profile_back(kind: type[nn.Module]):
    profile = trace(seeded(kind), kind.shape)
    assert profile.total_flop == sum(node.flop for node in profile.nodes) > 0
    assert profile.nodes[0].op == "input"
    assert Profile.from_json(profile.to_json()) == profile


def test_profiles_that_are_none_are_refused():
    profile = trace(seeded(Mlp), Mlp.shape)
    document = json.loads(profile.to_json())
    with pytest.raises(NetflError, match="schema_version 1, got 2"):
        Profile.from_json(json.dumps({**document, "schema_version": 2}))
    with pytest.raises(NetflError, match="before its predecessor '_1'"):
        nodes = document["nodes"]
        Profile.from_json(json.dumps({**document, "nodes": [nodes[0], nodes[1], nodes[3]]}))
    with pytest.raises(ValueError, match="a first node with op 'input', got 'Linear'"):
        Profile(nodes=profile.nodes[1:], sample_shape=(12,))


def test_live_bytes_by_hand():
    profile = trace(seeded(Residual), Residual.shape)
    # While the second batch norm runs, its input, its output and the skip live: three tensors of 8 * 8 * 8 float32.
    assert profile.live_bytes[profile.index["bn2"]] == 3 * 8 * 8 * 8 * 4
    # While the pool runs: 512 values in, 8 out. The flattened view of these 8 lies in the same memory.
    assert profile.live_bytes[profile.index["pool"]] == (512 + 8) * 4
    assert profile.live_bytes[profile.index["flatten"]] == 8 * 4
    # The peak of everything lies at bn2 and add; the last three nodes need at most the pool's.
    assert profile.activation_bytes(0, len(profile.nodes)) == 6144
    assert profile.activation_bytes(profile.index["pool"], len(profile.nodes)) == 2080
    assert profile.activation_bytes(4, 4) == 0


def test_constants_are_no_nodes_and_their_parameters_count_with_the_reader():
    profile = trace(seeded(Tokens), Tokens.shape)
    assert "positions" not in profile.index and "expand" not in profile.index
    # The class token is the first 8 values of the vector, the positions the next 7 * 8.
    assert node_of(profile, "cat").parameters == ((0, 8),)
    assert node_of(profile, "add").parameters == ((8, 64),)


def test_in_place_nodes_keep_their_order():
    profile = trace(seeded(InPlace), InPlace.shape)
    # y = x + relu_(x) reads the overwritten x twice: one predecessor.
    assert node_of(profile, "add").predecessors == ("relu",)


def test_profiles_and_planners_need_no_torch():
    program = (
        "import sys; from netfl.placement.planners import PLANNERS; import netfl.placement; "
        "[PLANNERS.find(kind) for kind in PLANNERS.kinds()]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
