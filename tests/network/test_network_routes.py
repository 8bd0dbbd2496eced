"""Routes against every path there is: least latency, then fewest hops, then the first by names as read from the lesser end."""

import random
from fractions import Fraction

import pytest

from netfl.errors import NoRouteError
from netfl.network.topology import Link, Site, Topology


def every_path(neighbours: dict[str, dict[str, Fraction]], source: str, destination: str) -> list[list[str]]:
    found, waiting = [], [[source]]
    while waiting:
        path = waiting.pop()
        if path[-1] == destination:
            found.append(path)
        else:
            waiting += [[*path, other] for other in neighbours[path[-1]] if other not in path]
    return found


@pytest.mark.parametrize("seed", range(40))
def test_routes_are_the_least_of_all_paths(seed: int) -> None:
    choose = random.Random(seed)
    count = choose.randrange(2, 8)
    names = [f"n{i}" for i in range(count)]
    choose.shuffle(names)
    pairs = sorted({tuple(sorted(choose.sample(names, 2))) for _ in range(choose.randrange(1, 3 * count))})
    # Few different latencies, some of them sums of others, so that ways are often equal.
    latencies = {pair: choose.choice([0, 1, 2, 3]) for pair in pairs}
    topology = Topology(
        [Site(name=name) for name in names],
        [
            Link(name=f"{a} {b}", a=a, b=b, up_bps=1e6, down_bps=1e6, latency_s=tenths / 10)
            for (a, b), tenths in latencies.items()
        ],
    )  # fmt: skip
    neighbours: dict[str, dict[str, Fraction]] = {name: {} for name in names}
    for (a, b), tenths in latencies.items():
        neighbours[a][b] = neighbours[b][a] = Fraction(tenths, 10)
    asked = [(a, b) for a in names for b in names if a != b]
    choose.shuffle(asked)
    for source, destination in asked:
        paths = every_path(neighbours, source, destination)
        if not paths:
            with pytest.raises(NoRouteError):
                topology.route(source, destination)
            continue

        def rank(path: list[str]) -> tuple[Fraction, int, list[str]]:
            latency = sum((neighbours[a][b] for a, b in zip(path, path[1:], strict=False)), Fraction(0))
            return latency, len(path), path if path[0] < path[-1] else path[::-1]

        assert list(topology.route(source, destination).devices) == min(paths, key=rank)
        assert topology.route(source, destination).latency_s == pytest.approx(float(rank(min(paths, key=rank))[0]))


def test_a_long_line_and_a_wide_grid_of_equal_ways() -> None:
    line = Topology(
        [Site(name=f"n{i:04}") for i in range(3000)],
        [Link(name=f"l{i}", a=f"n{i:04}", b=f"n{i + 1:04}", up_bps=1e6, down_bps=1e6, latency_s=0.001) for i in range(2999)],
    )
    assert len(line.route("n0000", "n2999").hops) == 2999
    side = 12
    grid = Topology(
        [Site(name=f"{x:02} {y:02}") for x in range(side) for y in range(side)],
        [
            Link(name=f"{x} {y} {right}", a=f"{x:02} {y:02}", b=f"{x + right:02} {y + 1 - right:02}", up_bps=1e6, down_bps=1e6)
            for x in range(side)
            for y in range(side)
            for right in (0, 1)
            if x + right < side and y + 1 - right < side
        ],
    )
    # As read from "00 00", the first by names goes along y first: "00 01" comes before "01 00".
    last = side - 1
    expected = [f"00 {y:02}" for y in range(side)] + [f"{x:02} {last:02}" for x in range(1, side)]
    assert list(grid.route("00 00", f"{last:02} {last:02}").devices) == expected
    assert list(grid.route(f"{last:02} {last:02}", "00 00").devices) == expected[::-1]
