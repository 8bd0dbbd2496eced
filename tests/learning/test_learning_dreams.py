"""Dream Distillation: what leaves the data's owner, what dreams are made of, and what a student learns from them."""

import numpy as np
import pytest

from netfl.learning import dreams, values
from netfl.learning.data import Digits
from netfl.learning.dreaming import activations, check_dreamer, dream
from netfl.learning.dreams import Dreaming, Observation, metadata_of, targets
from netfl.learning.lessons import Distilled, Dreams, Noise, Real
from netfl.learning.models import Cnn, Mlp, num_parameters
from netfl.learning.pruning import Pruned
from netfl.learning.trainer import Sgd
from netfl.learning.zoo.sequences import Gru
from netfl.randomness import Streams
from netfl.store import Recipe, Store

STREAMS = Streams(seed=1)
TEACHER = Cnn(channels=(32, 64))
STUDENT = Cnn(channels=(4, 8))
TEACHING = Distilled(
    teacher=TEACHER,
    teacher_trainer=Sgd(learning_rate=0.1, epochs=15),
    lessons=Dreams(dreaming=Dreaming(number=600, steps=60)),
    trainer=Sgd(learning_rate=0.02, epochs=50, batch_size=32),
)
FACTS = values.DatasetFacts((1, 8, 8), 10, 359, 1438)


def generator() -> np.random.Generator:
    return np.random.default_rng(5)


def blobs(*counts: int) -> np.ndarray:
    """Activations in groups far from each other."""
    drawn = generator()
    return np.concatenate([100 * place + drawn.normal(size=(count, 6)) for place, count in enumerate(counts, 1)])


def test_a_cluster_of_one_is_rejected() -> None:
    """Its mean would be the sample's activation itself."""
    seen = blobs(9, 1, 8)
    found = metadata_of(seen, Observation(clusters=3, components=2), generator())
    assert sorted(found.counts.tolist()) == [8, 9]
    assert found.rejected == 1
    nearest = np.abs(found.means[:, None] - seen[None]).max(axis=2).min()
    assert nearest > 0.1  # no centroid is a sample's activation


def test_with_clusters_of_one_only_nothing_is_let_out() -> None:
    with pytest.raises(ValueError, match="none of 3 clusters of 3 samples has the 2"):
        metadata_of(blobs(1, 1, 1), Observation(clusters=3), generator())


def test_components_are_those_of_the_cluster_and_never_give_two_samples_away() -> None:
    seen = blobs(2, 3, 40)
    found = metadata_of(seen, Observation(clusters=3, components=4), generator())
    of = {int(count): place for place, count in enumerate(found.counts)}
    # A mean of two and the deviation along the line through them would be both samples: such a cluster keeps its mean alone.
    assert np.count_nonzero(found.deviations[of[2]]) == 0
    assert np.count_nonzero(found.deviations[of[3]]) == 1
    group = seen[5:]
    variances, axes = np.linalg.eigh(np.cov(group.T, bias=True))
    np.testing.assert_allclose(found.means[of[40]], group.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.deviations[of[40]], np.sqrt(variances[::-1][:4]), rtol=1e-5)
    np.testing.assert_allclose(np.abs(np.sum(found.components[of[40]] * axes.T[::-1][:4], axis=1)), 1, rtol=1e-5)


def test_bytes_of_metadata() -> None:
    found = metadata_of(blobs(9, 8), Observation(clusters=2, components=3), generator())
    assert found.num_bytes == 4 * (2 * (1 + 3) * 6 + 2 * 3 + 2)  # C (1 + Q) A + C Q + C numbers


def test_targets_spread_as_the_cluster_does() -> None:
    found = metadata_of(blobs(50), Observation(clusters=1, components=6), generator())
    drawn = targets(found, 20_000, 1.0, generator())
    # The standard error of a mean is 1 / sqrt(20,000) = 0.007 deviations, of a variance 0.01.
    np.testing.assert_allclose(drawn.mean(axis=0), found.means[0], atol=0.04)
    np.testing.assert_allclose(np.cov((drawn @ found.components[0].T).T), np.diag(found.deviations[0] ** 2), atol=0.08)
    np.testing.assert_allclose(targets(found, 3, 0.0, generator()), np.tile(found.means[0], (3, 1)))


def test_targets_behind_a_relu_are_not_negative() -> None:
    seen = blobs(30) - 100
    assert targets(metadata_of(np.maximum(seen, 0), Observation(clusters=1), generator()), 200, 5.0, generator()).min() == 0
    assert targets(metadata_of(seen - 1, Observation(clusters=1), generator()), 200, 5.0, generator()).min() < 0


def test_a_dream_is_seen_as_its_target_and_stays_in_range() -> None:
    drawn = STREAMS.generator("v").normal(scale=0.3, size=num_parameters(Mlp(hidden=(4,)), (1, 3, 3), 2))
    vector = np.abs(drawn).astype(np.float32)  # so that no ReLU is off, behind which there is no gradient
    inside = generator().uniform(0.3, 0.7, size=(5, 1, 3, 3)).astype(np.float32)
    wanted = activations(Mlp(hidden=(4,)), (1, 3, 3), 2, vector, inside)  # so some input has them
    settings = {"steps": 300, "learning_rate": 0.05, "smoothness": 0.0, "weight_decay": 0.0, "lowest": 0.0, "highest": 1.0}
    found = dream(Mlp(hidden=(4,)), (1, 3, 3), 2, vector, wanted, generator(), jitter=0, **settings)  # type: ignore[arg-type]
    np.testing.assert_allclose(activations(Mlp(hidden=(4,)), (1, 3, 3), 2, vector, found), wanted, atol=0.02)
    assert 0 <= found.min() <= found.max() <= 1
    moved = dream(Mlp(hidden=(4,)), (1, 3, 3), 2, vector, wanted, generator(), jitter=1, **settings)  # type: ignore[arg-type]
    assert not np.array_equal(moved, found)


def test_smoothness_smooths() -> None:
    vector = STREAMS.generator("v").normal(scale=0.3, size=num_parameters(Mlp(hidden=(4,)), (1, 6, 6), 2)).astype(np.float32)
    wanted = np.ones((4, 4), np.float32)
    rough, smooth = (
        dream(
            Mlp(hidden=(4,)), (1, 6, 6), 2, vector, wanted, generator(), steps=50, learning_rate=0.05, smoothness=weight, weight_decay=0.0,
            jitter=0, lowest=0.0, highest=1.0,
        )
        for weight in (0.0, 5.0)
    )  # fmt: skip
    assert np.abs(np.diff(smooth)).mean() < 0.3 * np.abs(np.diff(rough)).mean()


def students(*lessons: object) -> tuple[Recipe, list[Recipe]]:
    data = values.dataset(Digits(), STREAMS.stream("data"))
    made = []
    for each in lessons:
        teaching = Distilled(teacher=TEACHER, teacher_trainer=TEACHING.teacher_trainer, lessons=each, trainer=TEACHING.trainer)  # type: ignore[arg-type]
        made.append(teaching.model(STUDENT, data, FACTS, STREAMS.stream("start"), STREAMS.stream("pretrain")))
    return data, made


def test_dreams_teach_much_more_than_noise_does() -> None:
    data, made = students(TEACHING.lessons, Noise(number=600), Real(share=600 / 1438))
    store = Store()
    dreamt, noisy, real = (store.force(values.evaluate(STUDENT, vector, data)).accuracy for vector in made)
    assert dreamt >= noisy + 0.4
    assert real > dreamt > 0.8


def made_of(recipe: Recipe, without: str) -> set[str]:
    """The functions that a recipe is made by, back to the beginning but not through one of them."""
    names = {recipe.function.name}
    if recipe.function.name != without:
        for each in recipe.inputs:
            names |= made_of(each, without)
    return names


def test_no_sample_reaches_the_student_but_through_metadata_and_the_teacher() -> None:
    """Followed in the recipes: nothing else that led to the student has seen the dataset."""
    _, (dreamt, real) = students(Dreams(), Real())
    vector, inputs = dreamt.inputs
    assert made_of(vector, "") == {"total", "initial_model", "fit", "dataset"}
    assert inputs.function.name == "dreams"
    teacher, found = inputs.inputs
    assert teacher == vector
    assert found.function.name == "dream_metadata"
    assert {each.function.name for each in real.inputs} == {"total", "real_samples"}


def test_metadata_says_which_function_saw_the_data() -> None:
    data, (made,) = students(Dreams())
    _, inputs = made.inputs
    assert data in inputs.inputs[1].inputs
    assert data not in inputs.inputs
    assert data not in made.inputs


def test_metadata_is_much_smaller_than_the_data_and_dreams_match() -> None:
    data = values.dataset(Digits(), STREAMS.stream("data"))
    teacher = Mlp(hidden=(16,))
    first = values.initial_model(teacher, data, STREAMS.stream("initial"))
    fitted = values.fit(values.cohort(Sgd(learning_rate=0.1, epochs=5), teacher, data, STREAMS.stream("fit")), first)
    vector = values.total(first, fitted)
    found = dreams.metadata(Observation(), teacher, vector, data, STREAMS.stream("metadata"))
    store = Store()
    assert store.force(dreams.metadata_bytes(found)) <= 4 * (20 * 5 * 16 + 20 * 4 + 20)
    assert store.force(dreams.metadata_bytes(found)) < 0.05 * store.force(data).train_inputs.nbytes
    dreaming = Dreaming(number=50, steps=100)
    assert store.force(dreams.match_error(dreaming, teacher, vector, found, (1, 8, 8), 10, STREAMS.stream("d"))) < 0.3


@pytest.mark.parametrize(
    ("student", "teacher", "place", "words"),
    [
        (Pruned(model=STUDENT, rate=0.5), TEACHER, "trainer", "begins with samples"),
        (STUDENT, Gru(vocabulary=12), "teacher", "tokens"),
    ],
)
def test_what_cannot_teach_or_be_taught(student: object, teacher: object, place: str, words: str) -> None:
    data = values.dataset(Digits(), STREAMS.stream("data"))
    teaching = Distilled(teacher=teacher, teacher_trainer=Sgd(learning_rate=0.1))  # type: ignore[arg-type]
    problem = teaching.problem(student, data, Store())  # type: ignore[arg-type]
    assert problem is not None
    assert problem[0] == place
    assert words in problem[1]


def test_what_can() -> None:
    assert TEACHING.problem(STUDENT, values.dataset(Digits(), STREAMS.stream("data")), Store()) is None
    check_dreamer(Mlp(), (13,), 3)
    with pytest.raises(ValueError, match="tokens"):
        check_dreamer(Gru(vocabulary=12), (6,), 10)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Dreaming(lowest=1.0, highest=1.0), "highest: expected more than lowest"),
        (lambda: Noise(lowest=2.0), "highest: expected more than lowest"),
        (
            lambda: Distilled(teacher=TEACHER, teacher_trainer=Sgd(learning_rate=0.1), trainer=Sgd(learning_rate=0.1, device="cuda")),
            "trainer: ",
        ),
    ],
)
def test_settings_that_are_none(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]
