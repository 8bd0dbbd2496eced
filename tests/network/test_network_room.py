"""Capacities that nothing has ever shared hold nothing but what they offer and who crosses them."""

import random

from netfl.network.clocks import Shares


def test_a_capacity_gets_room_for_classes_when_it_is_first_shared() -> None:
    choose = random.Random(5)
    shares = Shares()
    capacities = [shares.capacity(f"c{i}", choose.uniform(1, 10)) for i in range(24)]
    moving, shared, now = [], set(), 0.0
    for _ in range(600):
        now += choose.random()
        for load in shares.take_finished(now) if shares.next_finish_s() <= now else []:
            shares.remove(load, now)
            moving.remove(load)
        if moving and choose.random() < 0.4:
            shares.remove(moving.pop(choose.randrange(len(moving))), now)
        else:
            crossed = choose.sample(capacities, choose.randrange(1, 5))
            load = shares.load(shares.path({capacity: choose.uniform(0.5, 2) for capacity in crossed}), choose.uniform(1, 50))
            shares.add(load, now)
            moving.append(load)
        shares.settle(now)
        shared |= {each for each in capacities if each.count > 1}
        assert {each for each in capacities if hasattr(each, "groups")} == shared
