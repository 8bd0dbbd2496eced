"""Loss in bursts over time: under tcp it changes the rate of transfers that move, under datagram the fate of frames."""

import math
from dataclasses import replace

import pytest
import simpy

from netfl.network.bursts import LossBursts, LossChains
from netfl.network.datagram import Datagram
from netfl.network.fabric import Fabric
from netfl.network.links import TECHNOLOGIES
from netfl.network.outages import Timeline
from netfl.network.tcp import Tcp
from netfl.network.topology import Link, Site, Topology
from netfl.network.transport import Fluid, Transport
from netfl.randomness import Streams

PACKET_S = 12_000 / 10e6
"""A packet of 1500 B at 10 Mbit/s."""


def link(a, b, latency_s=0.02, **more):
    return Link(name=a + b, a=a, b=b, up_bps=10e6, down_bps=10e6, latency_s=latency_s, **more)


def network(*links, timelines=None, seed=1, **settings):
    names = dict.fromkeys(end for link in links for end in (link.a, link.b))
    topology = Topology([Site(name=name) for name in names], links)
    env = simpy.Environment()
    return env, Tcp(**settings).connect(env, Fabric(env, topology, timelines), topology, Streams(seed))


def bursts(good_s, bad_s, in_bad, in_good=0.0, direction="both"):
    return LossBursts(mean_good=good_s, mean_bad=bad_s, loss_in_bad=in_bad, loss_in_good=in_good, direction=direction)


class Scheduled:
    """A loss that changes at stated times."""

    def __init__(self, *steps):
        self.steps = steps

    def on(self, route):
        return self

    def at(self, time_s):
        return [loss for start_s, loss in self.steps if start_s <= time_s][-1]

    def next_change_s(self, time_s):
        return min((start_s for start_s, _ in self.steps if start_s > time_s), default=math.inf)


def scheduled(num_packets, *steps, **settings):
    topology = Topology([Site(name="a"), Site(name="b")], [link("a", "b", loss_up=0.5)])
    env = simpy.Environment()
    transport = Transport(env, Fabric(env, topology), topology, Tcp(connection="kept", initial_window=1000, **settings), Scheduled(*steps))
    transfer = transport.send("a", "b", 1448 * num_packets)
    env.run()
    assert (transfer.outcome, transfer.delivered_bytes) == ("delivered", 1500 * num_packets)
    return transfer


@pytest.mark.parametrize("congestion_control", ["cubic", "reno", "bbr"])
def test_two_equal_states_are_a_constant_loss_bit_for_bit(congestion_control):
    ends = []
    for lossy in (link("a", "b", loss_up=0.013), link("a", "b", bursts_up=bursts(0.2, 0.1, 0.013, 0.013))):
        env, transport = network(lossy, congestion_control=congestion_control)
        transfers = [transport.send("a", "b", n) for n in (2_000_000, 300_000, 50_000)]
        env.run()
        ends.append([(each.end_s, each.wasted_bytes, each.held) for each in transfers])
    assert ends[0] == ends[1]
    assert all(end_s > 0.06 for end_s, _, _ in ends[0])


def test_a_loss_that_begins_within_a_transfer():
    # Silent for 20 ms; 30 packets without loss until 56 ms, then 30 more at 10 %: 3 of them are lost, 63 packets in all. Half a loss is expected
    # after 5 packets, one more every 10: packets 35, 45 and 55. The last one, at 20 + 55 x 1.2 = 86 ms, arrives a round trip of 41.2 ms later.
    transfer = scheduled(60, (0.0, 0.0), (0.02 + 30 * PACKET_S, 0.1), congestion_control="bbr")
    assert transfer.wasted_bytes == 3 * 1500
    assert transfer.end_s == pytest.approx(0.086 + 0.0412)


def test_a_loss_that_ends_within_a_transfer():
    # 22 packets at 10 %: 20 arrive and 2 are lost, at packets 5 and 15; 40 more without loss: 62 packets, and the last loss was long ago.
    transfer = scheduled(60, (0.0, 0.1), (0.02 + 22 * PACKET_S, 0.0), congestion_control="bbr")
    assert transfer.wasted_bytes == 2 * 1500
    assert transfer.end_s == pytest.approx(0.02 + 62 * PACKET_S)


def test_a_window_is_cut_in_the_bad_state_and_grows_in_the_good_one():
    # Reno. No loss for 1000 packets, until 1.22 s. At 1 % then, half a loss is expected after 50 packets, at 1.28 s: the window, which does
    # not bind, is what fits into the pipe and the queue of 100 ms: 0.1412 s / 1.2 ms = 117.67 packets. The cut comes a window later, to half of it,
    # 58 packets: more than the 34.3 of the pipe, so that it does not bind. With a second loss 100 packets after the cut the window is what has
    # grown since, 58 + (100 packets x 1.2 ms - 69.6 ms of recovery) / 69.6 ms = 58.7; cut a window later to 29 packets, it binds:
    # 29 packets in 41.2 ms.
    steps = (0.0, 0.0), (0.02 + 1000 * PACKET_S, 0.01)
    cut_s = 0.02 + (1000 + 50 + 117.67 + 100 + 58.7) * PACKET_S
    env = simpy.Environment()
    topology = Topology([Site(name="a"), Site(name="b")], [link("a", "b", loss_up=0.5)])
    # Good again half a second after that cut.
    tcp = Tcp(connection="kept", initial_window=2000, congestion_control="reno")
    transport = Transport(env, Fabric(env, topology), topology, tcp, Scheduled(*steps, (cut_s + 0.1, 0.0)))
    transfer = transport.send("a", "b", 1448 * 3000)
    env.run(cut_s - 0.001)
    at_rate = transfer.sent_bytes
    env.run(cut_s + 0.001)
    before = transfer.sent_bytes
    env.run(cut_s + 0.039)
    assert at_rate == pytest.approx((cut_s - 0.001 - 0.02) * 10e6 / 8, abs=1)
    assert (transfer.sent_bytes - before) / 0.038 == pytest.approx(29 * 1500 / 0.0412, rel=1e-3)
    env.run()
    # Without further losses it grows by a packet a round trip until it fills the pipe again: no cut to 14 packets ever comes.
    assert transfer.end_s < cut_s + 0.0412 * 8 + 0.1 + (3000 - 1300) * PACKET_S


def test_bbr_moves_what_arrives_and_what_is_lost_at_the_rate_of_the_link():
    # Under bbr all packets move at 10 Mbit/s, so of every bit 1 / (1 + p) arrives: the end follows from the states alone.
    lossy = bursts(2.0, 1.0, 0.4, 0.02)
    env, transport = network(link("a", "b", bursts_up=lossy), congestion_control="bbr", connection="kept", initial_window=10**6)
    transfer = transport.send("a", "b", 1448 * 50_000)
    env.run()
    good = lossy.good(Streams(1).stream("bursts", "states", "ab", "up"))
    now, left = 0.02, 50_000 * 12_000.0
    while True:
        change, rate = good.next_change_s(now), 10e6 / (1.02 if good.up_at(now) else 1.4)
        if left <= rate * (change - now):
            break
        now, left = change, left - rate * (change - now)
    # To a packet, and a round trip for the last one if that is lost.
    assert now + left / rate - PACKET_S <= transfer.end_s <= now + left / rate + PACKET_S + 0.0412
    assert transfer.delivered_bytes == 50_000 * 1500
    # A third of the time in the bad state, of 60 s in all: 0.28 / 1.28 of the bits would be a constant loss of 12.67 %.
    assert transfer.wasted_bytes > 0.05 * transfer.delivered_bytes


def test_the_mean_rate_of_a_long_transfer_is_the_mixture_of_the_states():
    # Stays are long beside the recovery of a window, so the rate is what each state gives alone, weighted by the time spent there.
    end_s, setting = 4000.0, {"congestion_control": "reno", "connection": "kept"}

    def moved(**loss):
        env, transport = network(link("a", "b", 0.1, **loss), **setting)
        transfer = transport.send("a", "b", 10**11)
        env.run(end_s)
        return transfer.sent_bytes

    lossy = bursts(120.0, 60.0, 0.05, 0.005)
    good_s = end_s - sum(end - start for start, end in lossy.good(Streams(1).stream("bursts", "states", "ab", "up")).down_intervals(end_s))
    # 22 cycles: the share of the good state has a standard error of about 2/3 x 1/3 x sqrt(2 / 22) = 7 %.
    assert good_s / end_s == pytest.approx(2 / 3, abs=0.2)
    alone = {loss: moved(loss_up=loss) for loss in (0.005, 0.05)}
    assert alone[0.005] > 2.5 * alone[0.05]
    mixture = (alone[0.005] * good_s + alone[0.05] * (end_s - good_s)) / end_s
    # A change takes about the ten round trips of a recovery, 2 s of a stay of 60: within 4 %; a constant mean loss of 2 % would be 25 % off.
    assert moved(bursts_up=lossy) == pytest.approx(mixture, rel=0.04)
    assert abs(moved(loss_up=lossy.mean_loss) / mixture - 1) > 0.2


def test_what_nobody_crosses_is_never_drawn_and_another_link_shifts_nothing():
    lossy = bursts(0.3, 0.2, 0.3)
    ends = []
    for more in ((), (link("0", "a", bursts_up=lossy), link("c", "b", bursts_up=lossy))):
        env, transport = network(link("a", "b", bursts_up=lossy), *more)
        transfer = transport.send("a", "b", 1_000_000)
        env.run()
        ends.append(transfer.end_s)
        assert list(transport.losses._chains) == [("ab", True)]
    assert ends[0] == ends[1]


def test_books_balance_with_outages_and_attempts():
    # Whatever happens, a delivered message has arrived once, and the rest was wasted.
    timelines = {"ab": Timeline([1.0, 2.5, 4.0, 4.4, 6.0, 7.5])}
    for seed in range(6):
        for on_failure in ("resume", "restart"):
            env, transport = network(
                link("a", "b", bursts_up=bursts(0.2, 0.2, 0.5, 0.01)), link("b", "c", bursts_up=bursts(0.5, 0.1, 0.2), loss_down=0.1),
                timelines=timelines, seed=seed, timeout=1.0, wait=0.1, on_failure=on_failure, congestion_control=("cubic", "bbr")[seed % 2],
            )  # fmt: skip
            transfers = [transport.send("a", "c", num_bytes) for num_bytes in (0, 1, 10_000, 1_000_000)]
            env.run()
            for each in transfers:
                assert (each.outcome, each.delivered_bytes) == ("delivered", Tcp().wire_bytes(each.num_bytes))
                assert each.sent_bytes == each.delivered_bytes + each.wasted_bytes
                told = each.latency_s + each.stalled_s + math.fsum(held.seconds for held in each.held)
                assert told == pytest.approx(each.end_s - each.start_s, abs=1e-9)
            assert transfers[-1].wasted_bytes > 10 * 1500
            assert transfers[-1].attempts > 1


def test_frames_follow_the_state_of_their_link():
    # Lost for certain (but for 1e-12) in the bad state, never in the good one: the fate of a frame is the state at its end.
    lossy = bursts(40.0, 40.0, 1 - 1e-12)
    technology = TECHNOLOGIES["lorawan_sf7"]
    radio = replace(
        link("a", "b"), up_bps=technology.up_bps, down_bps=technology.down_bps, technology="lorawan_sf7", bursts_up=lossy, latency_s=0.0
    )
    topology = Topology([Site(name="a"), Site(name="b")], [radio])
    env = simpy.Environment()
    transport = Datagram().connect(env, Fabric(env, topology), topology, Streams(3))
    transfers = []

    def process():
        for _ in range(100):
            transfer = transport.send("a", "b", 20)
            transfers.append(transfer)
            yield transfer.done
            yield env.timeout(7.0)

    env.process(process())
    env.run()
    good = lossy.good(Streams(3).stream("bursts", "states", "ab", "up"))
    assert [each.outcome == "delivered" for each in transfers] == [good.up_at(each.end_s) for each in transfers]
    assert 20 < sum(each.outcome == "delivered" for each in transfers) < 80


def test_the_fluid_names_those_who_know_losses():
    topology = Topology([Site(name="a"), Site(name="b")], [link("a", "b", bursts_down=bursts(1.0, 1.0, 0.1))])
    env = simpy.Environment()
    with pytest.raises(ValueError, match=r"link 'ab' loses packets, and transport 'fluid' knows no loss: tcp and datagram do"):
        Fluid().connect(env, Fabric(env, topology), topology, Streams(1))


def test_a_prediction_without_a_run_has_the_mean():
    # A third of the time at 30 %, else 3 %: 12 %.
    lossy = bursts(2.0, 1.0, 0.3, 0.03)
    assert lossy.mean_loss == pytest.approx(0.12)
    topology = Topology([Site(name="a"), Site(name="b")], [link("a", "b", bursts_up=lossy)])
    terms = Tcp(congestion_control="bbr").terms(topology.route("a", "b"), 1500 * 100)
    assert terms.num_bytes == 1500 * 112
    assert LossChains(Streams(1)).on(topology.route("b", "a")) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [((0.0, 1.0, 0.1), "mean_good above 0"), ((1.0, math.inf, 0.1), "mean_bad above 0"), ((1.0, 1.0, 1.0), "loss_in_bad"), ((1, 1, 0.1, -1), "loss_in_good"),
     ((1.0, 1.0, 0.1, 0.0, "sideways"), "direction up, down or both")],
)  # fmt: skip
def test_settings_that_cannot_be(given, expected):
    with pytest.raises(ValueError, match=expected):
        bursts(*given)


def test_a_link_has_one_loss_a_direction():
    with pytest.raises(ValueError, match=r"link 'ab': expected no loss_up beside bursts_up, got 0.1"):
        Topology([Site(name="a"), Site(name="b")], [link("a", "b", loss_up=0.1, bursts_up=bursts(1.0, 1.0, 0.1))])
