"""Draws the pictures of docs/fl-pqsu.md and docs/fedmax.md, and prints their tables.

`python docs/pictures/seeds.py [FOLDER]` runs both studies, or takes what FOLDER holds of them, and writes two PNGs beside itself.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import netfl

HERE = Path(__file__).parent
STUDIES = HERE.parents[1] / "scenarios" / "studies"
COLOURS = {
    "FL": "#555555", "P": "#E69F00", "PQ": "#0072B2", "PQSU": "#D55E00",
    "FedAvg": "#555555", "FedProx 0.1": "#56B4E9", "FedProx 1": "#0072B2", "FedMAX 1.0": "#E69F00", "FedMAX 3.0": "#D55E00",
}  # fmt: skip
SHOWN = [
    "training.accuracy", "bytes", "bytes_up", "bytes_down", "simulated_s", "energy_j", "training.updates_accepted",
    "training.time_to_accuracy_0.5_s", "training.time_to_accuracy_0.8_s", "training.time_to_accuracy_0.9_s",
    "training.time_to_accuracy_0.95_s",
]  # fmt: skip


def main() -> None:
    """Run the studies, print their means and draw."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        mpl.rcParams.update({"axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False})
        pqsu = told(netfl.sweep(STUDIES / "fl-pqsu.yaml", jobs=2, output=folder / "fl-pqsu"))
        figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
        left, right = figure.subplots(1, 2)
        accuracy(left, pqsu, ["FL", "P", "PQ", "PQSU"], "time")
        left.set_xscale("log")
        means = pqsu.groupby("label", sort=False)[["bytes_down", "bytes_up"]].mean() / 1e6
        for shift, column, name, colour in ((-0.2, "bytes_down", "down", "#BBBBBB"), (0.2, "bytes_up", "up", "#0072B2")):
            bars = right.bar(np.arange(len(means)) + shift, means[column], width=0.38, color=colour, label=name)
            right.bar_label(bars, fmt="%.2f", fontsize=8)
        right.set_xticks(range(len(means)), means.index)
        right.set_yscale("log")
        right.set_ylim(0.1, 30)
        right.set_ylabel("MB in 40 rounds")
        right.legend(frameon=False)
        figure.suptitle("FL-PQSU: three devices behind 100 kbit/s, mean of five replicates", x=0.01, ha="left", fontweight="bold")
        figure.savefig(HERE / "fl-pqsu.png")

        fedmax = told(netfl.sweep(STUDIES / "fedmax.yaml", jobs=2, output=folder / "fedmax"))
        figure = Figure(figsize=(7, 3.8), dpi=110, layout="constrained")
        accuracy(figure.subplots(), fedmax, ["FedAvg", "FedProx 0.1", "FedProx 1", "FedMAX 1.0", "FedMAX 3.0"], "rounds")
        figure.suptitle("FedMAX: two shards of sorted digits a client, mean of five replicates", x=0.01, ha="left", fontweight="bold")
        figure.savefig(HERE / "fedmax.png")


def told(table: pd.DataFrame) -> pd.DataFrame:
    """Print the means over replicates; none of a time that a replicate did not reach."""
    with pd.option_context("display.width", 250, "display.max_columns", 20):
        print(table.groupby("label", sort=False)[[each for each in SHOWN if each in table]].mean(skipna=False).round(3).T, "\n")
    return table


def accuracy(axes: mpl.axes.Axes, table: pd.DataFrame, labels: list[str], over: str) -> None:
    """Draw the mean accuracy of each label; its range over replicates is shaded."""
    for label in labels:
        curves = []
        for folder in table[table["label"] == label]["run_dir"]:
            with sqlite3.connect(Path(folder) / "run.db") as trace:
                curves.append(np.array(trace.execute("SELECT time_s, accuracy FROM evaluations ORDER BY time_s").fetchall()))
        length = min(len(curve) for curve in curves)
        stacked = np.stack([curve[:length] for curve in curves])
        x = stacked[:, :, 0].mean(axis=0) if over == "time" else np.arange(length)
        axes.plot(x[1:], stacked[:, 1:, 1].mean(axis=0), color=COLOURS[label], label=label)
        axes.fill_between(x[1:], stacked[:, 1:, 1].min(axis=0), stacked[:, 1:, 1].max(axis=0), color=COLOURS[label], alpha=0.1, lw=0)
    axes.set_xlabel("simulated seconds" if over == "time" else "rounds")
    axes.set_ylabel("test accuracy")
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    main()
