"""What a radio or a wire gives a link: documented presets.

Marks in `source`: [V] read in the source named, [D] computed from such figures, [M] from memory of the publication named, [C] a
choice, not a measurement. Rates are goodput, as an application sees it. Powers are volts times amperes of the radio, or the
slope of a phone's power over its rate. Loss is not part of these presets: the fluid transport has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from netfl.network.lora import LoraRadio, SubBand

__all__ = ["TECHNOLOGIES", "FrameRadio", "LinkTechnology", "Radio"]


class Radio(Protocol):
    """What a radio makes of a message: frames of so many bytes that take so long. `transport: datagram` sends over links that have one."""

    @property
    def payload_bytes(self) -> int:
        """Most bytes of a message that one frame carries."""
        ...

    @property
    def header_bytes(self) -> int:
        """Bytes on the air besides those of the message, in every frame."""
        ...

    @property
    def sub_bands(self) -> tuple[SubBand, ...]:
        """Where it sends, and for how much of the time."""
        ...

    @property
    def access(self) -> Literal["aloha", "queue"]:
        """aloha: it sends at once, and frames that overlap are lost; queue: frames of one medium wait for one another."""
        ...

    @property
    def colour(self) -> str:
        """Frames collide only with frames of the same colour."""
        ...

    @property
    def ack_delay_s(self) -> float:
        """From the end of a frame to the beginning of its acknowledgement."""
        ...

    @property
    def latency_in_frame(self) -> bool:
        """Whether a link's latency is nothing but the time that a frame takes, so that it is not to be paid beside it."""
        ...

    def air_s(self, payload_bytes: int) -> float:
        """How long the frame that carries so much of a message keeps the medium busy."""
        ...


@dataclass(frozen=True, kw_only=True)
class FrameRadio:
    """A radio whose frames take a time per byte and a time per frame; what the medium access costs on average is in the latter.

    Args:
        payload_bytes: most that a frame carries of a message.
        header_bytes: the rest of a frame.
        byte_s: time of a byte.
        gap_s: time of a frame besides its bytes: preamble, turnaround, back-off, link-layer acknowledgement.
        latency_in_frame: whether the link's latency is nothing but the time of a frame.
        sub_bands: where it sends, without limit.
    """

    payload_bytes: int
    header_bytes: int
    byte_s: float
    gap_s: float = 0.0
    latency_in_frame: bool = False
    sub_bands: tuple[SubBand, ...] = (SubBand(),)

    access: ClassVar[Literal["aloha", "queue"]] = "queue"
    colour: ClassVar[str] = ""
    ack_delay_s: ClassVar[float] = 0.0

    def air_s(self, payload_bytes: int) -> float:
        """How long the frame that carries so much of a message keeps the medium busy."""
        return (self.header_bytes + payload_bytes) * self.byte_s + self.gap_s

    @property
    def full_frames_bps(self) -> float:
        """Goodput of full frames, one after the other.

        >>> round(_BLE_1M.full_frames_bps / 1000), round(_IEEE802154.full_frames_bps / 1000)
        (791, 112)
        """
        return 8 * self.payload_bytes / self.air_s(self.payload_bytes)


@dataclass(frozen=True, kw_only=True)
class LinkTechnology:
    """The figures of one technology.

    Args:
        name: as a scenario writes it.
        up_bps: goodput towards the core; on a half-duplex technology, if nothing goes the other way.
        down_bps: goodput towards the edge, likewise.
        latency_s: one way, unloaded.
        duplex: full or half.
        medium: own: nobody else uses it; cell: a base station shares it out; csma: stations contend for it; aloha: they send at will.
        efficiency_exponent: of that medium.
        transmit_w: power of the device's radio while it sends; 0 where it is not modelled.
        receive_w: power of the device's radio while it receives; 0 where it is not modelled.
        duty_cycle: share of the time for which it may send; the rates have it in them, and the radio draws power for this share only.
        radio: how it cuts messages into frames; None if `transport: datagram` treats it as a wire.
        source: where the figures come from.
    """

    name: str
    up_bps: float
    down_bps: float
    latency_s: float
    duplex: Literal["full", "half"] = "full"
    medium: Literal["own", "cell", "csma", "aloha"] = "own"
    efficiency_exponent: float = 0.0
    transmit_w: float = 0.0
    receive_w: float = 0.0
    duty_cycle: float = 1.0
    radio: Radio | None = None
    source: str


_WIFI_SHARE = "exponent 0.11 [C]: it follows Bianchi (JSAC 2000) saturation for 1 to 100 stations; latency 2 ms [C]"
_WIFI_POWER = "power [V]: ns-3 wifi-radio-energy-model (nsnam/ns-3-dev-git@2a90d4dd), 380 mA sending and 313 mA receiving at 3 V"
_PHONE_2021 = "SIGCOMM21-5G/artifact@35aaf285"
_NRF52840 = "docs.nordicsemi.com, nRF52840 at 3 V with DC/DC"
_BLE_POWER = f"power [V]: 6.40 mA at 0 dBm, 6.26 receiving ({_NRF52840})"
_BLE_FRAME = "[D] 244 B of application in a data frame, 150 us, an empty frame, 150 us"
_HUANG = "Huang et al., MobiSys 2012"

# Bluetooth Core 5, volume 6 part B: preamble, address 4, header 2, L2CAP and ATT 7, checksum 3; then 150 us, an empty frame and 150 us. On the
# coded PHY preamble, address and terminators last a fixed time (376 us and 3 bits of 2 or 8 us each).
_BLE_1M = FrameRadio(payload_bytes=244, header_bytes=17, byte_s=8e-6, gap_s=(150 + 80 + 150) * 1e-6)
_BLE_1M_SHORT = FrameRadio(payload_bytes=20, header_bytes=17, byte_s=8e-6, gap_s=(150 + 80 + 150) * 1e-6)
_BLE_2M = FrameRadio(payload_bytes=244, header_bytes=18, byte_s=4e-6, gap_s=(150 + 44 + 150) * 1e-6)
_BLE_S2 = FrameRadio(payload_bytes=244, header_bytes=12, byte_s=16e-6, gap_s=(382 + 150 + 462 + 150) * 1e-6)
_BLE_S8 = FrameRadio(payload_bytes=244, header_bytes=12, byte_s=64e-6, gap_s=(400 + 150 + 720 + 150) * 1e-6)
# IEEE 802.15.4 at 2.4 GHz: 133 B at 32 us, mean back-off 1.12 ms, channel check and turnaround 0.32, acknowledgement 0.54, spacing 0.64.
_IEEE802154 = FrameRadio(payload_bytes=96, header_bytes=37, byte_s=32e-6, gap_s=2.62e-3, latency_in_frame=True)
# CoAP's upper bound of 1024 B of payload (RFC 7252, section 4.6) over IPv6 40, UDP 8 and CoAP 4, at the technology's goodput [C].
_COAP_200K = FrameRadio(payload_bytes=1024, header_bytes=52, byte_s=8 / 200e3)
_COAP_20K = FrameRadio(payload_bytes=1024, header_bytes=52, byte_s=8 / 20e3)
_COAP_45K = FrameRadio(payload_bytes=1024, header_bytes=52, byte_s=8 / 45e3)


def _lorawan(spreading_factor: int) -> LinkTechnology:
    radio = LoraRadio(spreading_factor=spreading_factor)
    return LinkTechnology(
        name=f"lorawan_sf{spreading_factor}",
        up_bps=radio.duty_cycled_bps(),
        down_bps=radio.duty_cycled_bps(),
        latency_s=radio.air_s(radio.payload_bytes),
        duplex="half",
        medium="aloha",
        transmit_w=0.137,
        receive_w=0.0419,
        duty_cycle=radio.sub_bands[0].duty_cycle,
        radio=radio,
        source=f"EU868, SF{spreading_factor}, 125 kHz, 4/5: [D] frames of {radio.payload_bytes} B sent for 1 % of the time, latency the time on air of "
        "one (Semtech AN1200.13; limits Lora-net/LoRaMac-node@dcbcfb32; 1 % ETSI EN 300 220-2, 868.0-868.6 MHz): a mean for long transfers; "
        "single messages, collisions and losses need `transport: datagram`; power [V]: 41.5 mA at +15 dBm, 12.7 receiving, 3.3 V "
        "(onlinedocs.microchip.com 7.4.1)",
    )


TECHNOLOGIES: dict[str, LinkTechnology] = {
    technology.name: technology
    for technology in (
        LinkTechnology(
            name="eth_100m",
            up_bps=94.1e6,
            down_bps=94.1e6,
            latency_s=0.2e-3,
            source="[D] 1448 payload bytes of 1538 on the wire; latency [C]",
        ),
        LinkTechnology(
            name="eth_1g",
            up_bps=941e6,
            down_bps=941e6,
            latency_s=0.1e-3,
            source="[D] 1448 of 1538, [V] iperf3 941 on a Raspberry Pi 4 and 5 (mpr-projects.com, 2023); latency [C]",
        ),
        LinkTechnology(
            name="eth_10g", up_bps=9.41e9, down_bps=9.41e9, latency_s=0.1e-3, source="[D] 1448 payload bytes of 1538; latency [C]"
        ),
        LinkTechnology(
            name="wifi4_20",
            up_bps=45e6,
            down_bps=45e6,
            latency_s=2e-3,
            duplex="half",
            medium="csma",
            efficiency_exponent=0.11,
            transmit_w=1.14,
            receive_w=0.939,
            source=f"802.11n, one stream, 20 MHz: 72.2 Mbit/s PHY, [V] 65-70 % for one client (meter.dev); {_WIFI_SHARE}; {_WIFI_POWER}",
        ),
        LinkTechnology(
            name="wifi5_80",
            up_bps=280e6,
            down_bps=280e6,
            latency_s=2e-3,
            duplex="half",
            medium="csma",
            efficiency_exponent=0.11,
            transmit_w=1.14,
            receive_w=0.939,
            source=f"802.11ac, one stream, 80 MHz: 433 Mbit/s PHY, [V] 280 at a PHY of 400 (meter.dev); {_WIFI_SHARE}; {_WIFI_POWER}",
        ),
        LinkTechnology(
            name="wifi6_80",
            up_bps=780e6,
            down_bps=780e6,
            latency_s=2e-3,
            duplex="half",
            medium="csma",
            efficiency_exponent=0.11,
            transmit_w=1.14,
            receive_w=0.939,
            source=f"802.11ax, two streams, 80 MHz: [D] 0.65 x 1201 Mbit/s PHY [V] (jeffgeerling.com, 2021); {_WIFI_SHARE}; {_WIFI_POWER}",
        ),
        LinkTechnology(
            name="esp32_wifi",
            up_bps=20e6,
            down_bps=20e6,
            latency_s=5e-3,
            duplex="half",
            medium="csma",
            efficiency_exponent=0.11,
            transmit_w=0.594,
            receive_w=0.33,
            source="[V] 20 Mbit/s TCP in lab air (ESP-IDF documentation, quoted at esp32.com); latency 5 ms of 2-10 [C]; exponent 0.11 [C]; "
            "power [V]: 802.11n 180 mA sending, 100 mA receiving at 3.3 V (deneyapkart.org, a copy of the datasheet)",
        ),
        LinkTechnology(
            name="siwg917_wifi",
            up_bps=56e6,
            down_bps=48e6,
            latency_s=5e-3,
            duplex="half",
            medium="csma",
            efficiency_exponent=0.11,
            source="a Wi-Fi 6 microcontroller on 20 MHz: [V] TCP in a shield room (docs.silabs.com, SiWG917 throughput); latency 5 ms of "
            "2-10 [C]; exponent 0.11 [C]",
        ),
        LinkTechnology(
            name="ieee80211p",
            up_bps=2.5e6,
            down_bps=2.5e6,
            latency_s=5e-3,
            duplex="half",
            medium="csma",
            source="vehicles and roadside units at 6 Mbit/s on 10 MHz: [V] 2-3 Mbit/s shared, 2-20 ms, 300-1000 m (ASTM E2213-03, as tabled "
            "in Vehicular Technologies); 2.5 and 5 ms taken [C]",
        ),
        LinkTechnology(
            name="umts",
            up_bps=1e6,
            down_bps=1e6,
            latency_s=50e-3,
            medium="cell",
            transmit_w=0.869,
            receive_w=0.122,
            source="[C] 1 Mbit/s; driving traces of 2012-13 have means of 0.5 to 0.9 [D] (Mahimahi: EVDO, UMTS); latency [C]; power [V]: "
            f"{_HUANG}, 869 mW a Mbit/s up, 122 down, at these rates",
        ),
        LinkTechnology(
            name="lte_2012",
            up_bps=6e6,
            down_bps=13e6,
            latency_s=35e-3,
            medium="cell",
            transmit_w=2.63,
            receive_w=0.676,
            source=f"[V] medians of {_HUANG}; latency [M] RTT 70 ms; power [V]: 438 mW a Mbit/s up, 52 down, at these rates",
        ),
        LinkTechnology(
            name="lte",
            up_bps=34e6,
            down_bps=167e6,
            latency_s=10e-3,
            medium="cell",
            transmit_w=2.61,
            receive_w=1.92,
            source=f"a phone of 2021: [D] medians of 144 tests, RTT 21 ms to a server within 50 km ({_PHONE_2021}); power above the phone's base "
            "[D]: 76.7 mW a Mbit/s up, 11.5 down, at these rates",
        ),
        LinkTechnology(
            name="lte_cat4",
            up_bps=10e6,
            down_bps=30e6,
            latency_s=25e-3,
            medium="cell",
            transmit_w=0.767,
            receive_w=0.345,
            source=f"[C] of 6-15 up, 20-40 down, 20-35 ms; power [D]: slopes of the phone of 2021 ({_PHONE_2021}) at these rates",
        ),
        LinkTechnology(
            name="5g_nsa_low",
            up_bps=87e6,
            down_bps=192e6,
            latency_s=9.5e-3,
            medium="cell",
            transmit_w=2.80,
            receive_w=2.21,
            source=f"T-Mobile low band, 2021: [D] medians, several connections, RTT 19 ms ({_PHONE_2021}); power above the phone's base [D]: "
            "32.2 mW a Mbit/s up, 11.5 down, at these rates",
        ),
        LinkTechnology(
            name="5g_nsa_low_verizon",
            up_bps=72e6,
            down_bps=94e6,
            latency_s=6e-3,
            medium="cell",
            transmit_w=2.32,
            receive_w=1.08,
            source=f"Verizon low band, 2021: [D] medians, RTT 12-13 ms ({_PHONE_2021}); power above the phone's base [D]: 32.2 mW a Mbit/s "
            "up, 11.5 down, at these rates",
        ),
        LinkTechnology(
            name="5g_sa_low",
            up_bps=40e6,
            down_bps=57e6,
            latency_s=22e-3,
            medium="cell",
            transmit_w=1.29,
            receive_w=0.656,
            source=f"T-Mobile low band stand-alone, 2021: [D] medians of 49-66 down and 39-42 up, RTT 43 ms ({_PHONE_2021}); power above the "
            "phone's base [D]: 32.2 mW a Mbit/s up, 11.5 down, at these rates",
        ),
        LinkTechnology(
            name="5g_mmwave",
            up_bps=169e6,
            down_bps=2.76e9,
            latency_s=3.75e-3,
            duplex="half",
            medium="cell",
            transmit_w=1.50,
            receive_w=4.77,
            source=f"Verizon mmWave, 2021: [D] medians, several connections (a single TCP: 133 up, 794 down), RTT 7-8 ms ({_PHONE_2021}); "
            "power above the phone's base [D]: 8.88 mW a Mbit/s up, 1.73 down, at these rates; [M] time division (TDD): both directions share "
            "the airtime",
        ),
        LinkTechnology(
            name="lte_m",
            up_bps=200e3,
            down_bps=200e3,
            latency_s=50e-3,
            duplex="half",
            medium="cell",
            transmit_w=0.398,
            receive_w=0.1665,
            radio=_COAP_200K,
            source="[C] of 100-300 kbit/s and 25-75 ms; peaks [V] blog.mbedded.ninja; power: [V] 100-115 mA at 23 dBm and 3.7 V, nRF9160 modem table "
            "(infocenter.nordicsemi.com), 107.5 taken; receiving 45 mA [C]",
        ),
        LinkTechnology(
            name="nb_iot",
            up_bps=20e3,
            down_bps=20e3,
            latency_s=1.6,
            duplex="half",
            medium="cell",
            transmit_w=0.792,
            receive_w=0.1656,
            radio=_COAP_20K,
            source="[C] of 10-20 kbit/s and 0.8-5 s; peaks 62 and 26 kbit/s [V] blog.mbedded.ninja; power [V]: SARA-N2 220 mA at 23 dBm, 46 mA "
            "receiving, 3.6 V (exelonix wiki, citing the datasheet)",
        ),
        LinkTechnology(
            name="nb_iot2",
            up_bps=45e3,
            down_bps=45e3,
            latency_s=1.6,
            duplex="half",
            medium="cell",
            transmit_w=0.792,
            receive_w=0.1656,
            radio=_COAP_45K,
            source="release 14 (NB2): [C] of 30-60 kbit/s; peaks 159 and 127 kbit/s, latency class 1.6-10 s [V] blog.mbedded.ninja; power "
            "[V]: SARA-N2 220 mA at 23 dBm, 46 mA receiving, 3.6 V (exelonix wiki, citing the datasheet)",
        ),
        *(_lorawan(spreading_factor) for spreading_factor in range(7, 13)),
        LinkTechnology(
            name="ble4",
            up_bps=237e3,
            down_bps=237e3,
            latency_s=15e-3,
            duplex="half",
            medium="cell",
            transmit_w=0.0192,
            receive_w=0.01878,
            radio=_BLE_1M_SHORT,
            source=f"1M PHY without data length extension: [D] 20 B of application in a frame of 27; latency of 7.5-30 ms [C]; {_BLE_POWER}",
        ),
        LinkTechnology(
            name="ble42",
            up_bps=700e3,
            down_bps=700e3,
            latency_s=15e-3,
            duplex="half",
            medium="cell",
            transmit_w=0.0192,
            receive_w=0.01878,
            radio=_BLE_1M,
            source=f"1M PHY with data length extension: [V] about 0.7 Mbit/s on ESP32 (esp32.com), 0.79 at most [D]; latency of 7.5-30 ms [C]; "
            f"power [V]: 6.40 mA at 0 dBm, 6.26 receiving ({_NRF52840})",
        ),
        LinkTechnology(
            name="ble5",
            up_bps=1.33e6,
            down_bps=1.33e6,
            latency_s=15e-3,
            duplex="half",
            medium="cell",
            transmit_w=0.0192,
            receive_w=0.01878,
            radio=_BLE_2M,
            source=f"2M PHY: [V] 1.33 Mbit/s at an interval of 50 ms (Nordic figures, quoted on blog.csdn.net/chengbaojin), 1.40 at most [D]; "
            f"latency of 7.5-30 ms [C]; power [V]: 6.40 mA at 0 dBm, 6.26 receiving ({_NRF52840})",
        ),
        LinkTechnology(
            name="ble5_coded_s2",
            up_bps=373e3,
            down_bps=373e3,
            latency_s=15e-3,
            duplex="half",
            medium="cell",
            transmit_w=0.0192,
            receive_w=0.01878,
            radio=_BLE_S2,
            source=f"coded PHY at 500 kbit/s: {_BLE_FRAME}; latency of 7.5-30 ms [C]; {_BLE_POWER}",
        ),
        LinkTechnology(
            name="ble5_coded_s8",
            up_bps=110e3,
            down_bps=110e3,
            latency_s=15e-3,
            duplex="half",
            medium="cell",
            transmit_w=0.0192,
            receive_w=0.01878,
            radio=_BLE_S8,
            source=f"coded PHY at 125 kbit/s, the long-range mode: {_BLE_FRAME}; latency of 7.5-30 ms [C]; {_BLE_POWER}",
        ),
        LinkTechnology(
            name="ieee802154",
            up_bps=110e3,
            down_bps=110e3,
            latency_s=7e-3,
            duplex="half",
            medium="csma",
            transmit_w=0.0192,
            receive_w=0.01959,
            radio=_IEEE802154,
            source=f"2.4 GHz, UDP over 6LoWPAN, one hop: [D] 96 B in 6.88 ms is 112 kbit/s; power [V]: 6.40 mA at 0 dBm, 6.53 receiving ({_NRF52840})",
        ),
        LinkTechnology(
            name="satellite_leo",
            up_bps=17e6,
            down_bps=178e6,
            latency_s=25e-3,
            medium="cell",
            source="Starlink: rates [M] Michel et al., IMC 2022; latency [V] RTT 50 ms at the median (APNIC blog, 2022-11-28)",
        ),
        LinkTechnology(
            name="satellite_geo",
            up_bps=4.5e6,
            down_bps=82e6,
            latency_s=0.3,
            medium="cell",
            source="a plan of 100 / 10 Mbit/s: rates [M], latency [V] RTT of at least 600 ms, Michel et al., IMC 2022",
        ),
        LinkTechnology(name="wan", up_bps=1e9, down_bps=1e9, latency_s=15e-3, source="[C] a metro and Internet path of 1 Gbit/s and 15 ms"),
    )
}
"""Name to figures."""
