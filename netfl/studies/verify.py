"""Measured or computed finish times in a file, against what netfl predicts for the same flows.

A file is one JSON object (further keys are for people):

- `nodes`: names. `duplex`: full (the default) or half, for all links.
- `links`: `u`, `v`, `bandwidth_bps`, `latency_s` (one way); if known `loss_up` (probability of a packet from u to v), `loss_down` and `queue_bytes`.
- `flows`: `src`, `dst`, `bytes`, `start_s`; the way as `route_links` ([place in `links`, 1 from u to v or -1 from v to u] each), or as `route` (names), or
  else the one of least latency.
- `finish_s`: when each flow ended, on the clock of `start_s`. Connection set-up is part of it where `connect_s` is there.
- `name`; `cc`: cubic, reno or bbr, where TCP carried the flows; `mtu`: longest IP packet in bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from netfl.errors import NoRouteError, Problem, ScenarioError
from netfl.network.prediction import Sent, finish_times
from netfl.network.routes import Hop, Route
from netfl.network.tcp import Tcp
from netfl.network.topology import Link, Site, Topology
from netfl.network.transport import Fluid, TransportSettings
from netfl.parts import nearest
from netfl.units import counted

__all__ = ["Case", "FlowTimes", "mean_errors", "verify"]

MAX_FILE_BYTES = 50_000_000
MAX_PROBLEMS = 20
_CONTROLS = ("cubic", "reno", "bbr")


class FlowTimes(NamedTuple):
    """One flow's end, as the file has it and as netfl predicts it; both on the file's clock.

    Args:
        source: where it comes from.
        destination: where it goes.
        expected_s: as in the file.
        predicted_s: by netfl.
    """

    source: str
    destination: str
    expected_s: float
    predicted_s: float


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file and its prediction.

    Args:
        name: as the file says, or the file's name.
        file: its path, as it was given.
        transport: fluid, or tcp with its congestion control.
        lossy: whether a link of the file loses packets.
        flows: in the file's order.
        notes: what the prediction leaves out.
    """

    name: str
    file: str
    transport: str
    lossy: bool
    flows: tuple[FlowTimes, ...]
    notes: tuple[str, ...] = ()

    @property
    def per_flow_mean_error(self) -> float:
        """Mean over the flows of |predicted - expected| / expected."""
        return math.fsum(_error(flow.expected_s, flow.predicted_s) for flow in self.flows) / len(self.flows)

    @property
    def last_flow_error(self) -> float:
        """The same of the time at which the last flow ended: a federated round's time."""
        return _error(max(flow.expected_s for flow in self.flows), max(flow.predicted_s for flow in self.flows))

    @property
    def largest_difference_s(self) -> float:
        """The largest |predicted - expected| of a flow."""
        return max(abs(flow.predicted_s - flow.expected_s) for flow in self.flows)


def mean_errors(cases: Sequence[Case]) -> tuple[float, float]:
    """The means over cases of the per-flow mean error and of the last flow's error."""
    return (
        math.fsum(case.per_flow_mean_error for case in cases) / len(cases),
        math.fsum(case.last_flow_error for case in cases) / len(cases),
    )


def verify(files: Iterable[str | Path], transport: Literal["fluid", "tcp"] | None = None) -> list[Case]:
    """Predict what the files hold.

    Args:
        files: in the format above.
        transport: by which to predict; None: tcp for a file that names a congestion control, else fluid.

    Raises:
        ScenarioError: everything that is wrong with the files, at once.
    """
    measured: list[_Measured] = []
    problems: list[Problem] = []
    for file in files:
        try:
            measured.append(_read(Path(file)))
        except ScenarioError as error:
            problems += error.problems
    if problems:
        raise ScenarioError(*problems)
    return [_predict(one, transport) for one in measured]


def _error(expected_s: float, predicted_s: float) -> float:
    return abs(predicted_s - expected_s) / expected_s


# --- prediction -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """A file that has passed every check."""

    name: str
    file: str
    topology: Topology
    sent: tuple[Sent, ...]
    finish_s: tuple[float, ...]
    control: Literal["cubic", "reno", "bbr"] | None
    mtu_bytes: int
    connects: bool


def _predict(measured: _Measured, transport: str | None) -> Case:
    topology, sent, notes = measured.topology, measured.sent, []
    settings: TransportSettings
    kind = transport or ("fluid" if measured.control is None else "tcp")
    lossy = any(link.loss_up or link.loss_down for link in topology.links.values())
    if kind == "fluid":
        settings = Fluid()
        if lossy:
            notes.append("loss of packets left out: fluid knows none")
    else:
        if measured.control is None:
            notes.append("no congestion control named: cubic")
        settings = Tcp(
            congestion_control=measured.control or "cubic",
            connection="new" if measured.connects else "kept",
            mtu_bytes=measured.mtu_bytes,
        )
        kind = f"tcp {settings.congestion_control}"
    flows = tuple(
        FlowTimes(one.route.source, one.route.destination, expected_s, predicted_s)
        for one, expected_s, predicted_s in zip(sent, measured.finish_s, finish_times(topology, sent, settings), strict=True)
    )
    return Case(name=measured.name, file=measured.file, transport=kind, lossy=lossy, flows=flows, notes=tuple(notes))


# --- reading ----------------------------------------------------------------------------------------------------------------


class _DuplicateKeyError(ValueError):
    """An object names a key twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateKeyError(f"the key '{next(name for name in names if names.count(name) > 1)}' stands twice in one object")
    return found


def _load(path: Path) -> dict[str, Any]:
    """The JSON object of a file."""

    def refuse(message: str, line: int = 0, column: int = 0) -> ScenarioError:
        return ScenarioError(Problem(message, file=str(path), line=line, column=column))

    if not path.is_file():
        raise refuse("no such file" if not path.exists() else "expected a file, got a folder")
    length = path.stat().st_size
    if length > MAX_FILE_BYTES:
        raise refuse(f"expected at most {MAX_FILE_BYTES:,} bytes, got {length:,}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise refuse(f"not JSON: {error.msg}", error.lineno, error.colno) from None
    except _DuplicateKeyError as error:
        raise refuse(str(error)) from None
    except UnicodeDecodeError:
        raise refuse("expected text in UTF-8") from None
    except RecursionError:
        raise refuse("nested too deeply") from None
    except ValueError as error:
        raise refuse(f"not JSON that can be read: {error}") from None
    except OSError as error:
        raise refuse(f"cannot be read: {error.strerror}") from None
    if not isinstance(document, dict):
        raise refuse("expected one JSON object")
    return document


class _Reader:
    """Takes values out of a document and notes what is wrong with them.

    Args:
        file: for the problems' places.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def note(self, place: str, message: str, hint: str = "") -> None:
        """Something is wrong there."""
        self.problems.append(Problem(message, path=place, file=self.file, hint=hint))

    def number(self, block: Mapping[str, Any], key: str, place: str, what: str, *, default: float | None = None, **bounds: float) -> float:
        """A finite number; not a truth value. Bounds: `above`, `least`, `below`."""
        where = f"{place}.{key}" if place else key
        if key not in block and default is not None:
            return default
        value = block.get(key)
        if key not in block:
            self.note(where, f"missing: expected {what}", nearest(key, list(block)))
        elif not self.is_number(value, **bounds):
            self.note(where, f"expected {what}, got {_shown(value)}")
        else:
            assert isinstance(value, int | float)
            return float(value)
        return math.nan

    @staticmethod
    def is_number(value: object, *, above: float = -math.inf, least: float = -math.inf, below: float = math.inf) -> bool:
        """Whether it is a finite number within bounds."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        # A whole number may be too long for a float.
        return above < value < below and value >= least and abs(value) < 1e300

    def blocks(self, document: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
        """A list of objects that is not empty; what is no object is noted and left out, so check `problems` before its places are used."""
        value = document.get(key)
        if not isinstance(value, list) or not value:
            self.note(
                key, f"expected a list of at least one object, got {_shown(value)}", "" if key in document else nearest(key, list(document))
            )
            return []
        for place, each in enumerate(value):
            if not isinstance(each, dict):
                self.note(f"{key}[{place}]", f"expected an object, got {_shown(each)}")
        return [each for each in value if isinstance(each, dict)]


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    try:
        text = json.dumps(value)
    except ValueError:
        text = "a very long number"
    return text if len(text) <= 60 else text[:57] + "..."


def _read(path: Path) -> _Measured:
    document = _load(path)
    reader = _Reader(str(path))
    name = document.get("name", path.stem)
    if not isinstance(name, str):
        reader.note("name", f"expected a text, got {_shown(name)}")
    control = document.get("cc")
    if control is not None and control not in _CONTROLS:
        reader.note("cc", f"expected {', '.join(_CONTROLS)}, got {_shown(control)}", nearest(str(control), list(_CONTROLS)))
    mtu = reader.number(document, "mtu", "", "whole bytes above 52, the headers", default=1500.0, least=53, below=1e9)
    if not math.isnan(mtu) and mtu != int(mtu):
        reader.note("mtu", f"expected whole bytes, got {_shown(mtu)}")
    topology = _topology(document, reader)
    sent = _flows(document, topology, reader) if topology is not None else []
    finish_s = _finishes(document, sent, reader)
    if reader.problems:
        more = len(reader.problems) - MAX_PROBLEMS
        if more > 0:
            reader.problems[MAX_PROBLEMS:] = [Problem(f"and {counted(more, 'more problem')}", file=str(path))]
        raise ScenarioError(*reader.problems)
    assert topology is not None
    return _Measured(
        name=name, file=str(path), topology=topology, sent=tuple(sent), finish_s=tuple(finish_s), control=control, mtu_bytes=int(mtu),
        connects=document.get("connect_s") is not None,
    )  # fmt: skip


def _topology(document: Mapping[str, Any], reader: _Reader) -> Topology | None:
    nodes = document.get("nodes")
    if not isinstance(nodes, list) or not nodes or not all(isinstance(node, str) for node in nodes):
        reader.note(
            "nodes", f"expected a list of names, got {_shown(nodes)}", "" if "nodes" in document else nearest("nodes", list(document))
        )
        return None
    duplex = document.get("duplex", "full")
    if duplex not in ("full", "half"):
        reader.note("duplex", f"expected full or half, got {_shown(duplex)}")
    links: list[Link] = []
    before = len(reader.problems)
    for place, block in enumerate(reader.blocks(document, "links")):
        where = f"links[{place}]"
        for end in ("u", "v"):
            if block.get(end) not in nodes:
                reader.note(
                    f"{where}.{end}", f"expected one of the nodes, got {_shown(block.get(end))}", nearest(str(block.get(end)), nodes)
                )
        rate_bps = reader.number(block, "bandwidth_bps", where, "bits a second above 0", above=0)
        queue_bytes = reader.number(block, "queue_bytes", where, "bytes of at least 0", default=-1.0, least=0)
        links.append(
            Link(
                name=where, a=str(block.get("u")), b=str(block.get("v")), up_bps=rate_bps, down_bps=rate_bps,
                latency_s=reader.number(block, "latency_s", where, "seconds of at least 0", least=0),
                duplex="half" if duplex == "half" else "full",
                loss_up=reader.number(block, "loss_up", where, "a probability below 1", default=0.0, least=0, below=1),
                loss_down=reader.number(block, "loss_down", where, "a probability below 1", default=0.0, least=0, below=1),
                queue_bytes=queue_bytes if queue_bytes >= 0 else None,
            )
        )  # fmt: skip
    if len(reader.problems) > before:
        return None
    try:
        return Topology([Site(name=node) for node in nodes], links)
    except ValueError as error:
        for message in str(error).splitlines():
            reader.note("links", message)
        return None


def _flows(document: Mapping[str, Any], topology: Topology, reader: _Reader) -> list[Sent]:
    sent = []
    nodes = list(topology.sites)
    for place, block in enumerate(reader.blocks(document, "flows")):
        where = f"flows[{place}]"
        ends = [block.get("src"), block.get("dst")]
        known = True
        for key, end in zip(("src", "dst"), ends, strict=True):
            if not isinstance(end, str) or end not in topology.sites:
                known = False
                reader.note(f"{where}.{key}", f"expected one of the nodes, got {_shown(end)}", nearest(str(end), nodes))
        if known and ends[0] == ends[1]:
            known = False
            reader.note(where, f"expected two nodes, got '{ends[0]}' twice")
        num_bytes = reader.number(block, "bytes", where, "whole bytes of at least 0", least=0, below=1e18)
        if num_bytes % 1:
            reader.note(f"{where}.bytes", f"expected whole bytes, got {_shown(num_bytes)}")
        start_s = reader.number(block, "start_s", where, "seconds of at least 0", least=0)
        route = _route(block, where, str(ends[0]), str(ends[1]), topology, reader) if known else None
        if route is not None and not math.isnan(num_bytes):
            sent.append(Sent(route, int(num_bytes), start_s))
    return sent


def _route(block: Mapping[str, Any], where: str, source: str, destination: str, topology: Topology, reader: _Reader) -> Route | None:
    """The way that the file states; its `route` and its `route_links` have to agree."""
    links = list(topology.links.values())
    hops: list[Hop] = []
    if "route_links" in block:
        steps = block["route_links"]
        if not isinstance(steps, list) or not steps:
            reader.note(f"{where}.route_links", f"expected a list of [place in links, 1 or -1], got {_shown(steps)}")
            return None
        for number, step in enumerate(steps):
            if not (isinstance(step, list) and len(step) == 2 and _is_place(step[0], len(links)) and step[1] in (1, -1)):
                reader.note(f"{where}.route_links[{number}]", f"expected [place in links, 1 or -1], got {_shown(step)}")
                return None
            hops.append(Hop(links[step[0]], step[1] == 1))
    elif "route" in block:
        names = block["route"]
        if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
            reader.note(f"{where}.route", f"expected a list of names, got {_shown(names)}")
            return None
        ways = {(hop.source, hop.destination): hop for link in links for hop in (Hop(link, True), Hop(link, False))}
        for pair in zip(names, names[1:], strict=False):
            if pair not in ways:
                reader.note(f"{where}.route", f"no link joins '{pair[0]}' and '{pair[1]}'")
                return None
            hops.append(ways[pair])
    else:
        try:
            return topology.route(source, destination)
        except NoRouteError as error:
            reader.note(where, str(error))
            return None
    joints = zip([source, *(hop.destination for hop in hops)], [*(hop.source for hop in hops), destination], strict=True)
    if any(one != other for one, other in joints):
        reader.note(where, f"its way does not lead from '{source}' to '{destination}' without a gap")
        return None
    route = Route(tuple(hops), source, destination)
    if "route_links" in block and "route" in block and block["route"] != list(route.devices):
        reader.note(f"{where}.route", f"route_links lead over {_shown(list(route.devices))}, got {_shown(block['route'])}")
        return None
    return route


def _is_place(value: object, count: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < count


def _finishes(document: Mapping[str, Any], sent: Sequence[Sent], reader: _Reader) -> list[float]:
    value = document.get("finish_s")
    flows = document.get("flows")
    count = len(flows) if isinstance(flows, list) else 0
    if not isinstance(value, list) or len(value) != count:
        given = f"a list of {len(value)}" if isinstance(value, list) else _shown(value)
        reader.note("finish_s", f"expected a list of {count} times, one a flow, got {given}")
        return []
    for place, each in enumerate(value):
        start_s = flows[place].get("start_s") if flows and isinstance(flows[place], dict) else None
        least = float(start_s) if reader.is_number(start_s, least=0) and isinstance(start_s, int | float) else 0.0
        if not reader.is_number(each, above=least):
            reader.note(f"finish_s[{place}]", f"expected seconds after the flow's start_s, got {_shown(each)}")
    return [float(each) for each in value if reader.is_number(each)]
