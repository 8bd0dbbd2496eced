"""Draws the picture of docs/nonn.md and prints its tables.

`python docs/pictures/nonn.py [FOLDER]` runs scenarios/studies/nonn.yaml, or takes what FOLDER holds of it, measures the accuracy of every
set of students on all test samples, and writes a PNG beside itself.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import netfl
from netfl.learning import values
from netfl.scenario import load
from netfl.scenario.build import prepare
from netfl.store import Disk, Store, default_folder
from netfl.workloads.cooperating import Cooperating

HERE = Path(__file__).parent
SCENARIOS = HERE.parents[1] / "scenarios"
NODES = [f"node-{number}" for number in (1, 2, 3, 4)]


def main() -> None:
    """Run the study, print its means and draw."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        netfl.sweep(SCENARIOS / "studies" / "nonn.yaml", jobs=2, output=folder)
        table = pd.read_csv(folder / "results.csv")
    table["bytes_a_request"] = table["bytes"] / table["serving.requests"]
    table["answered"] = table["serving.answered"] / table["serving.requests"]
    shown = ["serving.mean_s", "serving.p95_s", "bytes_a_request", "answered", "serving.accuracy", "serving.accuracy_within_deadline"]
    means = table.groupby("label", sort=False)[shown].mean()
    print(means.to_string(float_format="{:.4f}".format))
    accuracy = {count: by_missing(count, range(int(table["replicate"].max()) + 1)) for count in (2, 4)}
    for count, (teacher, missing, lengths) in accuracy.items():
        print(count, "students; teacher", np.round(teacher, 4), "mean", round(float(np.mean(teacher)), 4), "filters", lengths)
        for number, each in missing.items():
            print("  missing", number, "by replicate", np.round(each, 4), "mean", round(float(np.mean(each)), 4))
    draw(means, accuracy)


def by_missing(count: int, replicates: Any) -> tuple[list[float], dict[int, list[float]], list[list[int]]]:
    """Accuracy on all test samples, by replicate: the teacher's, and that of the students by how many are missing, a mean over the sets."""
    teacher, missing, lengths = [], {number: [] for number in range(count)}, []
    for replicate in replicates:
        settings = {"replicate": replicate, "workloads.serving.workers": NODES[:count]}
        bench = prepare(load(SCENARIOS / "nonn.yaml", settings), Store(disk=Disk(default_folder())))
        session = bench.session(None)
        workload: Any = bench.loaded.scenario.workloads["serving"]
        answering: Any = Cooperating(workload, session, "serving").answering
        task = session.task
        teacher.append(session.store.force(values.evaluate(task.model, answering.teacher, task.dataset)).accuracy)
        lengths.append([len(group) for group in answering.trained(count)[0].groups])
        cluster = workload.clusters(session)[0]
        for number, collected in missing.items():
            sets = [tuple(place not in lost for place in range(count)) for lost in itertools.combinations(range(count), number)]
            collected.append(float(np.mean([answering.answers(cluster, present).correct.mean() for present in sets])))
    return teacher, missing, lengths


def draw(means: pd.DataFrame, accuracy: dict[int, Any]) -> None:
    """Latency of the ways to answer, and what lost students cost."""
    mpl.rcParams.update({"axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False, "axes.spines.right": False})
    figure = Figure(figsize=(9, 3.6), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 1])
    names = [name for name in means.index if "outages" not in name]
    colours = ["#555555" if name == "alone" else "#D55E00" if "NoNN" in name else "#0072B2" for name in names]
    bars = left.barh(names[::-1], 1000 * means.loc[names[::-1], "serving.p95_s"], color=colours[::-1])
    left.bar_label(bars, fmt="%.0f", fontsize=8, padding=2)
    left.set_xlabel("ms, 95th percentile of a request")
    left.grid(axis="y", visible=False)
    for count, colour in ((2, "#E69F00"), (4, "#D55E00")):
        teacher, missing, _ = accuracy[count]
        right.plot(list(missing), [np.mean(each) for each in missing.values()], "o-", color=colour, label=f"{count} students")
    right.axhline(np.mean(teacher), color="#555555", linestyle="--", label="teacher")
    right.set(xlabel="students missing", ylabel="accuracy", ylim=(0, 1.02), xticks=range(4))
    right.legend(frameon=False)
    figure.suptitle("Two or four nodes behind 1 Mbit/s links, mean of three replicates", x=0.01, ha="left", fontweight="bold")
    figure.savefig(HERE / "nonn.png")


if __name__ == "__main__":
    main()
