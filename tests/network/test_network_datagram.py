"""Frames over datagram radios: timelines that fit in a comment, ALOHA's closed form, and the books."""

import itertools
import math
import random
from dataclasses import dataclass

import pytest
import simpy

from netfl.network.datagram import Datagram, _Station
from netfl.network.fabric import Fabric
from netfl.network.links import TECHNOLOGIES
from netfl.network.lora import EU868, SubBand, time_on_air_s
from netfl.network.loss import LOSSES, Delivery, GilbertElliott, Ieee802154Losses, LorawanCity
from netfl.network.outages import Timeline
from netfl.network.topology import Link, Medium, Site, Topology
from netfl.network.transport import TRANSPORTS
from netfl.randomness import Streams

FREE = (SubBand(),)
"""One channel, no duty cycle."""


def link(name, a, b, technology, medium=None, **changes):
    preset = TECHNOLOGIES[technology]
    return Link(
        name=name, a=a, b=b, up_bps=preset.up_bps, down_bps=preset.down_bps, duplex=preset.duplex, medium=medium, technology=technology,
        duty_cycle=preset.duty_cycle, transmit_w=preset.transmit_w, receive_w=preset.receive_w,
        **{"latency_s": preset.latency_s, **changes},
    )  # fmt: skip


def network(links, timelines=None, media=(), streams=None, **settings):
    names = list(dict.fromkeys(end for each in links for end in (each.a, each.b)))
    topology = Topology([Site(name=name) for name in names], links, [Medium(name=name) for name in media])
    env = simpy.Environment()
    part = Datagram(**settings)
    assert list(part.problems(topology)) == []
    return env, part.connect(env, Fabric(env, topology, timelines or {}), topology, streams or Streams(seed=0))


def lora(technologies=("lorawan_sf7",), **settings):
    """Devices d0, d1, ... at one gateway g on one medium, by their spreading factors."""
    links = [link(f"l{n}", f"d{n}", "g", technology, "air") for n, technology in enumerate(technologies)]
    return network(links, media=["air"], **settings)


def account(transfer):
    """(sent, delivered, wasted, in flight) of each hop, by link and direction."""
    duration = transfer.end_s - transfer.start_s
    parts = transfer.latency_s + transfer.stalled_s + math.fsum(each[2] for each in transfer.held)
    assert parts == pytest.approx(duration, abs=1e-9)
    found = {}
    for each in transfer.hop_bytes():
        assert each.sent == each.delivered + each.wasted + each.in_flight
        found[each.hop.link.name, each.hop.forward] = (each.sent, each.delivered, each.wasted, each.in_flight)
    return found


def held(transfer):
    """Seconds by cause, beside latency and outages; the sum is right."""
    account(transfer)
    found = {}
    for cause, _, seconds, _, _ in transfer.held:
        found[cause] = found.get(cause, 0.0) + seconds
    return found


@dataclass(frozen=True, kw_only=True)
class Script:
    """Loses the frames that it names, counted from 1 in every direction of every link."""

    lost: tuple[int, ...]
    up_only: bool = True

    def frames(self, stream):
        only = not self.up_only or stream.name[-1] == "up"
        return (only and number in self.lost for number in itertools.count(1))


T51, T222 = time_on_air_s(51 + 13, 7), time_on_air_s(222 + 13, 7)


# --- frames and duty cycle --------------------------------------------------------------------------------------------------


def test_one_frame_takes_its_time_on_air():
    env, transport = lora()
    transfer = transport.send("d0", "g", 51)
    env.run(transfer.done)
    assert (transfer.outcome, transfer.attempts, transfer.end_s) == ("delivered", 1, pytest.approx(T51))
    assert account(transfer) == {("l0", True): (64, 64, 0, 0)}
    assert (transfer.sent_bytes, transfer.delivered_bytes, transfer.latency_s) == (64, 64, 0)
    assert transfer.held == [("airtime", "l0", pytest.approx(T51), 0.0, 0.0)]


def test_a_message_is_cut_and_its_sender_waits_for_the_duty_cycle():
    # 500 B are 222, 222 and 56: begun at 0, 100 T and 200 T.
    env, transport = lora()
    transfer = transport.send("d0", "g", 500)
    env.run(transfer.done)
    assert transfer.end_s == pytest.approx(200 * T222 + time_on_air_s(69, 7))
    assert account(transfer) == {("l0", True): (539, 539, 0, 0)}
    # The last frame waited for the first two: 99 T of silence and T on the air each, which is what it waited for.
    assert {cause: seconds for cause, _, seconds, _, _ in transfer.held} == pytest.approx(
        {"duty cycle": 198 * T222, "airtime": 2 * T222 + time_on_air_s(69, 7)}
    )


def test_a_model_of_87_kb_takes_four_hours_at_sf7():
    env, transport = lora()
    transfer = transport.send("d0", "g", 4 * 21_840)
    env.run(transfer.done)
    # 394 frames: 393 of them with their silence.
    assert transfer.end_s == pytest.approx(393 * T222 / 0.01 + time_on_air_s(87_360 - 393 * 222 + 13, 7))
    assert transfer.end_s / 3600 == pytest.approx(4.03, abs=0.01)


def test_each_sub_band_has_its_own_duty_cycle():
    # 1 % and 10 %: frames at 0 on the first, at T on the second, which is free again at 11 T, 21 T, ...
    env, transport = lora(sub_bands=(EU868["M"], EU868["P"]))
    transfer = transport.send("d0", "g", 222 * 4)
    env.run(transfer.done)
    assert transfer.end_s == pytest.approx(22 * T222)


def test_a_gateway_shares_its_duty_cycle_among_its_devices():
    env, transport = lora(["lorawan_sf7"] * 5)
    transfers = [transport.send("g", f"d{n}", 222) for n in range(5)]
    env.run()
    assert [transfer.end_s for transfer in transfers] == pytest.approx([(100 * n + 1) * T222 for n in range(5)])
    # What held them is the gateway's silence, and the radio busy with those before.
    for n, transfer in enumerate(transfers):
        expected = {"duty cycle": 99 * n * T222, "queue": n * T222, "airtime": T222}
        assert held(transfer) == pytest.approx({cause: seconds for cause, seconds in expected.items() if seconds})


def test_payload_limit_and_header():
    # 100 B at 30 - 4 a frame: 26, 26, 26, 22; on the air 13 + 4 more each.
    env, transport = lora(payload_limit=30, header=4, sub_bands=FREE)
    transfer = transport.send("d0", "g", 100)
    env.run(transfer.done)
    assert account(transfer) == {("l0", True): (168, 168, 0, 0)}
    assert transfer.end_s == pytest.approx(3 * time_on_air_s(43, 7) + time_on_air_s(39, 7))


def test_an_empty_message_is_one_frame_and_the_same_device_is_reached_at_once():
    env, transport = lora()
    empty, own = transport.send("d0", "g", 0), transport.send("d0", "d0", 7)
    assert (own.outcome, own.sent_bytes, own.delivered_bytes, own.hop_bytes()) == ("delivered", 7, 7, [])
    env.run(empty.done)
    assert empty.end_s == pytest.approx(time_on_air_s(13, 7))
    with pytest.raises(ValueError, match="at least 0 bytes"):
        transport.send("d0", "g", -1)


# --- collisions -------------------------------------------------------------------------------------------------------------


def later(env, transport, start_s, source, destination, num_bytes):
    """A transfer that starts then: a list that will hold it."""
    found = []

    def process():
        yield env.timeout(start_s)
        found.append(transport.send(source, destination, num_bytes))

    env.process(process())
    return found


@pytest.mark.parametrize(
    ("technologies", "start_s", "settings", "expected"),
    [
        (["lorawan_sf7"] * 2, 0.1, {}, "failed"),
        (["lorawan_sf7"] * 2, 0.1, {"collisions": False}, "delivered"),
        (["lorawan_sf7", "lorawan_sf8"], 0.1, {}, "delivered"),
        (["lorawan_sf7"] * 2, T51, {}, "delivered"),
        (["lorawan_sf7"] * 2, T51 * (1 - 1e-9), {}, "failed"),
        # Of a million channels, the two hardly take the same.
        (["lorawan_sf7"] * 2, 0.1, {"sub_bands": (SubBand(channels=10**6),)}, "delivered"),
    ],
)
def test_frames_that_overlap_are_both_lost(technologies, start_s, settings, expected):
    env, transport = lora(technologies, **{"sub_bands": FREE, **settings})
    first, second = transport.send("d0", "g", 51), later(env, transport, start_s, "d1", "g", 51)
    env.run()
    assert (first.outcome, second[0].outcome) == (expected, expected)
    lost = expected == "failed"
    assert account(first) == {("l0", True): (64, 0, 64, 0) if lost else (64, 64, 0, 0)}


def test_links_of_different_media_do_not_collide():
    links = [link("l0", "d0", "g", "lorawan_sf7", "one"), link("l1", "d1", "g", "lorawan_sf7", "two")]
    env, transport = network(links, media=["one", "two"])
    transfers = [transport.send("d0", "g", 51), transport.send("d1", "g", 51)]
    env.run()
    assert [transfer.outcome for transfer in transfers] == ["delivered"] * 2


def test_who_sends_does_not_hear():
    # The gateway sends at SF9 while an uplink at SF7 is on its way: that one is lost, its own is not.
    env, transport = lora(["lorawan_sf7", "lorawan_sf9"], sub_bands=FREE)
    up, down = transport.send("d0", "g", 51), later(env, transport, 0.05, "g", "d1", 51)
    late = later(env, transport, 0.2, "d0", "g", 51)
    env.run()
    assert [up.outcome, down[0].outcome, late[0].outcome] == ["failed", "delivered", "failed"]


def test_pure_aloha_has_its_closed_form():
    """Poisson arrivals of unit frames at rate G: a share exp(-2G) survives (Abramson 1970)."""
    frames, count, load = 4000, 400, 0.4
    env, transport = lora(["lorawan_sf7"] * count, sub_bands=FREE)
    choose = random.Random(4)
    found, now = [], 0.0
    for _ in range(frames):
        now += choose.expovariate(load / T51)
        found.append(later(env, transport, now, f"d{choose.randrange(count)}", "g", 51))
    env.run()
    share = sum(transfer.outcome == "delivered" for (transfer,) in found) / frames
    # exp(-0.8) = 0.449; neighbours' fates go together, so take twice the binomial deviation of 0.0079, three times. A device that is asked to send
    # while it sends waits, which happens to one frame in a thousand.
    assert share == pytest.approx(math.exp(-2 * load), abs=0.048)
    assert abs(share - math.exp(-load)) > 0.1


# --- losses -----------------------------------------------------------------------------------------------------------------


def test_a_loss_without_confirmation_fails_the_transfer_at_its_end():
    env, transport = lora(losses=Script(lost=(2,)), sub_bands=FREE)
    transfer = transport.send("d0", "g", 3 * 222)
    env.run(transfer.done)
    # The sender does not learn of it: all three go out.
    assert (transfer.outcome, transfer.end_s, transfer.attempts) == ("failed", pytest.approx(3 * T222), 1)
    assert account(transfer) == {("l0", True): (705, 0, 705, 0)}


def test_a_links_own_loss_comes_before_the_transports():
    links = [link("sure", "a", "g", "ieee802154"), link("lossy", "b", "g", "ieee802154", loss_up=0.999999)]
    env, transport = network(links)
    transfers = [transport.send("a", "g", 10), transport.send("b", "g", 10), transport.send("g", "b", 10)]
    env.run()
    assert [transfer.outcome for transfer in transfers] == ["delivered", "failed", "delivered"]


def test_gilbert_elliott_has_its_mean_and_its_bursts():
    chain = GilbertElliott(to_bad=0.02, to_good=0.25, loss_in_bad=0.9, loss_in_good=0.01)
    # Bad share 0.02 / 0.27 = 0.0741: 0.0741 x 0.9 + 0.9259 x 0.01 = 0.0759.
    assert chain.mean_loss == pytest.approx(0.0759, abs=1e-4)
    lost = list(itertools.islice(chain.frames(Streams(seed=1).stream("x")), 200_000))
    assert sum(lost) / len(lost) == pytest.approx(chain.mean_loss, rel=0.05)
    runs = [len(list(group)) for state, group in itertools.groupby(lost) if state]
    # Bursts: mostly 1 / (1 - 0.75 x 0.9) = 3.1 frames long where the chain is bad.
    assert sum(runs) / len(runs) > 2
    alone = [len(list(group)) for state, group in itertools.groupby(itertools.islice(Delivery(ratio=0.9).frames(STREAM), 100_000)) if state]
    assert sum(alone) / len(alone) == pytest.approx(1 / 0.9, rel=0.02)
    first = [next(chain.frames(Streams(seed=1).stream("x", n))) for n in range(4000)]
    assert sum(first) / 4000 == pytest.approx(chain.mean_loss, abs=0.017)
    # A share of 0.19 / 0.69 is lost in the city, 0.013 / 0.263 on 802.15.4.
    assert (LorawanCity().mean_loss, Ieee802154Losses().mean_loss) == (pytest.approx(0.276, abs=0.002), pytest.approx(0.05, abs=0.001))
    for settings in ({"to_bad": 0.0, "to_good": 1.0}, {"to_bad": 0.5, "to_good": 1.5}, {"to_bad": 1, "to_good": 1, "loss_in_good": -0.1}):
        with pytest.raises(ValueError, match="expected"):
            GilbertElliott(**settings)
    with pytest.raises(ValueError, match="expected a ratio"):
        Delivery(ratio=0.0)
    assert LOSSES.kinds() == ["delivery", "gilbert_elliott", "lorawan_city", "ieee802154"]


STREAM = Streams(seed=2).stream("y")


# --- confirmation -----------------------------------------------------------------------------------------------------------


def test_a_confirmed_frame_ends_with_its_acknowledgement():
    # LoRaWAN: 51 B, one second, an acknowledgement of 13 B.
    env, transport = lora(confirmed=True, sub_bands=FREE)
    transfer = transport.send("d0", "g", 51)
    env.run(transfer.done)
    ack_s = time_on_air_s(13, 7)
    assert (transfer.outcome, transfer.end_s) == ("delivered", pytest.approx(T51 + 1 + ack_s))
    assert account(transfer) == {("l0", True): (64, 64, 0, 0), ("l0", False): (13, 13, 0, 0)}
    assert [each.air_s for each in transfer.hop_bytes()] == pytest.approx([T51, ack_s])


def test_a_lost_frame_is_repeated_after_the_timeout():
    # Lost, then 1 + ack + 2 s without an answer; sent again, heard, answered.
    settings = {"confirmed": True, "sub_bands": FREE, "ack_random_factor": 1.0}
    env, transport = lora(losses=Script(lost=(1,)), **settings)
    transfer = transport.send("d0", "g", 51)
    env.run(transfer.done)
    ack_s = time_on_air_s(13, 7)
    assert (transfer.attempts, transfer.end_s) == (2, pytest.approx(T51 + 1 + ack_s + 2 + T51 + 1 + ack_s))
    assert account(transfer) == {("l0", True): (128, 64, 64, 0), ("l0", False): (13, 13, 0, 0)}
    # Both directions lose their first: the acknowledgement of the second frame is lost, and the third frame is a duplicate. Backoff doubles.
    env, transport = lora(losses=Script(lost=(1,), up_only=False), **settings)
    transfer = transport.send("d0", "g", 51)
    env.run(transfer.done)
    assert (transfer.attempts, transfer.end_s) == (3, pytest.approx(3 * (T51 + 1 + ack_s) + 2 + 4))
    assert account(transfer) == {("l0", True): (192, 64, 128, 0), ("l0", False): (26, 13, 13, 0)}


def test_retries_come_to_an_end():
    env, transport = lora(confirmed=True, sub_bands=FREE, retries=2, ack_random_factor=1.0, backoff=1.0, losses=Script(lost=(1, 2, 3)))
    transfer = transport.send("d0", "g", 500)
    env.run(transfer.done)
    assert (transfer.outcome, transfer.attempts) == ("failed", 3)
    assert transfer.end_s == pytest.approx(3 * (T222 + 1 + time_on_air_s(13, 7) + 2))
    assert account(transfer) == {("l0", True): (705, 0, 705, 0)}


def test_the_wait_is_drawn_within_its_factor():
    ends = set()
    for seed in range(20):
        env, transport = lora(confirmed=True, sub_bands=FREE, losses=Script(lost=(1,)), streams=Streams(seed=seed))
        transfer = transport.send("d0", "g", 51)
        env.run(transfer.done)
        wait_s = transfer.end_s - 2 * (T51 + 1 + time_on_air_s(13, 7))
        assert 2 <= wait_s <= 3
        ends.add(wait_s)
    assert len(ends) == 20


def test_a_gateway_out_of_duty_cycle_does_not_answer():
    # It has just sent to d1 at 1 %, and is silent for 99 times that: d0's frame is heard and repeated in vain.
    env, transport = lora(["lorawan_sf7", "lorawan_sf8"], confirmed=True, sub_bands=(SubBand(duty_cycle=0.01),), retries=1)
    down = transport.send("g", "d1", 222)
    up = later(env, transport, 1.0, "d0", "g", 10)
    env.run(20.0)
    assert down.outcome == "delivered"
    assert (up[0].outcome, up[0].attempts) == ("failed", 2)
    assert account(up[0]) == {("l0", True): (46, 0, 46, 0)}


# --- radios that wait for one another ---------------------------------------------------------------------------------------


def test_802154_carries_112_kbit_and_shares_it():
    frame_s = 6.876e-3
    links = [link(f"l{n}", f"d{n}", "g", "ieee802154", "channel") for n in range(3)]
    env, transport = network(links, media=["channel"])
    transfer = transport.send("d0", "g", 96 * 100)
    env.run(transfer.done)
    assert 8 * 9600 / transfer.end_s == pytest.approx(111.7e3, rel=1e-3)
    transfers = [transport.send(f"d{n}", "g", 96 * 10) for n in range(3)]
    start = env.now
    env.run()
    # They take turns: the last frames of the three end one after the other.
    assert [each.end_s - start for each in transfers] == pytest.approx([28 * frame_s, 29 * frame_s, 30 * frame_s])


def test_ble_pays_its_latency_beside_its_frames():
    # 488 B are two frames of 2.468 ms; each arrives 15 ms after it has ended.
    env, transport = network([link("l", "a", "b", "ble42")])
    transfer = transport.send("a", "b", 488)
    env.run(transfer.done)
    assert (transfer.end_s, transfer.latency_s) == (pytest.approx(2 * 2.468e-3 + 15e-3), pytest.approx(15e-3))
    account(transfer)


def test_coap_over_nb_iot_confirmed():
    # 1024 + 52 B at 20 kbit/s: 0.4304 s; 1.6 s each way; an acknowledgement of 52 + 4 B: 22.4 ms. The message has 1020 B beside CoAP's 4.
    env, transport = network([link("l", "a", "b", "nb_iot")], confirmed=True, header=4)
    transfer = transport.send("a", "b", 1020)
    env.run(transfer.done)
    assert transfer.end_s == pytest.approx(0.4304 + 1.6 + 0.0224 + 1.6)
    assert account(transfer) == {("l", True): (1076, 1076, 0, 0), ("l", False): (56, 56, 0, 0)}


# --- several hops -----------------------------------------------------------------------------------------------------------


def city(timelines=None, **settings):
    """d0 and d1 by LoRa to g, from there 10 ms and 8 Mbit/s to s and 20 ms more to t."""
    links = [link(f"l{n}", f"d{n}", "g", "lorawan_sf7", "air") for n in range(2)]
    links += [
        Link(name=a + b, a=a, b=b, up_bps=8e6, down_bps=8e6, latency_s=latency) for a, b, latency in (("g", "s", 0.01), ("s", "t", 0.02))
    ]
    return network(links, timelines, media=["air"], sub_bands=FREE, **settings)


def test_frames_go_on_over_wires_as_they_come_in():
    # Two frames; the second is at g at 2 T, 30 ms and 222 us later at t.
    env, transport = city(header=2)
    transfer = transport.send("d0", "t", 440)
    env.run(transfer.done)
    assert (transfer.end_s, transfer.latency_s) == (pytest.approx(2 * T222 + 0.03 + 222e-6), pytest.approx(0.03))
    assert account(transfer) == {("l0", True): (470, 470, 0, 0), ("gs", True): (444, 444, 0, 0), ("st", True): (444, 444, 0, 0)}
    assert (transfer.sent_bytes, transfer.delivered_bytes) == (470, 444)


def test_a_message_from_the_wire_and_back_to_the_air():
    env, transport = city()
    transfer = transport.send("t", "d0", 300)
    env.run(transfer.done)
    # Frame 1 is at g after 30.222 ms, frame 2 after 30.3 ms, while frame 1 is on the air.
    assert transfer.end_s == pytest.approx(0.030222 + T222 + time_on_air_s(91, 7))
    env, transport = city()
    transfer = transport.send("d1", "d0", 10)
    env.run(transfer.done)
    assert transfer.end_s == pytest.approx(2 * time_on_air_s(23, 7))
    assert account(transfer) == {("l1", True): (23, 23, 0, 0), ("l0", False): (23, 23, 0, 0)}


def test_a_route_of_wires_alone_is_the_fluids():
    env, transport = city(header=9)
    transfer = transport.send("g", "t", 10**6)
    env.run(transfer.done)
    assert (transfer.end_s, transfer.latency_s) == (pytest.approx(1.03), pytest.approx(0.03))
    assert account(transfer) == {("gs", True): (10**6, 10**6, 0, 0), ("st", True): (10**6, 10**6, 0, 0)}


def test_a_wire_that_stays_down_fails_the_transfer():
    env, transport = city({"gs": Timeline([0.1])}, timeout=5.0)
    transfer = transport.send("d0", "t", 100)
    env.run(transfer.done)
    air_s = time_on_air_s(113, 7)
    assert (transfer.outcome, transfer.end_s, transfer.stalled_s) == ("failed", pytest.approx(air_s + 5), pytest.approx(5))
    assert account(transfer) == {("l0", True): (113, 0, 113, 0), ("gs", True): (0, 0, 0, 0), ("st", True): (0, 0, 0, 0)}


# --- one message over wires and a radio -------------------------------------------------------------------------------------


RATE_BPS, LATENCY_S = 8e6, 0.3
"""Of the wires: every radio here is slower, and takes less for a frame than they are away."""


def chain(shape, technology, timelines=None, rate_bps=RATE_BPS, **settings):
    """Sites 0, 1, ... in a row: a wire for each w, a radio for the r."""
    links = [
        link(f"link{n}", f"{n}", f"{n + 1}", technology) if kind == "r"
        else Link(name=f"link{n}", a=f"{n}", b=f"{n + 1}", up_bps=rate_bps, down_bps=rate_bps, latency_s=LATENCY_S)
        for n, kind in enumerate(shape)
    ]  # fmt: skip
    free = {"sub_bands": FREE} if technology.startswith("lorawan") else {}
    env, transport = network(links, timelines, ack_random_factor=1.0, **free, **settings)
    return env, transport, TECHNOLOGIES[technology].radio, links[shape.index("r")].latency_s


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("technology", ["ieee802154", "ble4", "ble42", "lorawan_sf7"])
@pytest.mark.parametrize("shape", ["wr", "rw", "wrw"])
@pytest.mark.parametrize("confirmed", [False, True])
def test_frames_follow_one_another_on_wires_and_take_turns_on_a_radio(shape, technology, confirmed, count):
    """n frames, each w on a wire L long, a on the air and l on its way there; an answer begins d later, takes k and l.

    On a wire the frames follow one another, so that L passes once, and the radio, the bottleneck, is never without a frame from the first one on.
    - Not confirmed: it sends from the time at which the first frame is there for n a, and the last then goes on alone: L + w + n a + l
      (wire, radio), n a + l + L + w (radio, wire), L + w + n a + l + L + w.
    - Confirmed: a frame and its answer take c = a + l + d + k + l, and the next goes out after that: L + w + n c (wire, radio). The last
      goes on by wire while its answer comes back: (n - 1) c + a + l + max(L + w, d + k + l) (radio, wire), and L + w more (wire, radio, wire).
    """
    env, transport, radio, latency_s = chain(shape, technology, confirmed=confirmed)
    num_bytes = count * radio.payload_bytes
    transfer = transport.send("0", str(len(shape)), num_bytes)
    env.run(transfer.done)
    air_s, wire_s = radio.air_s(radio.payload_bytes), 8 * radio.payload_bytes / RATE_BPS
    away_s = 0.0 if radio.latency_in_frame else latency_s
    assert wire_s < air_s
    before_s = LATENCY_S + wire_s if shape.startswith("w") else 0.0
    behind_s = LATENCY_S + wire_s if shape.endswith("w") else 0.0
    if confirmed:
        back_s = radio.ack_delay_s + radio.air_s(0) + away_s
        expected = before_s + (count - 1) * (air_s + away_s + back_s) + air_s + away_s + max(behind_s, back_s)
    else:
        expected = before_s + count * air_s + away_s + behind_s
    assert (transfer.outcome, transfer.attempts) == ("delivered", 1)
    assert transfer.end_s == pytest.approx(expected, rel=1e-9)
    headers = radio.header_bytes * count
    moved = {(f"link{n}", True): num_bytes + (headers if kind == "r" else 0) for n, kind in enumerate(shape)}
    if confirmed:
        moved[f"link{shape.index('r')}", False] = headers
    assert account(transfer) == {key: (sent, sent, 0, 0) for key, sent in moved.items()}
    # Nobody else is there to wait for; what the last frame waited for is the air and the answers of the frames before it.
    causes = held(transfer)
    assert set(causes) <= {"link", "airtime", "acknowledgement"}
    if not confirmed:
        # On the wire the last frame was behind all others; it comes to the radio when the first n - 1 wire times of n a are over.
        ahead_s = (count - 1) * wire_s if shape.startswith("w") else 0.0
        assert causes["airtime"] == pytest.approx(count * air_s - ahead_s)
        assert causes["link"] == pytest.approx(ahead_s + wire_s * shape.count("w"))
        assert transfer.latency_s == pytest.approx(LATENCY_S * shape.count("w") + away_s)


def test_a_wire_slower_than_the_radio_is_what_a_message_waits_for():
    # 96 B at 10 kbit/s: 76.8 ms a frame; the radio takes 6.876 ms, and idles between. 10.5 frames: the last is half as long.
    env, transport, radio, _ = chain("wr", "ieee802154", rate_bps=1e4)
    transfer = transport.send("0", "2", 96 * 10 + 48)
    env.run(transfer.done)
    last_s = radio.air_s(48)
    assert transfer.end_s == pytest.approx(LATENCY_S + 10.5 * 76.8e-3 + last_s)
    assert held(transfer) == pytest.approx({"link": 10.5 * 76.8e-3, "airtime": last_s})


def test_a_message_is_one_flow_on_its_first_wire():
    # 192 and 95 bytes begin at once: a half of the wire each until the 95 have moved; 95 more of the other have by then, and have the wire alone.
    env, transport, radio, _ = chain("wr", "ieee802154", rate_bps=1e4)
    long, short = transport.send("0", "2", 192), transport.send("0", "2", 95)
    env.run()
    byte_s = 8e-4
    assert short.end_s == pytest.approx(LATENCY_S + 2 * 95 * byte_s + radio.air_s(95))
    assert long.end_s == pytest.approx(LATENCY_S + (95 + 192) * byte_s + radio.air_s(96))
    assert held(short) == pytest.approx({"link": 2 * 95 * byte_s, "airtime": radio.air_s(95)})
    assert held(long) == pytest.approx({"link": (95 + 192) * byte_s, "airtime": radio.air_s(96)})


@pytest.mark.parametrize("header", [0, 4])
@pytest.mark.parametrize("ending", ["abort", "close", "outage"])
def test_a_message_that_ends_on_its_first_wire_has_its_bytes_counted_once(ending, header):
    # A frame takes 76.8 ms on the wire from 0.3 s on: at 0.5 s two are across and 0.6 of the third, 96 x 2 + 58 bytes.
    timelines = {"link0": Timeline([0.5])} if ending == "outage" else {}
    env, transport, radio, _ = chain("wr", "ieee802154", timelines, rate_bps=1e4, header=header, timeout=2.0)
    transfer = transport.send("0", "2", 5 * (96 - header))
    env.run(0.5)
    assert transfer.sent_bytes == transfer.in_flight_bytes == 250
    if ending == "abort":
        transfer.abort()
    elif ending == "close":
        transport.close()
    else:
        env.run(transfer.done)
    wire, air = (250, 0, 250, 0), (2 * 133, 0, 2 * 133, 0)
    if ending == "close":
        wire, air = (250, 0, 0, 250), (2 * 133, 0, 0, 2 * 133)
    assert radio.header_bytes == 133 - 96
    assert account(transfer) == {("link0", True): wire, ("link1", True): air}
    assert transport.fabric.moved_bits["link0", True] == pytest.approx(8 * 250)
    assert transfer.end_s == pytest.approx(2.5 if ending == "outage" else 0.5)
    assert transfer.stalled_s == pytest.approx(2.0 if ending == "outage" else 0.0)


def test_an_outage_on_the_first_wire_holds_all_frames_behind_it():
    # Down from 0.35 s to 1.35 s, in the middle of the first frame.
    env, transport, radio, _ = chain("wr", "ieee802154", {"link0": Timeline([0.35, 1.35])}, rate_bps=1e4)
    transfer = transport.send("0", "2", 4 * 96)
    env.run(transfer.done)
    assert transfer.end_s == pytest.approx(LATENCY_S + 1.0 + 4 * 76.8e-3 + radio.air_s(96))
    assert (transfer.stalled_s, transfer.latency_s) == (pytest.approx(1.0), pytest.approx(LATENCY_S))
    assert held(transfer) == pytest.approx({"link": 4 * 76.8e-3, "airtime": radio.air_s(96)})


def test_the_duty_cycle_of_a_gateway_is_what_a_message_by_wire_waits_for():
    # Three frames are at the gateway long before the first is sent: T each, and 99 T of silence between.
    links = [link("l0", "d0", "g", "lorawan_sf7", "air"), Link(name="gs", a="g", b="s", up_bps=1e9, down_bps=1e9, latency_s=0.01)]
    env, transport = network(links, media=["air"])
    transfer = transport.send("s", "d0", 3 * 222)
    env.run(transfer.done)
    wire_s = 8 * 222 / 1e9
    assert transfer.end_s == pytest.approx(0.01 + wire_s + 201 * T222)
    assert held(transfer) == pytest.approx({"duty cycle": 198 * T222, "airtime": 3 * T222 - 2 * wire_s, "link": 3 * wire_s})


def test_seconds_of_thousands_of_frames_sum_to_the_duration():
    # A week at SF7: the last bit of its seconds is a tenth of a nanosecond, and each cause has sixteen thousand summands.
    env, transport = lora()
    transfer = transport.send("d0", "g", 16_000 * 222)
    env.run(transfer.done)
    assert transfer.end_s == pytest.approx((15_999 / 0.01 + 1) * T222)
    assert held(transfer) == pytest.approx({"duty cycle": 15_999 * 99 * T222, "airtime": 16_000 * T222})


# --- outages ----------------------------------------------------------------------------------------------------------------


def down(timelines, num_bytes=51, **settings):
    links = [link("l0", "d0", "g", "lorawan_sf7")]
    env, transport = network(links, {name: Timeline(changes) for name, changes in timelines.items()}, sub_bands=FREE, **settings)
    transfer = transport.send("d0", "g", num_bytes)
    env.run(transfer.done)
    account(transfer)
    return transfer


def test_a_sender_that_is_down_waits():
    transfer = down({"d0": [0.0, 30.0]})
    assert (transfer.outcome, transfer.end_s, transfer.stalled_s) == ("delivered", pytest.approx(30 + T51), pytest.approx(30))
    # Down between two frames: the second waits.
    transfer = down({"d0": [T222, 9.0]}, num_bytes=444)
    assert (transfer.outcome, transfer.end_s) == ("delivered", pytest.approx(9 + T222))
    transfer = down({"d0": [0.0, 30.0]}, timeout=20.0)
    assert (transfer.outcome, transfer.end_s, transfer.sent_bytes) == ("failed", 20.0, 0)


@pytest.mark.parametrize("element", ["d0", "l0", "g"])
def test_a_frame_is_lost_if_anything_goes_down_under_it(element):
    transfer = down({element: [0.1, 0.11]})
    assert (transfer.outcome, transfer.sent_bytes, transfer.wasted_bytes) == ("failed", 64, 64)
    assert down({element: [0.119]}).outcome == "delivered"


@pytest.mark.parametrize("element", ["l0", "g"])
def test_a_sender_knows_of_no_outage_but_its_own(element):
    transfer = down({element: [0.0, 30.0]})
    assert (transfer.outcome, transfer.end_s) == ("failed", pytest.approx(T51))


# --- aborts and the books ---------------------------------------------------------------------------------------------------


def test_abort_on_the_air_and_in_the_queue():
    env, transport = lora(["lorawan_sf7", "lorawan_sf8"], sub_bands=FREE)
    first, second = transport.send("d0", "g", 444), transport.send("d0", "g", 10)
    other = transport.send("d1", "g", 10)
    env.run(0.1)
    assert first.in_flight_bytes == int(235 * 0.1 / T222)
    first.abort()
    second.abort()
    first.abort()
    env.run()
    # The frame on the air goes on to its end; nothing else goes out.
    assert (first.outcome, first.end_s, account(first)) == ("aborted", 0.1, {("l0", True): (235, 0, 235, 0)})
    assert (second.outcome, account(second)) == ("aborted", {("l0", True): (0, 0, 0, 0)})
    assert other.outcome == "delivered"
    assert env.now == pytest.approx(T222)


def test_close_cuts_off_what_is_on_the_air_and_on_wires():
    env, transport = city()
    transfer = transport.send("d0", "t", 444)
    env.run(T222 + 0.02)
    assert transport.close() == [transfer]
    assert (transfer.outcome, transfer.end_s) == ("in_flight", T222 + 0.02)
    assert account(transfer) == {
        ("l0", True): (235 + int(235 * 0.02 / T222), 0, 0, 235 + int(235 * 0.02 / T222)),
        ("gs", True): (0, 0, 0, 0),
        ("st", True): (0, 0, 0, 0),
    }
    transfer.abort()
    env.run(10)
    assert (transfer.outcome, transfer.done.triggered) == ("in_flight", False)


def test_books_balance_under_everything_at_once(monkeypatch):
    """Outages, losses, collisions, duty cycles, aborts and an early end: per hop, what was sent is what went on the air."""
    outcomes = set()
    for seed in range(30):
        with monkeypatch.context() as patch:
            outcomes |= play(seed, patch)
    assert outcomes == {"delivered", "failed", "aborted", "in_flight"}


def play(seed, patch):
    choose = random.Random(seed)
    on_air = {}
    send = _Station.send

    def watched(station, burst, band):
        on_air.setdefault((burst.hop.link.name, burst.hop.forward), []).append((station.transport.env.now, burst.air_s, burst.wire_bytes))
        send(station, burst, band)

    patch.setattr(_Station, "send", watched)
    links = [link(f"l{n}", f"d{n}", "g", choose.choice(["lorawan_sf7", "lorawan_sf9"]), "air") for n in range(5)]
    links += [link(f"z{n}", f"e{n}", "g", "ieee802154", "channel", loss_up=choose.choice([0.0, 0.2])) for n in range(3)]
    links += [Link(name="gs", a="g", b="s", up_bps=1e5, down_bps=1e5, latency_s=0.05)]
    names = [each.name for each in links] + [f"d{n}" for n in range(5)] + ["g", "e0"]
    timelines = {}
    for name in names:
        if choose.random() < 0.5:
            changes = itertools.accumulate(choose.expovariate(1 / (20 if place % 2 else 3)) for place in range(1, 40))
            timelines[name] = Timeline(list(changes))
    env, transport = network(
        links, timelines, ["air", "channel"], Streams(seed=seed), confirmed=choose.random() < 0.5, timeout=4.0, retries=2,
        sub_bands=choose.choice([FREE, (EU868["M"], EU868["P"])]), losses=choose.choice([None, Delivery(ratio=0.8), LorawanCity()]),
        header=choose.choice([0, 3]),
    )  # fmt: skip
    ends = [f"d{n}" for n in range(5)] + [f"e{n}" for n in range(3)] + ["s"]
    transfers = []

    def work():
        for _ in range(40):
            yield env.timeout(choose.expovariate(1.0))
            transfers.append(transport.send(*choose.sample(ends, 2), choose.randint(0, 600)))
            if choose.random() < 0.2:
                choose.choice(transfers).abort()

    env.process(work())
    env.run(45.0)
    transport.close()
    books = {}
    for transfer in transfers:
        for key, (sent, delivered, _, _) in account(transfer).items():
            books[key] = books.get(key, 0) + sent
            assert delivered == 0 or transfer.outcome == "delivered"
    for key, bursts in on_air.items():
        # What is on the air at the end counts by its share; one that was aborted on the air counts in full.
        least = sum(size if start + air_s <= 45 else int(size * (45 - start) / air_s) for start, air_s, size in bursts)
        most = sum(size for _, _, size in bursts)
        assert least <= books[key] <= most
        assert least < most or books[key] == most
    return {transfer.outcome for transfer in transfers}


def test_another_device_shifts_no_draw():
    """Streams are picked by the link's name: the fate of d0's frames is the same with and without a device on another medium."""

    def fates(more):
        links = [link("l0", "d0", "g", "lorawan_sf7", "air")]
        links += [link("other", "x", "g", "ieee802154")] if more else []
        env, transport = network(links, media=["air"], sub_bands=FREE, losses=Delivery(ratio=0.5))
        found = []
        for number in range(40):
            found.append(later(env, transport, float(number), "d0", "g", 10))
            if more:
                later(env, transport, number - 0.25 if number else 0.0, "x", "g", 10)
        env.run()
        return [transfer.outcome for (transfer,) in found]

    assert fates(False) == fates(True)
    assert set(fates(False)) == {"delivered", "failed"}


# --- settings ---------------------------------------------------------------------------------------------------------------


def problems(links, media=(), **settings):
    names = list(dict.fromkeys(end for each in links for end in (each.a, each.b)))
    return list(Datagram(**settings).problems(Topology([Site(name=name) for name in names], links, media)))


def test_what_it_cannot_do():
    wire = Link(name="w", a="a", b="b", up_bps=1.0, down_bps=1.0)
    [none] = problems([wire])
    assert none.startswith("no link has a datagram radio: lte_m, nb_iot")
    assert problems([link("l", "a", "b", "lorawan_sf9")], header=114) == []
    assert "leaves no room in the 115 bytes" in problems([link("l", "a", "b", "lorawan_sf9")], header=115)[0]
    assert "leaves no room in the 20 bytes" in problems([link("l", "a", "b", "lorawan_sf9")], header=20, payload_limit=20)[0]
    own = Link(name="l", a="a", b="b", up_bps=1.0, down_bps=1.0, technology="ble42")
    assert "link 'l' has a rate of its own" in problems([own])[0]
    mixed = [link("l", "a", "b", "lorawan_sf9", "m"), link("k", "c", "b", "ble5", "m")]
    assert "medium 'm' has links that cannot share one" in problems(mixed, [Medium(name="m")])[0]
    slow = problems([link("k", "c", "b", "ble5", "m")], [Medium(name="m", efficiency_exponent=0.1)])
    assert "efficiency_exponent" in slow[0]
    assert "no link has a radio with a duty cycle" in problems([link("k", "c", "b", "ble5")], sub_bands=FREE)[0]


@pytest.mark.parametrize(
    "settings",
    [{"payload_limit": 0}, {"retries": -1}, {"ack_timeout": 0.0}, {"timeout": 0.0}, {"backoff": 0.5}, {"ack_random_factor": 0.0}],
)
def test_settings_that_cannot_be(settings):
    with pytest.raises(ValueError, match="expected"):
        Datagram(**settings)


def test_the_family():
    assert TRANSPORTS.find("datagram") is Datagram
