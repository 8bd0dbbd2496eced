"""Dream Distillation: a student that learns from inputs made up by its teacher, because the teacher's data is not there any more.

K. Bhardwaj, N. Suda, R. Marculescu: "Dream distillation: a data-independent model compression framework", ICML 2019 workshop on on-device
machine learning (arXiv 1905.07072). A re-implementation from the abstract and from notes of others; what they do not say (how many
clusters and dreams, the regularisers, the optimiser) was chosen by us.

While the data is there, *metadata* is made of it: the activations of a share of the training samples, where they enter the teacher's last
linear layer (behind the average pooling of networks that have one), are clustered by k-means, and of every cluster its mean, its
principal components and the deviation along each are kept. Later, with the teacher and the metadata alone, a *target* is drawn (a
cluster by its share of the samples, its mean, and Gaussian noise along its components), and an input is searched by gradient descent whose
activation is the target: a *dream*. The student learns what the teacher says of dreams.

A cluster of one sample would be that sample's activation, so it is rejected. With two samples, their mean and the deviation along the one
component that they have would give both away; so a cluster of n keeps at most n - 2 components: a choice of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.learning.models import Model
from netfl.randomness import Stream
from netfl.store import FactForm, Function, Recipe, TensorForm, recipe

__all__ = ["Dreaming", "Metadata", "Observation", "dreams", "match_error", "metadata", "metadata_bytes", "metadata_of", "targets"]

Calls = Sequence[tuple[Any, ...]]
Floats = npt.NDArray[np.float32]
VALUE_BYTES = 4


@dataclass(frozen=True, eq=False)
class Metadata:
    """What is kept of a teacher's activations: C clusters of vectors of A values, Q components each; all that leaves the data's owner.

    Args:
        means: (C, A) float32.
        components: (C, Q, A) float32, of length 1 and across each other; 0 where a cluster keeps fewer.
        deviations: (C, Q) float32, standard deviation along each component; 0 where there is none.
        counts: (C,) int64, samples of each cluster.
        rejected: samples whose clusters were too small to keep.
    """

    means: Floats
    components: Floats
    deviations: Floats
    counts: npt.NDArray[np.int64]
    rejected: int

    @property
    def num_bytes(self) -> int:
        """Length on a wire without compression: C (1 + Q) A + C Q + C numbers of 4 bytes."""
        return VALUE_BYTES * (self.means.size + self.components.size + self.deviations.size + self.counts.size)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What metadata is made of.

    Args:
        share: of the training samples, drawn by chance; those that are looked at.
        clusters: of k-means; fewer where there are fewer samples.
        components: principal directions of each cluster, at most its samples less two.
        smallest_cluster: clusters of fewer samples are rejected; at least 2.
    """

    share: Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)] = 0.1
    clusters: Annotated[int, annotated_types.Ge(1)] = 20
    components: Annotated[int, annotated_types.Ge(0)] = 4
    smallest_cluster: Annotated[int, annotated_types.Ge(2)] = 2


@dataclass(frozen=True, kw_only=True)
class Dreaming:
    """How dreams are made of metadata.

    A dream x has the least |h(x) - t|^2 / |t|^2 + smoothness TV(x) + weight_decay mean(x^2) that Adam finds from uniform noise, with h the
    teacher's activation, t the target, and TV the mean absolute difference of neighbouring pixels, along each side.

    Args:
        number: of dreams.
        steps: of Adam.
        learning_rate: of Adam.
        smoothness: weight of the total variation; samples without neighbours, such as rows of a table, have none.
        weight_decay: weight of the mean square.
        jitter: in each step maps are moved, round the edges, by up to so many pixels.
        noise_scale: multiplies the deviations along the components.
        lowest: least value of a sample's element; dreams stay within.
        highest: greatest value.
    """

    number: Annotated[int, annotated_types.Ge(1)] = 1200
    steps: Annotated[int, annotated_types.Ge(1)] = 200
    learning_rate: Annotated[float, annotated_types.Gt(0)] = 0.05
    smoothness: Annotated[float, annotated_types.Ge(0)] = 0.02
    weight_decay: Annotated[float, annotated_types.Ge(0)] = 0.2
    jitter: Annotated[int, annotated_types.Ge(0)] = 0
    noise_scale: Annotated[float, annotated_types.Ge(0)] = 1.0
    lowest: float = 0.0
    highest: float = 1.0

    def __post_init__(self) -> None:
        if self.lowest >= self.highest:
            raise ValueError(f"highest: expected more than lowest, {self.lowest:g}, got {self.highest:g}")


def metadata(observation: Observation, teacher: Model, vector: Recipe, data: Recipe, stream: Stream) -> Recipe:
    """The `Metadata` of a teacher and the data that it was trained on: the only function here that sees samples.

    Args:
        observation: what it is made of.
        teacher: the kind of model, which ends in a linear layer.
        vector: its parameters (P,).
        data: the dataset.
        stream: draws which samples are looked at, and where k-means begins.
    """
    return recipe(_METADATA, observation, teacher, vector, data, stream)


def _metadata(calls: Calls) -> list[Metadata]:
    from netfl.learning.dreaming import activations

    results = []
    for observation, teacher, vector, data, stream in calls:
        count = max(1, round(observation.share * len(data.train_labels)))
        rows = np.sort(stream.child("samples").generator().permutation(len(data.train_labels))[:count])
        seen = activations(teacher, data.sample_shape, data.num_classes, vector, data.train_inputs[rows])
        results.append(metadata_of(seen, observation, stream.child("clusters").generator()))
    return results


def metadata_of(activations: npt.NDArray[Any], observation: Observation, generator: np.random.Generator) -> Metadata:
    """The `Metadata` of activations (n, A).

    k-means begins with centres drawn as D. Arthur and S. Vassilvitskii do (SODA 2007).

    Raises:
        ValueError: no cluster is large enough to keep.
    """
    import warnings

    from scipy.cluster.vq import kmeans2

    seen = np.asarray(activations, dtype=np.float64)
    centres = [seen[generator.integers(len(seen))]]
    for _ in range(min(observation.clusters, len(seen)) - 1):
        distances = np.min([np.square(seen - centre).sum(axis=1) for centre in centres], axis=0)
        if not distances.any():
            break  # fewer different activations than clusters
        centres.append(seen[generator.choice(len(seen), p=distances / distances.sum())])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cluster that loses all its samples is dropped below
        _, labels = kmeans2(seen, np.stack(centres), iter=50, minit="matrix")
    groups = [seen[labels == label] for label in range(len(centres))]
    kept = [group for group in groups if len(group) >= observation.smallest_cluster]
    if not kept:
        raise ValueError(
            f"none of {len(groups)} clusters of {len(seen)} samples has the {observation.smallest_cluster} that keeping it needs: "
            "use fewer clusters, or a larger share"
        )
    width, directions = seen.shape[1], min(observation.components, seen.shape[1])
    components = np.zeros((len(kept), directions, width), dtype=np.float32)
    deviations = np.zeros((len(kept), directions), dtype=np.float32)
    for place, group in enumerate(kept):
        _, spreads, axes = np.linalg.svd(group - group.mean(axis=0), full_matrices=False)
        keep = min(directions, len(group) - 2)
        axes = axes * np.where(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)] < 0, -1, 1)[:, None]  # a sign is arbitrary: fix it
        components[place, :keep], deviations[place, :keep] = axes[:keep], spreads[:keep] / np.sqrt(len(group))
    means = np.stack([group.mean(axis=0) for group in kept]).astype(np.float32)
    counts = np.array([len(group) for group in kept], dtype=np.int64)
    return Metadata(means, components, deviations, counts, len(seen) - int(counts.sum()))


def metadata_bytes(metadata_: Recipe) -> Recipe:
    """`Metadata.num_bytes` of a `Metadata`."""
    return recipe(_METADATA_BYTES, metadata_)


def _metadata_bytes(calls: Calls) -> list[int]:
    return [found.num_bytes for (found,) in calls]


def targets(found: Metadata, number: int, noise_scale: float, generator: np.random.Generator) -> Floats:
    """Activations (number, A) to dream of; not below 0 where no mean is, which is behind a ReLU."""
    chosen = generator.choice(len(found.counts), size=number, p=found.counts / found.counts.sum())
    steps = generator.normal(size=(number, found.deviations.shape[1])) * found.deviations[chosen] * noise_scale
    drawn = found.means[chosen] + np.einsum("nq,nqa->na", steps, found.components[chosen].astype(np.float64))
    return np.asarray(drawn.clip(min=0) if found.means.min() >= 0 else drawn, dtype=np.float32)


def dreams(
    dreaming: Dreaming,
    teacher: Model,
    vector: Recipe,
    metadata_: Recipe,
    sample_shape: tuple[int, ...],
    num_classes: int,
    stream: Stream,
) -> Recipe:
    """Inputs (number, *sample_shape) float32 that a teacher sees as targets drawn from metadata; no sample is an argument.

    Args:
        dreaming: how.
        teacher: the kind of model.
        vector: its parameters (P,).
        metadata_: its `Metadata`.
        sample_shape: of one sample.
        num_classes: how many labels there are.
        stream: draws the targets and where the search begins.
    """
    return recipe(_DREAMS, dreaming, teacher, vector, metadata_, sample_shape, num_classes, stream)


def _dreams(calls: Calls) -> list[Floats]:
    from netfl.learning.dreaming import dream

    results = []
    for dreaming, teacher, vector, found, sample_shape, num_classes, stream in calls:
        wanted = targets(found, dreaming.number, dreaming.noise_scale, stream.child("targets").generator())
        settings = {each.name: getattr(dreaming, each.name) for each in fields(dreaming) if each.name not in ("number", "noise_scale")}
        results.append(dream(teacher, sample_shape, num_classes, vector, wanted, stream.child("search").generator(), **settings))
    return results


def match_error(
    dreaming: Dreaming,
    teacher: Model,
    vector: Recipe,
    metadata_: Recipe,
    sample_shape: tuple[int, ...],
    num_classes: int,
    stream: Stream,
) -> Recipe:
    """How far the teacher's activations of `dreams` of the same arguments are from their targets: the mean of |h(x) - t| / |t|."""
    dreamt = dreams(dreaming, teacher, vector, metadata_, sample_shape, num_classes, stream)
    return recipe(_MATCH_ERROR, dreaming, teacher, vector, metadata_, sample_shape, num_classes, stream, dreamt)


def _match_error(calls: Calls) -> list[float]:
    from netfl.learning.dreaming import activations

    results = []
    for dreaming, teacher, vector, found, sample_shape, num_classes, stream, dreamt in calls:
        wanted = targets(found, dreaming.number, dreaming.noise_scale, stream.child("targets").generator())
        seen = activations(teacher, sample_shape, num_classes, vector, dreamt)
        results.append(float(np.mean(np.linalg.norm(seen - wanted, axis=1) / np.linalg.norm(wanted, axis=1))))
    return results


def _read_metadata(named: Any) -> Metadata:
    return Metadata(named["means"], named["components"], named["deviations"], named["counts"], int(named["rejected"][0]))


def _named_metadata(found: Metadata) -> dict[str, np.ndarray]:
    arrays = {each.name: getattr(found, each.name) for each in fields(found) if each.name != "rejected"}
    return {**arrays, "rejected": np.array([found.rejected], dtype=np.int64)}


def _as_given(value: Any) -> Any:
    return value


_METADATA = Function("dream_metadata", 1, _metadata, TensorForm(_named_metadata, _read_metadata))
_METADATA_BYTES = Function("dream_metadata_bytes", 1, _metadata_bytes, FactForm(_as_given, _as_given))
_DREAMS = Function("dreams", 1, _dreams, TensorForm(lambda inputs: {"inputs": inputs}, lambda named: named["inputs"]))
_MATCH_ERROR = Function("dream_match_error", 1, _match_error, FactForm(_as_given, _as_given))
