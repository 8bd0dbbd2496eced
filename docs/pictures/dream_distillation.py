"""Draws the picture of docs/dream-distillation.md, and prints its tables.

`python docs/pictures/dream_distillation.py [FOLDER]` runs the study, or takes what FOLDER holds of it, and writes a PNG beside itself.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

import netfl
from netfl.learning import dreams, values
from netfl.learning.data import Digits
from netfl.learning.models import Cnn
from netfl.learning.trainer import Sgd
from netfl.randomness import Streams
from netfl.store import Store

HERE = Path(__file__).parent
STUDY = HERE.parents[1] / "scenarios" / "studies" / "dream-distillation.yaml"
TEACHER = Cnn(channels=(32, 64))
SHAPE = (1, 8, 8)


def main() -> None:
    """Run the study, print its figures and draw."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        table = netfl.sweep(STUDY, jobs=2, output=folder)
    accuracy = table.pivot(index="replicate", columns="label", values="serving.accuracy")[list(dict.fromkeys(table["label"]))]
    print(accuracy.agg(["mean", "min", "max"]).T.round(3), "\n")
    for one, other in (
        ("dreams", "noise"),
        ("dreams, wide", "noise, wide"),
        ("dreams, long", "noise, long"),
        ("dreams", "10 %, as many steps"),
    ):
        gap = accuracy[one] - accuracy[other]
        print(f"{one} - {other}: {gap.mean():.3f} +- {2.776 * gap.std() / len(gap) ** 0.5:.3f}, least {gap.min():.3f}")

    images, clusters = dreamt()
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(9, 3.8), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 1])
    for place, label in enumerate(accuracy):
        colour = "#D55E00" if "dreams" in label else "#777777" if "noise" in label else "#0072B2"
        left.barh(place, accuracy[label].mean(), color=colour, alpha=0.5)
        left.plot(accuracy[label], np.full(len(accuracy), place), "o", ms=3, color=colour)
    left.set_yticks(range(accuracy.shape[1]), accuracy.columns)
    left.invert_yaxis()
    left.set_xlim(0, 1)
    left.set_xlabel("right answers (bars: mean of five replicates)")
    rows = [np.concatenate(list(images[clusters == cluster][:6, 0]), axis=1) for cluster in np.unique(clusters)[:6]]
    right.imshow(np.concatenate(rows), cmap="gray_r")
    right.set_axis_off()
    right.set_title("dreams, one cluster a row", fontsize=10)
    figure.suptitle("A student taught by dreams, noise or samples", x=0.01, ha="left", fontweight="bold")
    figure.savefig(HERE / "dream-distillation.png")


def dreamt() -> tuple[np.ndarray, np.ndarray]:
    """The dreams of a teacher, and the cluster of each; prints what there is to say of them."""
    streams, store = Streams(seed=1), Store()
    data = values.dataset(Digits(), streams.stream("data"))
    first = values.initial_model(TEACHER, data, streams.stream("pretrain", "serving", "teacher"))
    trainer = Sgd(learning_rate=0.1, epochs=30, batch_size=16)
    fitted = values.fit(values.cohort(trainer, TEACHER, data, streams.stream("pretrain", "serving", "teacher", "fit")), first)
    vector = values.total(first, fitted)
    found = dreams.metadata(dreams.Observation(), TEACHER, vector, data, streams.stream("pretrain", "serving", "metadata"))
    rest = dreams.Dreaming(), TEACHER, vector, found, SHAPE, 10, streams.stream("pretrain", "serving", "dreams")
    inputs, kept = store.force(dreams.dreams(*rest)), store.force(found)
    drawn = streams.stream("pretrain", "serving", "dreams", "targets").generator()
    clusters = drawn.choice(len(kept.counts), size=len(inputs), p=kept.counts / kept.counts.sum())
    print(
        f"\nteacher {store.force(values.evaluate(TEACHER, vector, data)).accuracy:.3f}; {len(kept.counts)} clusters of {kept.counts.min()} to"
    )
    print(f"{kept.counts.max()} samples, {kept.rejected} samples rejected; metadata {kept.num_bytes:,} B, training inputs")
    print(f"{store.force(data).train_inputs.nbytes:,} B; mean relative error of the match {store.force(dreams.match_error(*rest)):.3f}")
    return inputs, clusters


if __name__ == "__main__":
    main()
