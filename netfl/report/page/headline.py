"""The first figures of a page: how long until it is accurate, how fast it answers, at what cost."""

from __future__ import annotations

from typing import Any

from netfl.report.page.markup import amount, element, text
from netfl.units import format_bytes, format_duration, format_energy

__all__ = ["headline", "percent"]


def percent(value: float) -> str:
    """A share for people.

    What is not everything or nothing never reads as 100 % or 0 %.

    >>> percent(0.9582), percent(0.0004), percent(0.99987), percent(1.0)
    ('95.8 %', '0.04 %', '99.99 %', '100 %')
    """
    if 0 < value < 0.001:
        return f"{100 * value:.1g} %"
    if 0.9995 <= value < 1:
        return f"{100 - float(f'{100 * (1 - value):.1g}'):.10g} %"
    return f"{100 * value:.1f}".removesuffix(".0") + " %"


def headline(found: dict[str, Any]) -> str:
    """The figures as a list.

    Args:
        found: what `netfl.report.metrics` returns.
    """
    cards = [_training(name, one, found) for name, one in found["training"].items()]
    cards += [_serving(name, one, found) for name, one in found["serving"].items()]
    cards += [_bytes(found), _energy(found)]
    return element("dl", "".join(cards), class_="headline", id="headline")


def _card(question: str, figure: str, *told: str) -> str:
    lines = "".join(element("span", line) for line in told if line)
    return element("div", element("dt", text(question)) + element("dd", element("strong", figure) + lines))


def _of(name: str, workloads: dict[str, Any]) -> str:
    return f" ({name})" if len(workloads) > 1 else ""


def _training(name: str, one: dict[str, Any], found: dict[str, Any]) -> str:
    reached = [(float(level), time_s) for level, time_s in one["time_to_accuracy_s"].items() if time_s is not None]
    question = f"How long until it is accurate?{_of(name, found['training'])}"
    end = f"ended at {percent(one['accuracy'])} after {one['rounds']:,} rounds" if one["accuracy"] is not None else "never measured"
    if not reached:
        best = one["best_accuracy"]
        return _card(question, "not reached", f"best: {percent(best)}" if best is not None else "", end)
    level, time_s = reached[-1]
    before = ", ".join(f"{percent(lower)} after {format_duration(lower_s)}" for lower, lower_s in reached[-2:-1])
    return _card(question, f"{amount(time_s, format_duration)} <small>to {percent(level)}</small>", text(before), text(end))


def _serving(name: str, one: dict[str, Any], found: dict[str, Any]) -> str:
    question = f"How fast does it answer?{_of(name, found['serving'])}"
    if one["p95_s"] is None:
        return _card(question, "no answers", f"of {one['requests']:,} requests")
    middle, last = format_duration(one["p50_s"]), format_duration(one["p99_s"])
    told = f"p50 {middle}, p99 {last}, {one['requests']:,} requests"
    missed = f"{percent(one['miss_rate'])} too late or lost, {percent(one['accuracy'])} of answers right"
    goodput = f"{one['goodput_per_s']:.4g} answers in time a second" if one["goodput_per_s"] is not None else ""
    return _card(question, f"{amount(one['p95_s'], format_duration)} <small>for 95 %</small>", text(told), text(missed), text(goodput))


def _bytes(found: dict[str, Any]) -> str:
    sums = found["bytes"]
    total = sums["total"]
    most = max(sums["by_kind"], key=lambda kind: sums["by_kind"][kind]["sent"], default=None)
    told = f"{percent(sums['by_kind'][most]['sent'] / total)} of kind {most}" if total and most else ""
    wasted = f"{percent(sums['wasted'] / total)} wasted" if total else ""
    return _card("What does it send?", amount(total, format_bytes), text(told), text(wasted))


def _energy(found: dict[str, Any]) -> str:
    sums = found["energy_j"]
    active = sums["total"] - sums["idle"]
    told = f"above idling: {format_energy(active)}" if sums["total"] else ""
    radios = f"radios {format_energy(sums['transmit'] + sums['receive'])}" if sums["total"] else ""
    figure = amount(sums["total"], format_energy) if found["devices"] else "unknown"
    return _card("What energy does it take?", figure, text(told), text(radios))
