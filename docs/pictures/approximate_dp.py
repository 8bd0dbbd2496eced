"""The figure of docs/approximate-dp.md, from a finished sweep: `python docs/pictures/approximate_dp.py sweeps/approximate-dp-study`."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

LABELS = ("dense", "sparse", "private, one bit", "SVT, as published")


def draw(sweep: Path, picture: Path) -> None:
    """Accuracy against simulated time of the first replicate, a panel for each link rate."""
    points = pd.read_csv(sweep / "results.csv")
    points = points[(points["replicate"] == 0) & (points["label"].isin(LABELS))]
    rates = list(dict.fromkeys(points["topology.link.rate"]))
    figure, axes = plt.subplots(1, len(rates), figsize=(9, 3.4), sharey=True, layout="constrained")
    for axis, rate in zip(axes, rates, strict=True):
        for _, point in points[points["topology.link.rate"] == rate].iterrows():
            with sqlite3.connect(sweep / "points" / point["point"] / "run.db") as trace:
                times, accuracies = zip(*trace.execute("SELECT time_s, accuracy FROM evaluations ORDER BY time_s"), strict=True)
            axis.plot(times, accuracies, label=point["label"])
        axis.set(xscale="symlog", xlabel="simulated time (s)", title=f"links of {rate}", ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy")
    axes[0].legend(loc="upper left", fontsize=8)
    figure.savefig(picture, dpi=110)
    print(json.dumps({rate: len(points[points["topology.link.rate"] == rate]) for rate in rates}))


if __name__ == "__main__":
    draw(Path(sys.argv[1]), Path(__file__).parent / "approximate-dp.png")
