"""Networks from other people's files: GraphML, node-link JSON, CAIDA's as-rel lines.

The files are not trusted. XML is read with expat's bare events, and a document type declaration ends the reading, so there is no
entity to expand and no other file to fetch. Numbers must be finite, names unique, ends known; files and counts have limits. Every
problem has its place: the line, and in JSON the path too (`edges[3].source`).

Sources: the GraphML primer (graphml.graphdrawing.org); networkx's node-link format, whose key for links is `edges` since 3.4 and
was `links` before; CAIDA's AS relationships, serial-1 and serial-2 (`<provider>|<customer>|-1`, `<peer>|<peer>|0`).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

from netfl.errors import Problem, ScenarioError
from netfl.network.draft import Draft, DraftLink, DraftSite, named
from netfl.network.json_places import place_of, place_of_constant, place_of_depth
from netfl.parts import nearest
from netfl.units import counted, parse

__all__ = ["FORMATS", "Attributes", "is_foreign", "read_as_rel", "read_graphml", "read_network", "read_node_link"]

MAX_FILE_BYTES = 32_000_000
MAX_SITES = 100_000
MAX_LINKS = 500_000
MAX_DEPTH = 50
MAX_NAME = 80
MAX_LABEL = 200
_MOST_PROBLEMS = 20
_MOST_SHOWN = 200

_LOOKS_LIKE_A_FIGURE = re.compile(r"rate|speed|bandwidth|capacity|delay|latency|weight|distance|length|cost", re.IGNORECASE)
# Known to repeat in words what LinkSpeedRaw says in bit/s.
_REPEATS = {"LinkSpeed", "LinkSpeedUnits"}


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """Which attribute of a link holds which figure, beside the ones whose unit their name or text states.

    Those are `LinkSpeedRaw` and `rate_bps`, `up_bps`, `down_bps` (bit/s), `latency_s` (s), `rate` and `latency` as texts with their
    unit, and `cost`.

    Args:
        rate: name of the attribute with the rate; None for none.
        bps_per_rate: what 1 in it means, bit/s.
        latency: name of the attribute with the one-way latency; None for none.
        s_per_latency: what 1 in it means, s.
        cost: name of the attribute with the cost.
    """

    rate: str | None = None
    bps_per_rate: float = 1.0
    latency: str | None = None
    s_per_latency: float = 1.0
    cost: str = "cost"


@dataclass(frozen=True)
class _Place:
    """Where in a file something stands: a line, or the steps to a value in JSON."""

    line: int = 0
    column: int = 0
    steps: tuple[str | int, ...] = ()

    @property
    def path(self) -> str:
        """The steps for people, such as `edges[3].source`."""
        return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.steps).removeprefix(".")

    def below(self, key: str) -> _Place:
        """The place of a value in the object here."""
        return _Place(steps=(*self.steps, key))


class _Problems:
    """What is wrong with one file, collected so that all is told at once."""

    def __init__(self, file: str, text: str | None = None) -> None:
        self.file = file
        self._text = text or ""
        self.lines = re.split(r"\r\n|\r|\n", self._text)
        self._found: list[Problem] = []
        self._more = 0

    def add(self, place: _Place, message: str, hint: str = "") -> None:
        if len(self._found) < _MOST_PROBLEMS:
            line, column = place_of(self._text, place.steps) if place.steps else (place.line, place.column)
            source = self.lines[line - 1][:_MOST_SHOWN] if 0 < line <= len(self.lines) and column <= _MOST_SHOWN else ""
            self._found.append(Problem(message, place.path, self.file, line, column, hint, source))
        else:
            self._more += 1

    def stop(self, place: _Place, message: str, hint: str = "") -> NoReturn:
        self.add(place, message, hint)
        self.check()
        raise AssertionError

    def check(self) -> None:
        if self._more:
            self._found.append(Problem(f"and {counted(self._more, 'more problem')}", file=self.file))
        if self._found:
            raise ScenarioError(*self._found)


Given = dict[str, tuple[Any, _Place]]


class _Collected:
    """Sites and links as they are met, checked one by one."""

    def __init__(self, problems: _Problems, attributes: Attributes) -> None:
        self.problems = problems
        self.attributes = attributes
        self.sites: dict[str, DraftSite] = {}
        self.links: list[DraftLink] = []
        self._first_met: dict[str, _Place] = {}
        self._ends: list[tuple[str, _Place]] = []
        self._not_read: Counter[str] = Counter()
        self._read: set[str] = set()

    def site(self, name: str, given: Given, place: _Place, junction: bool = False) -> None:
        if not self._is_name(name, place):
            return
        if name in self.sites:
            met = self._first_met[name]
            first = f"first at {met.path}" if met.steps else f"first on line {met.line}"
            self.problems.add(place, f"node '{name}' stands twice", first)
            return
        if len(self.sites) >= MAX_SITES:
            self.problems.stop(place, f"more than {MAX_SITES:,} nodes")
        self._first_met[name] = place
        lower = {key.lower(): entry for key, entry in given.items()}
        latitude = self._degrees(lower, ("latitude", "lat"), 90.0)
        longitude = self._degrees(lower, ("longitude", "lon", "lng"), 180.0)
        if latitude is None or longitude is None:
            latitude = longitude = None
        label = next((str(lower[key][0]) for key in ("label", "name") if key in lower and lower[key][0] is not None), "")
        flag = str(lower.get("hyperedge", (0, place))[0]).strip().lower()
        self.sites[name] = DraftSite(
            name=name,
            label="" if label == "None" else _printable(label),
            latitude=latitude,
            longitude=longitude,
            junction=junction or flag in ("1", "true"),
        )

    def link(self, a: str, b: str, given: Given, place: _Place, directed: bool) -> None:
        if len(self.links) >= MAX_LINKS:
            self.problems.stop(place, f"more than {MAX_LINKS:,} edges")
        self._ends += [(a, place), (b, place)]
        wanted = self.attributes
        rate_bps = self._figure(given, wanted.rate, wanted.bps_per_rate, "a rate", positive=True)
        if rate_bps is None:
            rate_bps = self._either(given, ("rate_bps", "LinkSpeedRaw"), "rate", "rate", positive=True)
        up_bps = self._figure(given, "up_bps", 1.0, "a rate", positive=True)
        down_bps = self._figure(given, "down_bps", 1.0, "a rate", positive=True)
        latency_s = self._figure(given, wanted.latency, wanted.s_per_latency, "a latency", positive=False)
        if latency_s is None:
            latency_s = self._either(given, ("latency_s",), "latency", "duration", positive=False)
        self.links.append(
            DraftLink(
                a=a,
                b=b,
                up_bps=up_bps if up_bps is not None else rate_bps,
                down_bps=down_bps if down_bps is not None else rate_bps,
                latency_s=latency_s,
                cost=self._figure(given, wanted.cost, 1.0, "a cost", positive=False, largest=1e9),
                directed=directed,
            )
        )
        self._not_read.update(key for key in given if key not in self._read and _LOOKS_LIKE_A_FIGURE.search(key))

    def draft(self, name: str, *notes: str) -> Draft:
        for end, place in self._ends:
            if end not in self.sites:
                self.problems.add(place, f"an edge ends at '{end}', which is no node", nearest(end, list(self.sites)[:5000]))
        for setting, key in (("rate_attribute", self.attributes.rate), ("latency_attribute", self.attributes.latency)):
            if key is not None and key not in self._read and self.links:
                self.problems.add(_Place(), f"no edge has the attribute '{key}' that `{setting}` names")
        if not self.sites:
            self.problems.add(_Place(), "expected at least one node, found none")
        self.problems.check()
        ignored = {key: count for key, count in self._not_read.items() if key not in self._read and key not in _REPEATS}
        sentences = [*notes]
        if ignored:
            told = ", ".join(f"'{key}' (on {count:,})" for key, count in sorted(ignored.items()))
            sentences.append(
                f"not read: edge attributes whose unit is not stated: {told}; name one as `rate_attribute` or `latency_attribute`"
            )
        junctions = [site.name for site in self.sites.values() if site.junction]
        if junctions:
            sentences.append(f"hyperedges: {counted(len(junctions), 'node')} kept as junctions, which only forward: {named(junctions)}")
        return Draft(sites=tuple(self.sites.values()), links=tuple(self.links), name=_printable(name), filled=tuple(sentences))

    def _is_name(self, name: str, place: _Place) -> bool:
        shown = name if len(name) <= 40 else name[:37] + "..."
        wrong = ""
        if not name.strip():
            wrong = "is empty"
        elif len(name) > MAX_NAME:
            wrong = f"is longer than {MAX_NAME} characters"
        elif not name.isprintable():
            wrong = "holds characters that cannot be printed"
        elif "{" in name or "}" in name:
            wrong = "holds braces, which stand for ranges of names"
        if wrong:
            self.problems.add(place, f"the id '{_printable(shown)}' {wrong}")
        return not wrong

    def _degrees(self, given: Given, keys: tuple[str, ...], most: float) -> float | None:
        for key in keys:
            if key in given and given[key][0] not in (None, ""):
                value, place = given[key]
                number = _number(value)
                if number is None or not -most <= number <= most:
                    self.problems.add(place, f"expected a {keys[0]} of {-most:g} to {most:g} degrees, got {_shown(value)}")
                    return None
                return number
        return None

    def _figure(
        self, given: Given, key: str | None, factor: float, what: str, *, positive: bool, largest: float = math.inf
    ) -> float | None:
        """The number in an attribute times a factor; None if there is none."""
        if key is None or key not in given or given[key][0] in (None, ""):
            return None
        self._read.add(key)
        value, place = given[key]
        number = _number(value)
        if number is None or not math.isfinite(number * factor) or number < 0 or (positive and number == 0) or number > largest:
            bound = "greater than 0" if positive else "of at least 0"
            self.problems.add(place, f"`{key}`: expected {what} {bound} and finite, got {_shown(value)}")
            return None
        return number * factor

    def _either(self, given: Given, keys: tuple[str, ...], worded: str, dimension: str, *, positive: bool) -> float | None:
        """The number under a key that states its unit, or a text with its unit."""
        for key in keys:
            if key in given:
                return self._figure(given, key, 1.0, f"a {worded}", positive=positive)
        if worded in given and isinstance(given[worded][0], str):
            text, place = given[worded]
            if _number(text) is not None:
                return None  # a bare number: its unit is not stated
            self._read.add(worded)
            try:
                return parse(text, dimension)
            except ValueError as error:
                self.problems.add(place, f"`{worded}`: {error}")
        return None


def _number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)[:MAX_LABEL].strip()


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# --- GraphML ----------------------------------------------------------------------------------------------------------------


class _Graphml:
    """Expat's events into sites and links."""

    def __init__(self, collected: _Collected) -> None:
        self._into = collected
        self._problems = collected.problems
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._open: list[str] = []
        self._keys: dict[str, tuple[str, str]] = {}
        self._defaults: dict[str, str] = {}
        self._directed = False
        self._graphs = 0
        self._hyperedges = 0
        self._owner: tuple[str, dict[str, str], Given, _Place] | None = None
        self._endpoints: list[str] = []
        self._data_key = ""
        self._pieces: list[str] = []
        self.graph: Given = {}

    def read(self, data: bytes) -> None:
        try:
            self._parser.Parse(data, True)
        except expat.ExpatError as error:
            what = expat.errors.messages.get(error.code, str(error))
            if what == expat.errors.XML_ERROR_NO_ELEMENTS and not data.strip():
                what = "the file is empty"
            elif what in (expat.errors.XML_ERROR_NO_ELEMENTS, expat.errors.XML_ERROR_UNCLOSED_TOKEN):
                what = f"the file ends too early: {what}"
            self._problems.stop(_Place(error.lineno, error.offset + 1), f"is not well-formed XML: {what}")
        except (LookupError, ValueError) as error:  # an encoding that Python does not know
            self._problems.stop(self._here(), f"is not well-formed XML: {error}")
        if self._graphs == 0:
            self._problems.stop(_Place(1, 1), "expected a <graph> in the file, found none")

    def _here(self) -> _Place:
        return _Place(self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1)

    def _refuse(self, *_: Any) -> None:
        self._problems.stop(self._here(), "document types and entities are not read: they can expand without end or fetch other files")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(" ")[2]
        inside = self._open[-1] if self._open else ""
        self._open.append(name)
        here = self._here()
        if len(self._open) > MAX_DEPTH:
            self._problems.stop(here, f"nested deeper than {MAX_DEPTH} levels")
        if not inside and name != "graphml":
            self._problems.stop(here, f"expected <graphml>, got <{_printable(name)}>")
        if name == "graph" and "data" not in self._open:
            if inside == "node":
                self._problems.stop(here, "a graph inside a node is not read: expected one flat graph")
            self._graphs += 1
            if self._graphs > 1:
                self._problems.stop(here, "expected one graph, found a second")
            self._directed = attributes.get("edgedefault", "undirected") == "directed"
        elif name == "key" and inside == "graphml":
            self._keys[attributes.get("id", "")] = attributes.get("for", "all"), attributes.get("attr.name", attributes.get("id", ""))
            self._data_key = attributes.get("id", "")
        elif name in ("node", "edge", "hyperedge") and inside == "graph":
            self._owner = name, attributes, {}, here
            self._endpoints = []
        elif name == "endpoint" and inside == "hyperedge":
            self._endpoints.append(attributes.get("node", ""))
        elif name == "data" and inside in ("graph", "node", "edge", "hyperedge"):
            self._data_key = attributes.get("key", "")
            if self._data_key not in self._keys:
                self._problems.add(here, f"no <key> has the id '{_printable(self._data_key)}' of this <data>")
        if name in ("data", "default"):
            self._pieces = []

    def _text(self, text: str) -> None:
        if self._open and self._open[-1] in ("data", "default"):
            self._pieces.append(text)

    def _end(self, tag: str) -> None:
        name = self._open.pop()
        inside = self._open[-1] if self._open else ""
        if name == "data" and inside in ("node", "edge", "hyperedge", "graph"):
            into = self.graph if inside == "graph" else self._owner[2] if self._owner else {}
            if self._data_key in self._keys:
                into[self._keys[self._data_key][1]] = "".join(self._pieces).strip(), self._here()
        elif name == "default" and inside == "key":
            self._defaults[self._data_key] = "".join(self._pieces).strip()
        elif name in ("node", "edge", "hyperedge") and inside == "graph" and self._owner is not None:
            kind, attributes, given, place = self._owner
            self._owner = None
            for key, text in self._defaults.items():
                domain, meaning = self._keys[key]
                if domain in (kind, "all") and meaning not in given:
                    given[meaning] = text, place
            self._meet(kind, attributes, given, place)

    def _meet(self, kind: str, attributes: dict[str, str], given: Given, place: _Place) -> None:
        if kind == "node":
            if "id" not in attributes:
                self._problems.add(place, "a <node> without an `id`")
            else:
                self._into.site(attributes["id"], given, place)
        elif kind == "edge":
            missing = [end for end in ("source", "target") if end not in attributes]
            if missing:
                self._problems.add(place, f"an <edge> without `{'` and `'.join(missing)}`")
            else:
                said = attributes.get("directed", "")
                directed = said in ("true", "1") or (self._directed and said not in ("false", "0"))
                self._into.link(attributes["source"], attributes["target"], given, place, directed)
        else:
            self._hyperedges += 1
            name = attributes.get("id", f"hyperedge-{self._hyperedges}")
            self._into.site(name, {}, place, junction=True)
            for end in self._endpoints:
                self._into.link(name, end, dict(given), place, False)


def read_graphml(data: bytes, file: str = "", attributes: Attributes | None = None) -> Draft:
    """The network of a GraphML file: nodes by id, `label` for display only.

    Args:
        data: the file's bytes.
        file: how messages call it.
        attributes: which attributes of links hold which figures.

    Raises:
        ScenarioError: everything that is wrong, at once; what is not XML ends the reading.
    """
    collected = _Collected(_Problems(file, data.decode("utf-8", "replace")), attributes or Attributes())
    reader = _Graphml(collected)
    reader.read(data)
    name = next((str(reader.graph[key][0]) for key in ("label", "Network", "name") if key in reader.graph), "")
    return collected.draft(name)


# --- node-link JSON ---------------------------------------------------------------------------------------------------------


class _TwiceError(ValueError):
    """A key that stands twice in one JSON object."""


def read_node_link(data: bytes, file: str = "", attributes: Attributes | None = None) -> Draft:
    """The network of a node-link JSON file, as networkx writes it: `nodes` with `id`, and `edges` or `links`.

    Args:
        data: the file's bytes.
        file: how messages call it.
        attributes: which attributes of links hold which figures.

    Raises:
        ScenarioError: everything that is wrong, at once; what is not JSON ends the reading.
    """
    text = data.decode("utf-8-sig", "replace")
    problems = _Problems(file, text)
    value = _json(data, text, problems)
    if not isinstance(value, dict) or not isinstance(value.get("nodes"), list):
        problems.stop(_Place(), "expected node-link JSON: an object with a list `nodes` and a list `edges` or `links`")
    keys = [key for key in ("edges", "links") if key in value]
    if len(keys) != 1 or not isinstance(value[keys[0]], list):
        found = "both" if len(keys) == 2 else "neither" if not keys else f"`{keys[0]}` that is no list"
        problems.stop(_Place(), f"expected one list `edges` or `links`, found {found}")
    collected = _Collected(problems, attributes or Attributes())
    for index, node in enumerate(value["nodes"]):
        place = _Place(steps=("nodes", index))
        name = _identifier(node, "id", place, problems)
        if name is not None:
            collected.site(name, {key: (each, place.below(key)) for key, each in node.items()}, place)
    for index, edge in enumerate(value[keys[0]]):
        place = _Place(steps=(keys[0], index))
        ends = [_identifier(edge, end, place, problems) for end in ("source", "target")]
        if ends[0] is not None and ends[1] is not None:
            given = {key: (each, place.below(key)) for key, each in edge.items()}
            collected.link(ends[0], ends[1], given, place, value.get("directed") is True)
    graph = value.get("graph")
    label = graph.get("name", "") if isinstance(graph, dict) else ""
    return collected.draft(label if isinstance(label, str) else "")


def _json(data: bytes, text: str, problems: _Problems) -> Any:
    def refuse(word: str) -> NoReturn:
        problems.stop(_Place(*place_of_constant(text)), f"is not JSON: '{word}' is no number")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            raise _TwiceError(f"key '{_printable(twice)}' stands twice in one object")
        return found

    try:
        return json.loads(data.decode("utf-8-sig"), parse_constant=refuse, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        problems.stop(_Place(error.lineno, error.colno), f"is not JSON: {error.msg}")
    except UnicodeDecodeError as error:
        problems.stop(_Place(), f"is not UTF-8 text (byte {error.start})")
    except RecursionError:
        problems.stop(_Place(*place_of_depth(text, MAX_DEPTH)), "is nested too deeply")
    except ValueError as error:
        problems.stop(_Place(), f"is not JSON that netfl reads: {str(error).partition(';')[0]}")


def _identifier(block: Any, key: str, place: _Place, problems: _Problems) -> str | None:
    if not isinstance(block, dict):
        problems.add(place, f"expected an object, got {_shown(block)}")
    elif key not in block:
        problems.add(place, f"the required key '{key}' is missing")
    elif isinstance(block[key], bool) or not isinstance(block[key], str | int):
        problems.add(place.below(key), f"expected a text or a whole number, got {_shown(block[key])}")
    else:
        return str(block[key])
    return None


# --- CAIDA as-rel -----------------------------------------------------------------------------------------------------------


def read_as_rel(data: bytes, file: str = "", attributes: Attributes | None = None) -> Draft:
    """The autonomous systems of CAIDA's as-rel lines, and who buys from whom or peers with whom.

    A link leads from the customer up to the provider. netfl routes by latency, hops or cost, not by these relationships.

    Args:
        data: the file's bytes.
        file: how messages call it.
        attributes: of no use here: the lines have none.

    Raises:
        ScenarioError: everything that is wrong, at once.
    """
    text = data.decode("utf-8", "replace")
    problems = _Problems(file, text)
    collected = _Collected(problems, Attributes())
    bought = peered = 0
    for number, line in enumerate(problems.lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        place = _Place(number, 1)
        fields = line.strip().split("|")
        if len(fields) not in (3, 4) or fields[2] not in ("-1", "0") or not (_is_as(fields[0]) and _is_as(fields[1])):
            problems.add(place, f"expected `PROVIDER|CUSTOMER|-1` or `PEER|PEER|0` with AS numbers, got {_shown(line.strip())}")
            continue
        upper, lower = fields[0], fields[1]
        for name in (upper, lower):
            if name not in collected.sites:
                collected.site(name, {"label": (f"AS{name}", place)}, place)
        collected.link(lower, upper, {}, place, False)
        bought += fields[2] == "-1"
        peered += fields[2] == "0"
    note = f"relationships: {counted(bought, 'link')} from customer to provider and {peered:,} between peers; routes do not follow them"
    return collected.draft("", note)


def _is_as(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) < 2**32 if len(text) <= 10 else False


# --- files ------------------------------------------------------------------------------------------------------------------

FORMATS: dict[str, tuple[str, Callable[[bytes, str, Attributes | None], Draft]]] = {
    ".graphml": ("GraphML", read_graphml),
    ".xml": ("GraphML", read_graphml),
    ".json": ("node-link JSON", read_node_link),
    ".txt": ("CAIDA as-rel lines", read_as_rel),
}
"""Ending of a file's name to what is in it and who reads it."""


def is_foreign(path: Path) -> bool:
    """Whether a file is one of these formats rather than netfl's own YAML (of which JSON is a part).

    A JSON file is node-link if it has `nodes` or is no JSON at all.
    """
    ending = path.suffix.lower()
    if ending != ".json":
        return ending in FORMATS
    try:
        value = json.loads(_bytes_of(path, str(path)))
    except (ValueError, RecursionError, ScenarioError):
        return True
    return isinstance(value, dict) and "nodes" in value


def read_network(path: Path, file: str, attributes: Attributes | None = None) -> Draft:
    """The network of a file, by the ending of its name.

    Args:
        path: the file; nothing else is opened.
        file: how messages call it.
        attributes: which attributes of links hold which figures.

    Raises:
        ScenarioError: the file cannot be read, or everything that is wrong with it.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        hint = f"there are: {_listed(f'{key} ({what})' for key, (what, _) in FORMATS.items())}"
        if ending in (".gz", ".bz2", ".xz", ".zip"):
            hint = "unpack it first"
        raise ScenarioError(Problem(f"no format is known for the ending '{_printable(ending)}'", file=file, hint=hint))
    _, reader = FORMATS[ending]
    draft = reader(_bytes_of(path, file), file, attributes)
    return draft if draft.name else draft.noted(name=path.stem)


def _bytes_of(path: Path, file: str) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise ScenarioError(Problem("expected a file, this is something else", file=file))
        length = path.stat().st_size
        if length > MAX_FILE_BYTES:
            raise ScenarioError(Problem(f"the file has {length:,} bytes; netfl reads at most {MAX_FILE_BYTES:,}", file=file))
        return path.read_bytes()
    except FileNotFoundError:
        raise ScenarioError(Problem("no such file", file=file)) from None
    except OSError as error:
        raise ScenarioError(Problem(f"cannot be read: {error.strerror}", file=file)) from None


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(texts)
