"""The scenario language: frozen dataclasses that a YAML file constructs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import StringConstraints

from netfl.compute import DeviceProfile
from netfl.learning.data import DATA, DataSource
from netfl.learning.models import MODELS, Model
from netfl.learning.partition import PARTITIONS, Iid, Partition
from netfl.network.battery import Battery
from netfl.network.bursts import LossBursts
from netfl.network.outages import OUTAGES, Outages
from netfl.network.topology import Routing
from netfl.network.transport import TRANSPORTS, Fluid, TransportPart
from netfl.network.variation import RateTrace
from netfl.units import Bandwidth, Duration, Power, Size
from netfl.workloads import WORKLOADS, Workload

Name = Annotated[str, StringConstraints(pattern=r"^[\w][\w -]{0,99}$")]
"""Letters, digits, `_`, `-` and spaces: what `--set` can address and a folder can be called."""
FileName = Annotated[str, StringConstraints(pattern=r"^[\w][\w .-]{0,99}$")]
"""The same and dots."""
NamePattern = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f{}]{0,99}(\{\d+\.\.\d+\}[^\x00-\x1f{}]{0,99})?$", min_length=1)]
"""A name without control characters and braces, or several by one range such as `camera-{1..10}`."""

__all__ = ["DataBlock", "DeviceBlock", "LinkBlock", "MediumBlock", "Scenario", "Stop", "Sweep", "TopologyFile"]


@dataclass(frozen=True, kw_only=True)
class DeviceBlock:
    """A device, or several: `camera-{1..10}` names ten.

    Args:
        profile: name of a device profile (`netfl list devices`), or a block of its figures.
        tier: what it is in the network; end devices train and ask.
        outages: when it is down; never when absent.
        battery: what it lives on; it never runs out when absent.
        label: what people call it, for pictures and tables.
        latitude: degrees north, for pictures.
        longitude: degrees east, for pictures.
        x_km: place on a plane, for pictures, where there is no place on the globe.
        y_km: likewise.
    """

    profile: str | DeviceProfile
    tier: Literal["device", "gateway", "edge", "cloud"] = "device"
    outages: Annotated[Outages, OUTAGES] | None = None
    battery: Battery | None = None
    label: str = ""
    latitude: Annotated[float, Ge(-90), Le(90)] | None = None
    longitude: Annotated[float, Ge(-180), Le(180)] | None = None
    x_km: float | None = None
    y_km: float | None = None


@dataclass(frozen=True, kw_only=True)
class MediumBlock:
    """Capacity that several links share: a Wi-Fi cell, a radio channel.

    Args:
        efficiency_exponent: n stations that send share n to the minus this of the air; 0 loses nothing. When absent: the largest of its links'
            technologies (Wi-Fi: 0.11), 0 where none of them has one.
        duplex: half: both directions take of the same air; full: each has its own. When absent: full if all of its links are cell technologies
            of full duplex (LTE, 5G in frequency division), else half.
    """

    efficiency_exponent: Annotated[float, Ge(0), Le(1)] | None = None
    duplex: Literal["half", "full"] | None = None


@dataclass(frozen=True, kw_only=True)
class LinkBlock:
    """A link, or several: `{1..10}` in its name and in `between` count together.

    What a technology says holds unless a setting here says otherwise.

    Args:
        between: the two devices; the one nearer the edge of the network first. "Up" is from the first to the second.
        technology: name of a link technology (`netfl list links`).
        rate: both directions.
        uplink: from the first device to the second.
        downlink: from the second to the first.
        latency: one way, either direction.
        duplex: full: a capacity for each direction; half: one for both.
        medium: name of the medium that the link is part of.
        transmit_power: of the first device's radio while it sends.
        receive_power: of the first device's radio while it receives.
        outages: when the link is down; never when absent.
        rate_trace: recorded bandwidth, in place of a rate.
        loss: probability that a packet is lost, both directions; only transports that model loss take it.
        uplink_loss: from the first device to the second.
        downlink_loss: from the second to the first.
        loss_bursts: a loss that changes over time (Gilbert-Elliott), in place of `loss`; likewise.
        queue: what can wait before the link in each direction; what its rate carries in 100 ms when absent.
        cost: what `routing: cost` adds up; a number without unit.
    """

    between: tuple[str, str]
    technology: str | None = None
    rate: Bandwidth | None = None
    uplink: Bandwidth | None = None
    downlink: Bandwidth | None = None
    latency: Duration | None = None
    duplex: Literal["full", "half"] | None = None
    medium: str | None = None
    transmit_power: Power | None = None
    receive_power: Power | None = None
    outages: Annotated[Outages, OUTAGES] | None = None
    rate_trace: RateTrace | None = None
    loss: Annotated[float, Ge(0), Lt(1)] | None = None
    uplink_loss: Annotated[float, Ge(0), Lt(1)] | None = None
    downlink_loss: Annotated[float, Ge(0), Lt(1)] | None = None
    loss_bursts: LossBursts | None = None
    queue: Size | None = None
    cost: Annotated[float, Ge(0), Le(1e9)] | None = None


@dataclass(frozen=True, kw_only=True)
class TopologyFile:
    """Devices and the links between them.

    Args:
        schema: version of the language.
        name: of the topology.
        description: for people.
        devices: by name.
        media: by name.
        links: by name.
        routing: what a route has least of: latency; hops; or the `cost` of its links. Ties go by fewest hops, then by name.
        filled: what an import or a generator filled in, merged or left out; for people.
    """

    schema: Literal[1]
    name: FileName
    devices: dict[NamePattern, DeviceBlock]
    links: dict[NamePattern, LinkBlock]
    media: dict[Name, MediumBlock] = field(default_factory=dict)
    description: str = ""
    routing: Routing = "latency"
    filled: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DataBlock:
    """What there is to learn from.

    Args:
        source: where the samples come from.
        partition: how training samples are dealt to clients.
    """

    source: Annotated[DataSource, DATA]
    partition: Annotated[Partition, PARTITIONS] = field(default_factory=Iid)


@dataclass(frozen=True, kw_only=True)
class Stop:
    """When a run ends: whichever comes first. It also ends when all training is done.

    Args:
        after: simulated time.
        accuracy: test accuracy of a global model.
    """

    after: Duration | None = None
    accuracy: Annotated[float, Gt(0), Le(1)] | None = None

    def __post_init__(self) -> None:
        if self.after is not None and self.after <= 0:
            raise ValueError("after: expected a duration greater than 0")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """The points of a study: every row of `grid` with every row of `zip` with every entry of `points` and of each of `point_lists`, each
    in every replicate.

    A setting's path is written as for `--set`; a value of nothing for a device, link or medium takes it away. Paths of files count from
    the file in which they stand.

    Args:
        grid: path of a setting to its values; all combinations.
        zip: the same, the first values together, the second values together, and so on.
        points: settings that go together, by path; an entry may have a `label` for tables.
        point_lists: more lists of such entries, by name; labels of a combination stand side by side.
        replicates: how many independent repetitions; points of one replicate share their random numbers.
        constraint: an expression that a point must fulfil, such as `workloads.training.rounds >= 5`.
        table: the figures of the table that `netfl sweep` ends with and `netfl compare` shows unless told otherwise; as for its `--metric`.
    """

    grid: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    zip: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    points: tuple[dict[str, Any], ...] = ()
    point_lists: dict[str, tuple[dict[str, Any], ...]] = field(default_factory=dict)
    replicates: Annotated[int, Ge(1), Le(100_000)] = 1
    constraint: str = ""
    table: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Everything that one run is made of.

    Args:
        schema: version of the language.
        name: of the scenario; run folders are named after it.
        topology: devices and links; in a file, the path of a topology file may stand here, or a block with `generate` or `import`.
        workloads: what happens, by name.
        description: for people.
        seed: of all random streams.
        replicate: which independent repetition of the seed.
        network: how transfers behave.
        data: what there is to learn from.
        model: the kind of model.
        stop: when the run ends.
        sweep: what `netfl sweep` varies; `netfl run` runs the scenario as it stands.
    """

    schema: Literal[1]
    name: Name
    topology: TopologyFile
    workloads: dict[Name, Annotated[Workload, WORKLOADS]]
    description: str = ""
    seed: Annotated[int, Ge(0)] = 0
    replicate: Annotated[int, Ge(0)] = 0
    network: Annotated[TransportPart, TRANSPORTS] = field(default_factory=Fluid)
    data: DataBlock | None = None
    model: Annotated[Model, MODELS] | None = None
    stop: Stop = field(default_factory=Stop)
    sweep: Sweep | None = None
