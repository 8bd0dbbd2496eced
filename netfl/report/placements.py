"""Where the time of one request goes under several placements."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["draw_placements"]

# Okabe and Ito, "Color universal design", 2008: told apart with any common colour vision.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#8C8C8C")
_WIDTH_INCH = 7.5
_DOTS_PER_INCH = 150

Bar = tuple[str, list[tuple[str, float]], float]


def draw_placements(groups: Sequence[tuple[str, Sequence[Bar]]], path: Path) -> None:
    """A bar a planner, made of the parts of its estimate, and a mark where the simulated request ends; one panel a group of devices.

    Args:
        groups: a heading, and for each planner its name, (part, seconds) in order, and the simulated seconds.
        path: the PNG file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows = [max(1, len(bars)) for _, bars in groups]
    figure = Figure(figsize=(_WIDTH_INCH, 0.9 * len(groups) + 0.32 * sum(rows) + 0.5), dpi=_DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=rows)[:, 0]
    for axes, (heading, bars) in zip(panels, groups, strict=True):
        names = list(dict.fromkeys(part for _, parts, _ in bars for part, _ in parts))
        colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}
        for place, (_, parts, simulated_s) in enumerate(bars):
            left = 0.0
            for part, seconds in parts:
                axes.barh(place, 1e3 * seconds, left=left, height=0.62, color=colours[part])
                left += 1e3 * seconds
            axes.plot([1e3 * simulated_s] * 2, [place - 0.42, place + 0.42], color="black", linewidth=1.4)
        axes.set_yticks(range(len(bars)), [name for name, _, _ in bars], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("ms for one request, nothing else running (line: simulated)", fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.set_title(heading, fontsize=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        used = [name for name in names if any(seconds > 0 for _, parts, _ in bars for part, seconds in parts if part == name)]
        axes.legend(
            handles=[Patch(color=colours[name], label=name) for name in used],
            fontsize=7,
            frameon=False,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
        )
    figure.savefig(path)
