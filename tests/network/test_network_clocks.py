"""The virtual clocks against progressive filling in exact arithmetic, after every event of random sequences."""

import math
import random
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netfl.network.clocks import Shares
from netfl.network.sharing import max_min_rates


def exact_rates(capacities, costs, weights):
    """Raise one level for all, freeze whoever crosses what is full, go on with the rest; in rationals."""
    rates = [Fraction(0)] * len(costs)
    rising = set(range(len(costs)))
    while rising:
        steps = []
        for place, capacity in enumerate(capacities):
            slope = sum(costs[flow][place] * weights[flow] for flow in rising if place in costs[flow])
            if slope:
                used = sum(rates[flow] * takes[place] for flow, takes in enumerate(costs) if place in takes)
                steps.append(((capacity - used) / slope, place))
        step = min(steps)[0]
        for flow in rising:
            rates[flow] += weights[flow] * step
        full = {place for distance, place in steps if distance == step}
        rising -= {flow for flow in rising if full & costs[flow].keys()}
    return rates


CAPACITY = st.sampled_from([1.0, 2.0, 3.0, 5.0, 10.0, 64.0]) | st.floats(0.5, 100.0)
COST = st.sampled_from([1.0, 1.0, 1.0, 0.25, 2.0]) | st.floats(0.1, 4.0)


@st.composite
def networks(draw):
    count = draw(st.integers(1, 6))
    amounts = [draw(CAPACITY) for _ in range(count)]
    exponents = [draw(st.sampled_from([0.0, 0.0, 0.5])) for _ in range(count)]
    paths = []
    for _ in range(draw(st.integers(1, 7))):
        crossed = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True))
        stations = [(place, draw(st.sampled_from("uvw"))) for place in crossed if exponents[place]]
        paths.append(({place: draw(COST) if draw(st.booleans()) else 1.0 for place in crossed}, stations))
    return amounts, exponents, paths


EVENT = st.tuples(
    st.sampled_from(["start", "start", "start", "finish", "finish", "abort", "hold", "release", "wait", "cap", "cap", "resize"]),
    st.integers(0, 10**6),
    st.floats(0.01, 0.99),
)


@pytest.mark.parametrize("patience", [20, 0], ids=["clocks", "filling"])
def test_rates_and_ends_are_exact_after_every_event(patience):
    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(networks(), st.lists(EVENT, min_size=12, max_size=60))
    def check(network, events):
        play(network, events, patience)

    check()


def test_a_share_is_of_the_amount_of_its_time():
    """A load that joins others, then a resize: what the others spent before it came counts at the amount of that time."""
    shares = Shares()
    capacity = shares.capacity("c", 10.0)
    path = shares.path({capacity: 1.0})
    first, second = shares.load(path, 100.0), shares.load(path, 100.0)
    third = shares.load(path, 100.0)
    for load, now in ((first, 0.0), (second, 0.0), (third, 4.0)):
        shares.add(load, now)
        shares.settle(now)
    shares.resize(capacity, 30.0, 10.0)
    shares.settle(10.0)
    shares.remove(third, 12.0)
    # 10 / 3 for 6 s, then 10 for 2 s: 40 bits in 8 s, a third of the capacity all the time.
    assert third.spent[capacity] == pytest.approx((8.0, 40.0, 8 / 3), rel=1e-12)


def bottleneck_of(load):
    return load.group.bottleneck if load.following else load.limiter


def play(network, events, patience):
    amounts, exponents, paths = network
    shares = Shares(patience)
    capacities = [shares.capacity(f"c{place}", amount, exponents[place]) for place, amount in enumerate(amounts)]
    ways = [
        shares.path(
            {capacities[place]: cost for place, cost in costs.items()}, [(capacities[place], station) for place, station in stations]
        )
        for costs, stations in paths
    ]
    now, moving, held = 0.0, {}, {}
    rates = {}
    spent = {}
    for kind, pick, amount in events:
        chosen = []
        if kind == "start":
            way = pick % len(ways)
            load = shares.load(ways[way], 10 * amount, [1.0, 1.0, 2.0, 0.5][pick // 7 % 4], owner=way)
            moving[load] = 10 * amount
            shares.add(load, now)
        elif kind == "release" and held:
            load = list(held)[pick % len(held)]
            moving[load] = held.pop(load)
            shares.add(load, now)
        elif kind == "cap" and moving:
            # A cap, often one that binds, or none; and 3 bits more to move.
            load = list(moving)[pick % len(moving)]
            shares.change(load, now, cap_bps=math.inf if pick % 3 == 0 else 5 * amount, cause="cap", more_bits=3.0)
            moving[load] += 3.0
        elif kind == "resize":
            place = pick % len(amounts)
            amounts = [*amounts[:place], 10 * amount, *amounts[place + 1 :]]
            shares.resize(capacities[place], amounts[place], now)
        elif kind in ("abort", "hold") and moving:
            chosen = [list(moving)[pick % len(moving)]]
        elif kind in ("finish", "wait") and moving:
            end = shares.next_finish_s()
            assert end == pytest.approx(now + min(left / rates[load] for load, left in moving.items()), rel=1e-9, abs=1e-12)
            then = end if kind == "finish" else now + amount * (end - now)
            for load in moving:
                moving[load] -= rates[load] * (then - now)
                key = bottleneck_of(load)
                so_far = spent.setdefault(load, {}).setdefault(key, [0.0, 0.0, 0.0])
                so_far[0] += then - now
                so_far[1] += rates[load] * (then - now)
                if key != "cap":
                    place = capacities.index(key)
                    so_far[2] += rates[load] * (then - now) * paths[load.owner][0][place] / amounts[place]
            now = then
            if kind == "finish":
                chosen = shares.take_finished(now)
                assert chosen
                for load in chosen:
                    assert moving[load] == pytest.approx(0, abs=1e-9)
        for load, left in moving.items():
            assert shares.left_bits(load, now) == pytest.approx(left, rel=1e-9, abs=1e-9)
        for load in chosen:
            shares.remove(load, now)
            left = moving.pop(load)
            assert shares.left_bits(load, now) == pytest.approx(left, rel=1e-9, abs=1e-9)
            assert shares.rate_bps(load) == 0
            assert load.spent.keys() == {key for key, (seconds, _, _) in spent.get(load, {}).items() if seconds}
            for key, so_far in load.spent.items():
                assert so_far == pytest.approx(tuple(spent[load][key]), rel=1e-9, abs=1e-9)
            if kind == "hold":
                held[load] = left
        shares.settle(now)
        stations = [{name for load in moving for at, name in paths[load.owner][1] if at == place} for place in range(len(amounts))]
        offers = [
            Fraction(amount * max(1, len(at)) ** -exponent) for amount, exponent, at in zip(amounts, exponents, stations, strict=True)
        ]
        costs = [{place: Fraction(cost) for place, cost in paths[load.owner][0].items()} for load in moving]
        for takes, load in zip(costs, moving, strict=True):
            if load.cap_bps < math.inf:
                takes[len(offers)] = Fraction(1)
                offers.append(Fraction(load.cap_bps))
        exact = exact_rates(offers, costs, [Fraction(load.weight) for load in moving])
        rates = dict(zip(moving, map(float, exact), strict=True))
        for load, rate in rates.items():
            assert shares.rate_bps(load) == pytest.approx(rate, rel=1e-9)
            # What holds it back is its cap, or a full capacity on its way on which none is faster.
            key = bottleneck_of(load)
            if key == "cap":
                assert rate == pytest.approx(load.cap_bps, rel=1e-9)
            else:
                place = capacities.index(key)
                users = [
                    (rates[other] / other.weight, takes[place] * exact[n])
                    for n, (other, takes) in enumerate(zip(moving, costs, strict=True))
                    if place in takes
                ]
                assert rate / load.weight == pytest.approx(max(speed for speed, _ in users), rel=1e-9)
                assert float(sum(use for _, use in users)) == pytest.approx(float(offers[place]), rel=1e-9)
        assert max_min_rates(
            [float(x) for x in offers], [{p: float(c) for p, c in takes.items()} for takes in costs], [x.weight for x in moving]
        ) == (pytest.approx(list(rates.values()), rel=1e-9))
        assert shares.next_finish_s() < math.inf or not moving


@pytest.mark.parametrize("seed", range(60))
def test_larger_networks(seed):
    """Up to 25 capacities and 40 paths, with many equal levels or with none; sums of floats are exact enough as a reference here."""
    choose = random.Random(seed)
    count, whole = choose.randint(2, 25), choose.random() < 0.5
    amounts = [float(choose.randint(1, 5)) if whole else choose.uniform(1, 50) for _ in range(count)]
    shares = Shares()
    capacities = [shares.capacity(str(place), amount) for place, amount in enumerate(amounts)]
    paths = []
    for _ in range(choose.randint(1, 40)):
        crossed = choose.sample(range(count), choose.randint(1, min(count, choose.choice([2, 3, 6]))))
        costs = {place: 1.0 if whole or choose.random() < 0.7 else choose.uniform(0.2, 3) for place in crossed}
        paths.append((costs, shares.path({capacities[place]: cost for place, cost in costs.items()})))
    now, moving, rates = 0.0, {}, {}
    for _ in range(120):
        kind = choose.random()
        if kind < 0.5 or not moving:
            costs, path = choose.choice(paths)
            bits = choose.uniform(0.5, 20)
            load = shares.load(path, bits, choose.choice([1.0, 1.0, 1.0, 2.0]), owner=costs)
            moving[load] = bits
            shares.add(load, now)
        elif kind < 0.6:
            load = choose.choice(list(moving))
            del moving[load]
            shares.remove(load, now)
        elif kind < 0.7:
            load = choose.choice(list(moving))
            shares.change(load, now, cap_bps=choose.choice([math.inf, choose.uniform(0.1, 4)]))
        else:
            then = shares.next_finish_s()
            for load in moving:
                moving[load] -= rates[load] * (then - now)
            now = then
            for load in shares.take_finished(now):
                assert moving.pop(load) == pytest.approx(0, abs=1e-9)
                shares.remove(load, now)
        shares.settle(now)
        # A cap is a capacity of the load's own.
        capped = {load: count + place for place, load in enumerate(moving) if load.cap_bps < math.inf}
        offers = dict(enumerate(amounts)) | {place: load.cap_bps for load, place in capped.items()}
        takes = [load.owner | ({capped[load]: 1.0} if load in capped else {}) for load in moving]
        rates = dict(
            zip(moving, max_min_rates([offers.get(place, 1.0) for place in range(count + len(moving))], takes, [load.weight for load in moving]),
                strict=True)
        )  # fmt: skip
        for load, rate in rates.items():
            assert abs(shares.rate_bps(load) - rate) <= 1e-9 * rate


@pytest.mark.parametrize("seed", range(30))
def test_few_loads_on_many_capacities(seed):
    """Most capacities have one load or none: loads come alone, are joined by a second on one capacity or on several, are held and go on alone or
    shared, and capacities change under them; weights, caps and media among them. Progressive filling in floats is the reference.
    """
    choose = random.Random(seed)
    count = choose.randint(12, 60)
    amounts = [choose.uniform(1, 50) for _ in range(count)]
    exponents = [0.5 if choose.random() < 0.1 else 0.0 for _ in range(count)]
    shares = Shares()
    capacities = [
        shares.capacity(str(place), amount, exponent) for place, (amount, exponent) in enumerate(zip(amounts, exponents, strict=True))
    ]
    now, moving, held, rates, held_back_s = 0.0, {}, {}, {}, {}
    for _ in range(200):
        kind = choose.random()
        then = now
        if kind < 0.35 or not moving:
            # Neighbours in the list are crossed together, as the links of a road are.
            first = choose.randrange(count)
            crossed = sorted({(first + place) % count for place in range(choose.randint(1, 6))})
            costs = {place: choose.choice([1.0, 1.0, 1.0, choose.uniform(0.2, 3)]) for place in crossed}
            stations = [(place, choose.choice("uvw")) for place in crossed if exponents[place]]
            path = shares.path(
                {capacities[place]: cost for place, cost in costs.items()}, [(capacities[at], name) for at, name in stations]
            )
            load = shares.load(path, choose.uniform(0.5, 20), choose.choice([1.0, 1.0, 2.0]), owner=(costs, stations))
            moving[load], held_back_s[load] = shares.left_bits(load, now), 0.0
            shares.add(load, now)
        elif kind < 0.45:
            load = choose.choice(list(moving))
            held[load] = moving.pop(load)
            shares.remove(load, now)
        elif kind < 0.55 and held:
            load = choose.choice(list(held))
            moving[load] = held.pop(load)
            shares.add(load, now)
        elif kind < 0.62:
            shares.change(choose.choice(list(moving)), now, cap_bps=choose.choice([math.inf, choose.uniform(0.1, 4)]), cause="cap")
        elif kind < 0.7:
            place = choose.randrange(count)
            amounts[place] = choose.uniform(1, 50)
            shares.resize(capacities[place], amounts[place], now)
        else:
            end = shares.next_finish_s()
            assert end == pytest.approx(now + min(left / rates[load] for load, left in moving.items()), rel=1e-9)
            then = end if kind < 0.9 else choose.uniform(now, end)
            for load in moving:
                moving[load] -= rates[load] * (then - now)
                held_back_s[load] += then - now
            now = then
            for load in shares.take_finished(now) if now == end else []:
                assert moving.pop(load) == pytest.approx(0, abs=1e-9)
                shares.remove(load, now)
                # What held it back adds up to the time for which it moved.
                assert sum(seconds for seconds, _, _ in load.spent.values()) == pytest.approx(held_back_s[load], rel=1e-9)
        for load, left in moving.items():
            assert shares.left_bits(load, now) == pytest.approx(left, rel=1e-9, abs=1e-9)
        shares.settle(now)
        at = [{name for load in moving for there, name in load.owner[1] if there == place} for place in range(count)]
        offers = [amount * max(1, len(names)) ** -exponent for amount, names, exponent in zip(amounts, at, exponents, strict=True)]
        takes = []
        for load in moving:
            takes.append(dict(load.owner[0]))
            if load.cap_bps < math.inf:
                takes[-1][len(offers)] = 1.0
                offers.append(load.cap_bps)
        rates = dict(zip(moving, max_min_rates(offers, takes, [load.weight for load in moving]), strict=True))
        for load, rate in rates.items():
            assert shares.rate_bps(load) == pytest.approx(rate, rel=1e-9)


def test_a_class_that_changes_its_bottleneck_keeps_what_has_moved():
    # Two loads of 9 bits over x (3) and y (10): 1.5 each. At 2 s (6 left each) eight more join on y alone: y gives 1 to each of ten. At 3 s those
    # eight have moved 1 bit of 1 and end; the two go on at 1.5 with 5 left: 3 + 5 / 1.5 s.
    shares = Shares()
    x, y = shares.capacity("x", 3.0), shares.capacity("y", 10.0)
    long, short = shares.path({x: 1.0, y: 1.0}), shares.path({y: 1.0})
    pair = [shares.load(long, 9.0) for _ in range(2)]
    for load in pair:
        shares.add(load, 0.0)
    shares.settle(0.0)
    assert shares.next_finish_s() == 6
    for _ in range(8):
        shares.add(shares.load(short, 1.0), 2.0)
    shares.settle(2.0)
    assert [shares.rate_bps(load) for load in pair] == pytest.approx([1, 1])
    assert shares.next_finish_s() == pytest.approx(3)
    for load in shares.take_finished(3.0):
        shares.remove(load, 3.0)
    shares.settle(3.0)
    assert shares.next_finish_s() == pytest.approx(3 + 5 / 1.5)
    assert [shares.metered_bits(load, 3.0) for load in pair] == pytest.approx([4, 4])
