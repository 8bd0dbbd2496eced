"""The distillation losses against sums by hand."""

from math import log, sqrt

import pytest
import torch

from netfl.learning.distillation import Distillation, activation_loss, soft_target_loss

# softmax((2 ln 3, 0) / 2) = (3/4, 1/4) against (1/2, 1/2): KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 3/4 ln 3 - ln 2.
TEACHER = torch.tensor([[2 * log(3), 0.0]])
EVEN = torch.zeros(1, 2)
KL = 0.75 * log(3) - log(2)


def test_soft_targets_by_hand() -> None:
    assert float(soft_target_loss(EVEN, TEACHER, temperature=2.0)) == pytest.approx(4 * KL, rel=1e-6)
    # Divided by 2 classes as well.
    assert float(soft_target_loss(EVEN, TEACHER, temperature=2.0, mean="elements")) == pytest.approx(2 * KL, rel=1e-6)


def test_soft_targets_are_a_mean_over_samples_and_not_symmetric() -> None:
    both = soft_target_loss(torch.cat([EVEN, TEACHER]), torch.cat([TEACHER, TEACHER]), temperature=2.0)
    assert float(both) == pytest.approx(4 * (KL + 0) / 2, rel=1e-6)
    # The other way round: 1/2 ln((1/2) / (3/4)) + 1/2 ln((1/2) / (1/4)) = ln 2 - 1/2 ln 3.
    assert float(soft_target_loss(TEACHER, EVEN, temperature=2.0)) == pytest.approx(4 * (log(2) - log(3) / 2), rel=1e-6)


def test_gradient_of_soft_targets() -> None:
    # d/dz of T^2 KL(p(t) || p(z / T)) = T (p(z) - p(t)): 2 * (1/2 - 3/4, 1/2 - 1/4).
    logits = EVEN.clone().requires_grad_()
    soft_target_loss(logits, TEACHER, temperature=2.0).backward()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([-0.5, 0.5], rel=1e-6)


def test_activations_by_hand() -> None:
    # (3, 4) / 5 against (1, 0): (0.6 - 1)^2 + 0.8^2 = 0.8; (0, 2) / 2 against (0, 7) / 7: 0.
    mine = [torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])]
    wanted = [torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 7.0]])]
    assert float(activation_loss(mine, wanted)) == pytest.approx(0.8, rel=1e-6)
    # Two samples, one exact: the mean is half of it. Elements: two parts of two values each.
    double = [torch.cat([part, wanted[place]]) for place, part in enumerate(mine)]
    assert float(activation_loss(double, [torch.cat([part, part]) for part in wanted])) == pytest.approx(0.4, rel=1e-6)
    assert float(activation_loss(mine, wanted, mean="elements")) == pytest.approx(0.2, rel=1e-6)


def test_activations_normalised_together() -> None:
    # (3, 4, 0, 2) / sqrt(29) against (5, 0, 0, 7) / sqrt(74): 2 - 2 cos, cos = (15 + 14) / sqrt(29 * 74).
    mine = [torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 2.0]])]
    wanted = [torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 7.0]])]
    expected = 2 - 2 * 29 / sqrt(29 * 74)
    assert float(activation_loss(mine, wanted, "whole")) == pytest.approx(expected, rel=1e-6)
    assert float(activation_loss(mine, wanted, "whole", "elements")) == pytest.approx(expected / 4, rel=1e-6)


def test_activations_of_maps_are_one_vector_a_sample_and_zero_stays_zero() -> None:
    maps = torch.zeros(1, 1, 2, 2)
    wanted = torch.tensor([3.0, 0.0, 4.0, 0.0]).reshape(1, 1, 2, 2)
    assert float(activation_loss([maps], [wanted])) == pytest.approx(1.0, rel=1e-6)
    assert float(activation_loss([wanted * 9], [wanted])) == pytest.approx(0.0, abs=1e-12)


def test_the_sum_of_all_three() -> None:
    rule = Distillation(temperature=2.0, alpha=0.25, beta=10.0)
    mine, wanted = [torch.tensor([[3.0, 4.0]])], [torch.tensor([[5.0, 0.0]])]
    # 2 * 0.25 * 4 KL + 0.75 ln 2 + 10 * 0.8
    expected = 2 * KL + 0.75 * log(2) + 8
    assert float(rule.loss(EVEN, TEACHER, torch.tensor([1]), mine, wanted)) == pytest.approx(expected, rel=1e-6)
    assert float(rule.loss(EVEN, TEACHER, torch.tensor([1]))) == pytest.approx(expected - 8, rel=1e-6)


def test_labels_are_needed_below_an_alpha_of_1() -> None:
    assert float(Distillation(temperature=2.0, alpha=1.0).loss(EVEN, TEACHER, None)) == pytest.approx(8 * KL, rel=1e-6)
    with pytest.raises(ValueError, match=r"expected labels with an alpha below 1, got none with 0\.9"):
        Distillation().loss(EVEN, TEACHER, None)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="in the shapes of the teacher's"):
        activation_loss([torch.zeros(1, 2)], [torch.zeros(1, 3)])
