"""Teams of students: their sizes, their independence, their training."""

import numpy as np
import pytest
import torch

from netfl.learning import values
from netfl.learning.data import Digits
from netfl.learning.distillation import Distillation
from netfl.learning.models import Cnn, Mlp, load_vector, num_parameters
from netfl.learning.students import StudentTeam, answers, check_teacher, check_trainer, distilled, features, filter_activity
from netfl.learning.trainer import Adam, Sgd
from netfl.learning.zoo.images import WideResNet
from netfl.randomness import Streams
from netfl.store import Store

STREAMS = Streams(seed=3)
TEACHER = Cnn(channels=(4, 8))
TEAM = StudentTeam(student=Cnn(channels=(2, 4)), groups=((0, 2, 5), (1, 3, 4, 7)), side=(4, 4))


def macs(module: torch.nn.Module, sample_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of convolutions and linear layers for one sample."""
    found = []
    for layer in module.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            layer.register_forward_hook(lambda layer, _, out: found.append(out[0].numel() * layer.weight[0].numel()))
    with torch.no_grad():
        module(torch.zeros(1, *sample_shape, device="meta"))
    return sum(found)


def test_two_wrn16_1_in_place_of_wrn40_4_take_a_twentieth_a_device() -> None:
    teacher, student, shape = WideResNet(depth=40, width=4), WideResNet(depth=16, width=1), (3, 32, 32)
    filters, height, width = check_teacher(teacher, student, shape, 10)
    assert (filters, height, width) == (256, 8, 8)
    # The authors' 49 and 48 filters.
    team = StudentTeam(student=student, groups=(tuple(range(49)), tuple(range(49, 97))), side=(8, 8))
    with torch.device("meta"):
        whole = teacher.build(shape, 10)
        devices = [team.build_student(place, shape, 10) for place in (0, 1)]
    parameters = [sum(each.numel() for each in module.parameters()) for module in (whole, *devices)]
    # Trunk 174,976 (WRN16-1 less its last layer), bridge 64 * 49 and 2 * 49: 178,210; with 48 filters 66 less.
    assert parameters == [8_955_050, 178_210, 178_144]
    work = [macs(module, shape) for module in (whole, *devices)]
    assert parameters[1] * 20 < parameters[0]
    assert work[1] * 20 < work[0]
    # 50 and 42 times less: 1,411,828,224 multiply-accumulates.
    assert [round(parameters[0] / parameters[1]), work[0]] == [50, 1_411_828_224]
    assert round(work[0] / work[1]) == 42
    # All of both and the joining layer: 97 * 10 + 10.
    assert num_parameters(team, shape, 10) == 178_210 + 178_144 + 980


def test_students_do_not_read_each_other() -> None:
    torch.manual_seed(0)
    module = TEAM.build((1, 8, 8), 10).double()
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    for place, student in enumerate(module.students):
        for other, each in enumerate(module.students):
            total = student(x).square().sum()
            found = torch.autograd.grad(total, list(each.parameters()), allow_unused=True, retain_graph=False)
            if other == place:
                assert all(gradient is not None and gradient.any() for gradient in found)
            else:
                assert all(gradient is None for gradient in found)


def test_a_batch_normalised_bridge_has_as_many_parameters() -> None:
    student = TEAM.build_student(0, (1, 8, 8), 10)
    bridge = list(student.maps)[-4:]
    assert [sum(each.numel() for each in layer.parameters()) for layer in bridge] == [4 * 3, 2 * 3, 0, 0]


@pytest.mark.parametrize("pixels", [8, 4, 16])
def test_students_bring_their_maps_to_the_teachers_side(pixels: int) -> None:
    student = TEAM.build_student(1, (1, pixels, pixels), 10)
    assert student.maps(torch.zeros(2, 1, pixels, pixels)).shape == (2, 4, 4, 4)
    assert student(torch.zeros(2, 1, pixels, pixels)).shape == (2, 4)


def test_features_and_answers_of_separate_devices_are_those_of_the_whole_team() -> None:
    store, data = Store(), values.dataset(Digits(), STREAMS.stream("data"))
    found = store.force(data)
    vector = values.initial_model(TEAM, data, STREAMS.stream("start"))
    module = TEAM.build((1, 8, 8), 10).eval()
    load_vector(module, store.force(vector))
    with torch.inference_mode():
        inputs = torch.from_numpy(found.test_inputs)
        expected = [student(inputs).numpy() for student in module.students]
        logits = module(inputs).numpy()
    received = features(TEAM, vector, data)
    for mine, wanted in zip(store.force(received), expected, strict=True):
        assert mine == pytest.approx(wanted, abs=1e-6)
    right = store.force(answers(TEAM, vector, data, received, (True, True)))
    assert (right == (logits.argmax(1) == found.test_labels)).all()
    # A student that is missing: its features are 0.
    with torch.inference_mode():
        alone = module.join(torch.cat([torch.zeros(len(inputs), 3), torch.from_numpy(expected[1])], dim=1)).numpy()
    right = store.force(answers(TEAM, vector, data, received, (False, True)))
    assert (right == (alone.argmax(1) == found.test_labels)).all()


def test_activity_is_the_mean_of_what_relu_leaves() -> None:
    store, data = Store(), values.dataset(Digits(), STREAMS.stream("data"))
    vector = values.initial_model(TEACHER, data, STREAMS.stream("teacher"))
    found = store.force(filter_activity(TEACHER, vector, data, 0.1, STREAMS.stream("validation")))
    assert found.shape == (144, 8)  # a tenth of 1438
    rows = np.sort(STREAMS.stream("validation").generator().permutation(1438)[:144])
    module = TEACHER.build((1, 8, 8), 10)
    load_vector(module, store.force(vector))
    with torch.inference_mode():
        # Layers 0 to 4: as far as the second convolution's ReLU.
        maps = module[:5](torch.from_numpy(store.force(data).train_inputs[rows]))
    assert maps.shape[1:] == (8, 4, 4)
    assert found == pytest.approx(maps.mean((2, 3)).numpy(), abs=1e-6)


def test_a_team_learns_from_its_teacher_and_the_teacher_stays() -> None:
    """Two students of 8 channels in five epochs: 0.90 after the teacher's 0.95; labels alone bring them to 0.82."""
    store, data = Store(), values.dataset(Digits(), STREAMS.stream("data"))
    start = values.initial_model(TEACHER, data, STREAMS.stream("teacher"))
    teacher = values.total(start, values.fit(values.cohort(Sgd(learning_rate=0.1, epochs=10), TEACHER, data, STREAMS.stream("fit")), start))
    before = store.force(teacher).copy()
    team = StudentTeam(student=Cnn(channels=(4, 8)), groups=TEAM.groups, side=TEAM.side)
    first = values.initial_model(team, data, STREAMS.stream("students"))
    trainer, stream = Adam(learning_rate=0.02, epochs=5), STREAMS.stream("distil")
    accuracy = {}
    for name, rule in (("taught", Distillation()), ("labels", Distillation(alpha=0.0, beta=0.0))):
        trained = distilled(trainer, rule, team, first, TEACHER, teacher, data, stream)
        accuracy[name] = store.force(values.evaluate(team, trained, data)).accuracy
    assert accuracy["taught"] > 0.85
    assert accuracy["taught"] > accuracy["labels"] + 0.03
    assert (store.force(teacher) == before).all()


def test_what_cannot_be_used_is_told() -> None:
    with pytest.raises(ValueError, match="the teacher cannot be used: expected a model that makes maps"):
        check_teacher(Mlp(), Cnn(), (1, 8, 8), 10)
    with pytest.raises(ValueError, match="the student cannot be used: expected a model that makes maps"):
        check_teacher(Cnn(), Mlp(), (1, 8, 8), 10)
    with pytest.raises(ValueError, match="students are trained on the cpu, got cuda"):
        check_trainer(Sgd(learning_rate=0.1, device="cuda"))
