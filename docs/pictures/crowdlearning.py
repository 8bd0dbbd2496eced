"""The figures of docs/crowdlearning.md: `python docs/pictures/crowdlearning.py slices` and `... accuracy`.

The first needs `netfl-sim[metis]` and takes seconds; the second runs scenarios/crowdlearning.yaml for 54 points and takes about ten
minutes on two cores. Both print the numbers that they draw.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import netfl
from netfl.learning.slicing import Even, Metis, slice_graph
from netfl.learning.slicing.reading import read_units
from netfl.learning.slicing.schedule import schedule
from netfl.learning.zoo.crowd import SliceNetMlp

HERE = Path(__file__).parent
SCENARIO = HERE.parents[1] / "scenarios" / "crowdlearning.yaml"
COUNTS = (5, 10, 15, 20)
SEEDS = (1, 2, 3)
EPOCHS = 20

# Chen et al., SECON 2018, perceptron on MNIST: Tables V and VII (KB a sample, all devices and one), and Tables I to IV (test error, %).
PAPER_LOAD = (20_948, 10_471, 6_977, 5_229)
PAPER_TRAFFIC = (19.12, 33.57, 46.46, 57.79)
PAPER_A_DEVICE = (3.18, 3.05, 2.90, 2.75)
PAPER_ERROR: dict[str, dict[float, float]] = {
    "slices": {5: 5.29, 10: 3.63, 15: 3.10, 20: 2.62},
    "theta": {0.1: 7.33, 0.3: 3.83, 0.5: 2.70, 0.7: 2.37, 0.9: 1.93},
    "tau": {0: 3.07, 0.2: 2.91, 0.4: 2.70, 0.6: 2.91, 0.8: 3.14, 1: 5.72},
    "omega": {5: 3.18, 10: 2.53, 15: 3.53, 20: 3.82, 25: 3.76},
}
POINTS: dict[str, tuple[float, ...]] = {
    "slices": (1, 3, 4, 7),
    "theta": (0.1, 0.3, 0.5, 0.7, 0.9),
    "tau": (0, 0.2, 0.5, 0.8, 1),
    "omega": (5, 10, 15, 20),
}


def slices() -> None:
    """Largest loads and traffic of the paper's perceptron."""
    net = read_units(SliceNetMlp(), (1, 28, 28), 10)
    graph = slice_graph(net)
    loads, numbers, even = [], [], []
    for count in COUNTS:
        parts = Metis().parts(graph, count)
        loads.append(int(graph.loads(parts, count).max()))
        numbers.append(_numbers(schedule(net, graph.by_layer(parts))))
        even.append(_numbers(schedule(net, graph.by_layer(Even().parts(graph, count)))))
    kilobytes = [8 * each / 1000 for each in numbers]
    print("| n | largest slice | paper | kB a sample | over links | even split | paper | kB a device | paper |")
    print("|---|---|---|---|---|---|---|---|---|")
    for count, load, paper_load, kb, by_hand, paper, own in zip(
        COUNTS, loads, PAPER_LOAD, kilobytes, even, PAPER_TRAFFIC, PAPER_A_DEVICE, strict=True
    ):
        cells = [load, paper_load, f"{kb:.1f}", f"{2 * kb:.1f}", f"{8 * by_hand / 1000:.1f}", paper, f"{kb / (count + 1):.2f}", own]
        print("| " + " | ".join(map(str, [count, *cells])) + " |")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    left.axhline(784 * 400, color="tab:red", label="the dominator's input layer")
    left.plot(COUNTS, loads, "o-", label="largest slice: netfl and paper alike")
    left.set(xlabel="slices", ylabel="weights held", yscale="log", title="Who holds the perceptron")
    right.plot(COUNTS, [2 * each for each in kilobytes], "s-", label="netfl, over both links")
    right.plot(COUNTS, PAPER_TRAFFIC, "k--", label="paper, Table VII")
    right.plot(COUNTS, kilobytes, "o-", label="netfl, sent by devices (8 F)")
    right.set(xlabel="slices", ylabel="kB a sample", ylim=(0, None), title="Traffic of a group")
    for axes in (left, right):
        axes.set_xticks(COUNTS)
        axes.legend(fontsize=8)
    figure.savefig(HERE / "crowdlearning-slices.png", dpi=110)


def _numbers(boundaries: Any) -> int:
    return sum(bundle.sums for boundary in boundaries for bundle in boundary.bundles)


def accuracy() -> None:
    """Test error over the four settings of the paper's Tables I to IV, on digits."""
    figure, panels = plt.subplots(1, 4, figsize=(13, 3.4), layout="constrained")
    print("| setting | value | error of the groups' models, % | of the server's model, % |")
    print("|---|---|---|---|")
    for panel, (setting, points) in zip(panels, POINTS.items(), strict=True):
        found = [_errors(setting, point) for point in points]
        for point, (own, server) in zip(points, found, strict=True):
            print(f"| {setting} | {point:g} | {_mean(own):.1f} ({min(own):.1f} to {max(own):.1f}) | {_mean(server):.1f} |", flush=True)
        means = [_mean(own) for own, _ in found]
        spread = [
            [mean - min(own) for mean, (own, _) in zip(means, found, strict=True)],
            [max(own) - mean for mean, (own, _) in zip(means, found, strict=True)],
        ]
        panel.errorbar(points, means, spread, fmt="o-", capsize=3, label="netfl, digits")
        panel.set(xlabel=setting, ylabel="test error, %", ylim=(0, None))
        paper = panel.twiny() if setting == "slices" else panel
        beside = paper.twinx()
        beside.plot(list(PAPER_ERROR[setting]), list(PAPER_ERROR[setting].values()), "k--", label="paper, MNIST (right)")
        beside.set(ylim=(0, None))
        if setting == "slices":
            paper.set_xlabel("slices (paper)")
        handles = [*panel.get_legend_handles_labels()[0], *beside.get_legend_handles_labels()[0]]
        panel.legend(handles, ["netfl, digits", "paper, MNIST (right)"], fontsize=7, loc="lower left")
    figure.savefig(HERE / "crowdlearning-accuracy.png", dpi=110)


def _errors(setting: str, point: float) -> tuple[list[float], list[float]]:
    """Errors in percent of the groups' models (mean) and of the server's, a seed each."""
    own, server = [], []
    for seed in SEEDS:
        settings = {
            f"workloads.training.{setting}": point,
            "workloads.training.epochs": EPOCHS,
            "workloads.training.evaluate_every": EPOCHS,
        }
        training = netfl.run(SCENARIO, set=settings, seed=seed).metrics["training"]
        own.append(100 * (1 - training["training"]["accuracy"]))
        server.append(100 * (1 - training["training/server"]["accuracy"]))
    return own, server


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    {"slices": slices, "accuracy": accuracy}[sys.argv[1]]()
