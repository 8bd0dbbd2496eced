"""The TCP transport and its window: every expected time is derived in a comment."""

import math

import pytest
import simpy

from netfl.network.fabric import Fabric
from netfl.network.outages import Timeline
from netfl.network.tcp import LAWS, Tcp, Window
from netfl.network.topology import Link, Site, Topology
from netfl.network.transport import TRANSPORTS, Fluid, Transport

PACKET_S = 12_000 / 10e6
"""A packet of 1500 B at 10 Mbit/s."""


def network(*links, timelines=None, **settings):
    names = dict.fromkeys(end for link in links for end in (link.a, link.b))
    topology = Topology([Site(name=name) for name in names], links)
    env = simpy.Environment()
    return env, Transport(env, Fabric(env, topology, timelines), topology, Tcp(**settings))


def link(a, b, rate_bps=10e6, latency_s=0.02, **more):
    return Link(name=a + b, a=a, b=b, up_bps=rate_bps, down_bps=rate_bps, latency_s=latency_s, **more)


def packets(count):
    """Bytes of a message that fills so many packets."""
    return 1448 * count


def end_of(num_bytes, *links, timelines=None, **settings):
    env, transport = network(*links, timelines=timelines, **settings)
    transfer = transport.send(links[0].a, links[-1].b, num_bytes)
    env.run()
    assert transfer.outcome == "delivered"
    return transfer


def test_a_transfer_alone():
    # Set-up: 40 ms there and back. Latency: 20 ms. A round is 40 ms and a packet's 1.2 ms: 10 packets, then 20; the other 40 fit into a window of 40 and move
    # at the link's rate: 48 ms.
    transfer = end_of(packets(70), link("a", "b"))
    assert transfer.end_s == pytest.approx(0.04 + 0.02 + 2 * 0.0412 + 40 * PACKET_S)
    assert (transfer.sent_bytes, transfer.wasted_bytes, transfer.num_bytes) == (70 * 1500, 0, 70 * 1448)
    assert transfer.latency_s == pytest.approx(0.02)


def test_a_kept_connection_saves_the_set_up_and_not_the_slow_start():
    assert end_of(packets(70), link("a", "b"), connection="kept").end_s == pytest.approx(0.02 + 2 * 0.0412 + 40 * PACKET_S)


def test_slow_start_ends_at_the_rate_of_the_path():
    # The third round's cap, 40 packets in 41.2 ms, is above the link's 34.3: the other 970 packets move at the link's rate.
    assert end_of(packets(1000), link("a", "b")).end_s == pytest.approx(0.06 + 2 * 0.0412 + 970 * PACKET_S)


def test_an_odd_message_has_a_short_last_packet():
    tcp = Tcp()
    assert [tcp.wire_bytes(n) for n in (0, 1, 1448, 1449)] == [0, 53, 1500, 1553]


def test_what_held_a_transfer_back():
    # The transfer alone, above: 40 ms of set-up, two rounds of slow start with 10 and 20 packets, 48 ms on the link.
    assert end_of(packets(70), link("a", "b")).held == [
        ("set-up", "", pytest.approx(0.04), 0.0, 0.0),
        ("slow start", "", pytest.approx(2 * 0.0412), pytest.approx(30 * 12_000), 0.0),
        ("link", "ab up", pytest.approx(0.048), pytest.approx(40 * 12_000), pytest.approx(1.0)),
    ]
    # The lost packet, below: 61 packets on the link, and then 101.2 - 73.2 ms for the one that was lost.
    transfer = end_of(packets(60), link("a", "b", loss_up=0.01), congestion_control="bbr", connection="kept", initial_window=1000)
    assert [(wait.cause, wait.seconds) for wait in transfer.held] == [
        ("link", pytest.approx(0.0732)),
        ("last packet", pytest.approx(0.028)),
    ]


def test_what_held_a_transfer_back_over_two_attempts():
    # Held at 0.03 s, in the set-up, until 0.53; a pause of 1 s; then as alone: 0.03 + 0.04 s of set-up.
    transfer = end_of(packets(70), link("a", "b"), timelines={"ab": Timeline([0.03, 1.0])}, timeout=0.5)
    assert transfer.stalled_s == pytest.approx(0.5)
    assert {wait.cause: wait.seconds for wait in transfer.held} == {
        "set-up": pytest.approx(0.07), "slow start": pytest.approx(0.0824), "link": pytest.approx(0.048), "pause": pytest.approx(1.0),
    }  # fmt: skip


def test_shares_go_as_one_over_the_round_trip_time():
    # Round trips 2 x 0.01 and 2 x 0.04 s plus the same packet times (0.12 ms on the access links' 100 Mbit/s, 1.2 ms at 10): 21.32 and 81.32 ms.
    # Windows as large as the message hold nothing back. Both start at 0 with kept connections; the near flow is silent for 10 ms, the far one for 40: the
    # near one has 30 ms alone, 25 packets, and then 81.32 / 102.64 of the link.
    links = link("n", "m", 100e6, 0.01), link("f", "m", 100e6, 0.04), link("m", "s", 10e6, 0.0)
    env, transport = network(*links, initial_window=1000, connection="kept")
    near, far = transport.send("n", "s", packets(500)), transport.send("f", "s", packets(500))
    env.run()
    assert near.end_s == pytest.approx(0.04 + 475 * PACKET_S * (0.10264 / 0.08132))
    assert far.end_s == pytest.approx(0.01 + 1000 * PACKET_S)


def test_sites_without_latency_are_not_infinitely_greedy():
    topology = Topology([Site(name="a"), Site(name="b")], [link("a", "b", 100e9, 0.0)])
    assert Tcp().rtt_s(topology.route("a", "b")) == 1e-4


def test_a_lost_packet_moves_again_and_arrives_a_round_trip_later():
    # 60 packets at 1 %: 0.6, so one is lost, at packet 50; 61 move in 73.2 ms. It arrives a round trip, 41.2 ms, after its first time at 60 ms: 101.2 ms.
    transfer = end_of(packets(60), link("a", "b", loss_up=0.01), congestion_control="bbr", connection="kept", initial_window=1000)
    assert transfer.end_s == pytest.approx(0.02 + 50 * PACKET_S + 0.0412)
    assert (transfer.sent_bytes, transfer.delivered_bytes, transfer.wasted_bytes) == (61 * 1500, 60 * 1500, 1500)
    # Of 40 packets, 0.4 are lost: none.
    transfer = end_of(packets(40), link("a", "b", loss_up=0.01), congestion_control="bbr", connection="kept", initial_window=1000)
    assert (transfer.end_s, transfer.wasted_bytes) == (pytest.approx(0.02 + 40 * PACKET_S), 0)


def test_loss_counts_in_the_direction_of_the_data_and_over_all_links():
    # 100 packets: 1 - 0.9 x 0.8 = 28 % are lost.
    links = link("a", "b", loss_up=0.1, loss_down=0.5), link("b", "c", loss_up=0.2)
    assert end_of(packets(100), *links, congestion_control="bbr").wasted_bytes == 28 * 1500


def test_an_abort_in_the_wait_for_the_last_packet():
    env, transport = network(link("a", "b", loss_up=0.01), congestion_control="bbr", connection="kept", initial_window=1000)
    transfer = transport.send("a", "b", packets(60))
    env.run(0.02 + 61 * PACKET_S + 0.001)
    assert transfer.in_flight_bytes == 61 * 1500
    transfer.abort()
    env.run()
    assert (transfer.outcome, transfer.sent_bytes, transfer.wasted_bytes) == ("aborted", 61 * 1500, 61 * 1500)


def test_after_an_outage_it_starts_slowly_again():
    # Kept: silent for 20 ms; 10 packets in the first round of 41.2 ms and 10 of its 20 in half of the second. Back at 1 s: 10 packets, 20 packets,
    # and the last 40 at the link's rate.
    transfer = end_of(packets(90), link("a", "b"), connection="kept", timelines={"ab": Timeline([0.02 + 1.5 * 0.0412, 1.0])})
    assert transfer.end_s == pytest.approx(1.0 + 2 * 0.0412 + 40 * PACKET_S)


def test_a_new_attempt_connects_again():
    # Held at 0.03 s, in the set-up; gives up at 0.53, waits until 1.53 and starts from the first byte: as a transfer alone.
    transfer = end_of(packets(70), link("a", "b"), timelines={"ab": Timeline([0.03, 1.0])}, timeout=0.5)
    assert (transfer.attempts, transfer.end_s) == (2, pytest.approx(1.53 + 0.04 + 0.02 + 2 * 0.0412 + 40 * PACKET_S))
    assert transfer.latency_s == pytest.approx(0.02)


def window(kind, **more):
    """A round trip of 0.1 s, packets of 1 bit, one in 100 of 1000 lost, on a path that never fills and queues up to a second."""
    given = {
        "rtt_s": 0.1, "narrowest_bps": 1e9, "queue_s": 1.0, "loss": 0.01, "packet_bits": 1.0, "packets_lost": 10, "total_bits": 1000.0, "initial": 10,
    }  # fmt: skip
    return Window(law=LAWS[kind], **given | more)


def cut_once(kind, **more):
    """Slow start 10, 20, 40 packets in rounds; packet 50 is lost at 0.25 s, when the window is 10 + 50; it shows 60 packets later, at 110."""
    one = window(kind, **more)
    assert one.begin(0.0, 0.0) == (100.0, "slow start", 0.1, 50.0)
    assert one.step(0.1, 10.0, 100.0) == (200.0, "slow start", 0.2, 50.0)
    assert one.step(0.2, 30.0, 200.0) == (400.0, "slow start", pytest.approx(0.3), 50.0)
    assert one.step(0.25, 50.0, 400.0) == (400.0, "slow start", pytest.approx(0.3), 110.0)
    assert one.step(0.3, 70.0, 400.0) == (800.0, "slow start", pytest.approx(0.4), 110.0)
    return one


def test_reno_halves_and_grows_by_a_packet_a_round_trip():
    # 60 to 30 at 0.35 s; recovery until 0.45 s; then 31 at 0.55. The next loss is 100 packets after the cut.
    one = cut_once("reno")
    assert one.step(0.35, 110.0, 800.0) == (300.0, "window", pytest.approx(0.55), 210.0)
    assert one.step(0.55, 170.0, 300.0) == (310.0, "window", pytest.approx(0.65), 210.0)
    # Lost at 0.68 s with 31 packets and 0.3 of another since (0.68 - 0.45) / 0.1 = 2.3 round trips: 32.3, shows as many packets later, leaves 16.
    step = one.step(0.68, 210.0, 310.0)
    assert step.due_bits == pytest.approx(210 + 32.3)
    assert one.step(0.78, step.due_bits, 310.0)[:2] == (160.0, "window")
    assert one.tail_s(0.7) == pytest.approx(0.08)


def test_cubic_follows_its_curve():
    # 60 to 42. K = ((60 - 42) / 0.4)^(1/3) s. It grows by 42 // 16 = 2 packets when C (t - K)^3 + 60 = 44, before the Reno-friendly 2 / (0.9 / 1.7) = 3.8 round
    # trips would have brought them.
    one = cut_once("cubic")
    curve_s = (18 / 0.4) ** (1 / 3)
    grown_s = curve_s - (16 / 0.4) ** (1 / 3)
    assert 0 < grown_s < 0.38
    assert one.step(0.35, 110.0, 800.0) == (420.0, "window", pytest.approx(0.45 + grown_s), 210.0)


def test_cubic_makes_room_when_it_is_cut_below_its_peak():
    # 60 to 42, and 42 at the next loss at 0.4 s, in the recovery: 42 to 29. It was below 60, so the new peak is 42 x 1.7 / 2 = 35.7.
    one = cut_once("cubic")
    one.step(0.35, 110.0, 800.0)
    step = one.step(0.4, 210.0, 420.0)
    assert step.due_bits == pytest.approx(252)
    curve_s = ((35.7 - 29) / 0.4) ** (1 / 3)
    grown_s = min(curve_s + math.cbrt((30 - 35.7) / 0.4), 1 / (0.9 / 1.7) * 0.1)
    assert one.step(0.45, 252.0, 420.0) == (290.0, "window", pytest.approx(0.55 + grown_s), pytest.approx(352))


def test_what_is_in_flight_is_no_more_than_pipe_and_queue():
    # A rate of 100 bit/s held by others, a queue of 0.05 s: 15 packets are in flight whatever the window, and reno leaves 7.
    one = window("reno", queue_s=0.05)
    one.begin(0.0, 0.0)
    assert one.step(0.5, 50.0, 100.0).due_bits == 65
    # 7 packets a round trip bind: 70 of the 100 bit/s.
    assert one.step(0.6, 65.0, 100.0) == (70.0, "window", pytest.approx(0.8), 165.0)


def test_a_window_that_does_not_bind_schedules_nothing():
    # 20 bit/s held by others, a queue of 1 s: in flight 22 packets, of which reno leaves 11; 11 packets a round trip are 110 bit/s.
    one = window("reno")
    one.begin(0.0, 0.0)
    assert one.step(0.1, 2.0, 20.0) == (math.inf, "slow start", math.inf, 50.0)
    assert one.step(2.5, 50.0, 20.0).due_bits == 72
    assert one.step(3.6, 72.0, 20.0) == (math.inf, "window", math.inf, 172.0)


def test_bbr_takes_no_loss_for_congestion():
    # Only the last loss matters, for the tail: packet 950.
    one = window("bbr", initial=2000)
    assert one.begin(0.0, 0.0) == (math.inf, "slow start", math.inf, 950.0)
    assert one.step(1.0, 950.0, 1e9) == (math.inf, "slow start", math.inf, math.inf)
    assert one.tail_s(1.03) == pytest.approx(0.07)


@pytest.mark.parametrize(
    "settings",
    [{"timeout": 0.0}, {"attempts": 0}, {"wait": -1.0}, {"congestion_control": "vegas"}, {"connection": "old"}, {"mtu_bytes": 52}, {"initial_window": 0}],
    ids=str,
)  # fmt: skip
def test_settings_that_cannot_be(settings):
    with pytest.raises(ValueError, match="expected"):
        Tcp(**settings)


def test_the_family_and_the_fluid_refuses_loss():
    assert TRANSPORTS.find("tcp") is Tcp
    topology = Topology([Site(name="a"), Site(name="b")], [link("a", "b", loss_down=0.01)])
    env = simpy.Environment()
    with pytest.raises(ValueError, match="link 'ab' loses packets, and transport 'fluid' knows no loss"):
        Transport(env, Fabric(env, topology), topology, Fluid())


@pytest.mark.parametrize(
    ("field", "value"), [("loss_up", 1.0), ("loss_down", -0.1), ("loss_up", math.nan), ("queue_bytes", -1.0), ("queue_bytes", math.inf)]
)
def test_links_that_cannot_be(field, value):
    with pytest.raises(ValueError, match=f"link 'ab': expected {field} of at least 0"):
        Topology([Site(name="a"), Site(name="b")], [link("a", "b", **{field: value})])
