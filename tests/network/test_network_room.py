"""Capacities that nothing shares have their empty containers in common: nothing is ever put into them."""

import random

from netfl.network import clocks
from netfl.network.clocks import Shares


def test_what_capacities_have_in_common_stays_empty() -> None:
    choose = random.Random(5)
    shares = Shares()
    capacities = [shares.capacity(f"c{i}", choose.uniform(1, 10), choose.choice([0.0, 0.11])) for i in range(12)]
    moving, now = [], 0.0
    for _ in range(600):
        now += choose.random()
        for load in shares.take_finished(now) if shares.next_finish_s() <= now else []:
            shares.remove(load, now)
            moving.remove(load)
        if moving and choose.random() < 0.4:
            shares.remove(moving.pop(choose.randrange(len(moving))), now)
        else:
            crossed = choose.sample(capacities, choose.randrange(1, 5))
            stations = [(crossed[0], f"s{choose.randrange(3)}")]
            load = shares.load(shares.path({capacity: choose.uniform(0.5, 2) for capacity in crossed}, stations), choose.uniform(1, 50))
            shares.add(load, now)
            moving.append(load)
        shares.settle(now)
        assert not clocks._NO_GROUPS and not clocks._NO_CAPACITIES and not clocks._NO_ENTRIES
