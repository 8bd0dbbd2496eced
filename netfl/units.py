"""Quantities with units: parsed from text, typed by dimension, printed for people.

bit = b, byte = B. Decimal prefixes are powers of 1000, binary ones (KiB, MiB, GiB) powers of 1024. A setting of one of the
types below is a plain `float` in base units inside netfl; in YAML it must carry its unit, because a bare number is how bits
get mistaken for bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

__all__ = [
    "DIMENSIONS",
    "Bandwidth",
    "Dimension",
    "Duration",
    "Energy",
    "Flops",
    "Frequency",
    "MemoryBandwidth",
    "Power",
    "Quantity",
    "Size",
    "counted",
    "format_bytes",
    "format_duration",
    "format_energy",
    "format_rate",
    "parse",
]

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_SMALL = {"m": 1e-3, "u": 1e-6, "µ": 1e-6, "n": 1e-9}


def _prefixed(unit: str, *prefixes: dict[str, float]) -> dict[str, float]:
    return {prefix + unit: factor for table in prefixes for prefix, factor in table.items()}


@dataclass(frozen=True)
class Dimension:
    """What a quantity measures.

    Args:
        name: as in an error message: "a duration".
        examples: texts that parse, the first being the one that messages show.
        units: what each unit is worth in the base unit.
        hints: what to say about units that look right and are wrong.
        allow_zero: whether 0 is a value of this dimension.
        most: the largest value in base units that makes any sense.
    """

    name: str
    examples: tuple[str, ...]
    units: dict[str, float]
    hints: dict[str, str]
    allow_zero: bool = False
    most: float = 1e18


_BITS = {
    **_prefixed("bit/s", _DECIMAL),
    **_prefixed("bps", _DECIMAL),
    **_prefixed("b/s", _DECIMAL),
    **{unit: 8 * factor for unit, factor in _prefixed("B/s", _DECIMAL, _BINARY).items()},
}
_AMBIGUOUS_SIZE = {
    unit: f"`{unit}` is a number of bits; sizes are in bytes: write `{unit[0]}B`" for unit in ("Mb", "kb", "Gb", "Mbit", "kbit", "Gbit")
}

DIMENSIONS: dict[str, Dimension] = {
    "duration": Dimension(
        "a duration",
        ("20 ms", "1.5 s", "10 min", "2 h"),
        {**_prefixed("s", {"": 1.0}, _SMALL), "min": 60.0, "h": 3600.0, "d": 86400.0},
        {"m": "`m` could be metres or minutes: write `min`", "sec": "write `s`", "hours": "write `h`"},
        allow_zero=True,
        most=1e10,
    ),
    "rate": Dimension(
        "a data rate",
        ("10 Mbit/s", "250 kbit/s", "1.25 MB/s"),
        _BITS,
        {"Mb": "a rate is per second: write `Mbit/s`", "MB": "a rate is per second: write `MB/s`", "Mbit": "write `Mbit/s`"},
    ),
    "size": Dimension("a size", ("1 MB", "640 KiB", "64 B"), _prefixed("B", _DECIMAL, _BINARY), _AMBIGUOUS_SIZE, allow_zero=True),
    "memory bandwidth": Dimension("a memory bandwidth", ("4 GB/s", "200 MB/s"), _prefixed("B/s", _DECIMAL, _BINARY), {}),
    "power": Dimension("a power", ("2.7 W", "35 mW"), _prefixed("W", _DECIMAL, _SMALL), {}, allow_zero=True),
    "energy": Dimension(
        "an energy", ("10 J", "5 Wh"), {**_prefixed("J", _DECIMAL, _SMALL), "Wh": 3600.0, "kWh": 3.6e6}, {}, allow_zero=True
    ),
    "compute rate": Dimension(
        "a compute rate",
        ("5 GFLOP/s", "30 MFLOP/s"),
        {**_prefixed("FLOP/s", _DECIMAL), **_prefixed("FLOPS", _DECIMAL)},
        {"GFLOP": "a rate is per second: write `GFLOP/s`", "MFLOP": "a rate is per second: write `MFLOP/s`"},
    ),
    "frequency": Dimension(
        "a frequency",
        ("2 per s", "30 per min", "5 Hz"),
        {"per s": 1.0, "per min": 1 / 60, "per h": 1 / 3600, "per d": 1 / 86400, **_prefixed("Hz", _DECIMAL)},
        {"/s": "write `per s`"},
        allow_zero=True,
    ),
}

_TEXT = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*")


def parse(text: object, dimension: str) -> float:
    """A quantity in base units (s, bit/s, B, W, J, FLOP/s, 1/s) from its text.

    Args:
        text: a number and a unit.
        dimension: a key of `DIMENSIONS`.

    Raises:
        ValueError: what was expected, with an example, and what was given.

    >>> parse("10 Mbit/s", "rate")
    10000000.0
    >>> parse("20 ms", "duration")
    0.02
    >>> parse("1 Mb", "size")
    Traceback (most recent call last):
    ...
    ValueError: expected a size such as '1 MB', got '1 Mb': `Mb` is a number of bits; sizes are in bytes: write `MB`
    """
    wanted = DIMENSIONS[dimension]
    expected = f"expected {wanted.name} such as '{wanted.examples[0]}', got {_shown(text)}"
    if not isinstance(text, str):
        raise ValueError(f"{expected}: a unit is required" if isinstance(text, int | float) else expected)
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(expected)
    number, unit = float(match[1]), " ".join(match[2].split())
    if unit not in wanted.units:
        raise ValueError(f"{expected}: {_unit_hint(unit, wanted)}")
    value = number * wanted.units[unit]
    if value < 0 or (value == 0 and (number != 0 or not wanted.allow_zero)):
        raise ValueError(f"{expected}: it must be {'at least 0' if wanted.allow_zero else 'greater than 0'}")
    if not value <= wanted.most:
        raise ValueError(f"{expected}: it must be at most {wanted.most:g} in base units")
    return value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unit_hint(unit: str, wanted: Dimension) -> str:
    if not unit:
        return "a unit is required"
    if unit in wanted.hints:
        return wanted.hints[unit]
    same_letters = [known for known in wanted.units if known.lower() == unit.lower()]
    if same_letters:
        return f"did you mean '{same_letters[0]}'?"
    others = [other.name for other in DIMENSIONS.values() if unit in other.units]
    return f"'{unit}' is the unit of {others[0]}" if others else f"units are {', '.join(list(wanted.units)[:9])}"


@dataclass(frozen=True)
class Quantity:
    """The annotation that lets pydantic read a quantity: `Annotated[float, Quantity("duration")]`.

    Args:
        dimension: a key of `DIMENSIONS`.
        whole: round to a whole number of base units (bytes).
    """

    dimension: str
    whole: bool = False

    def read(self, text: object) -> float:
        """The value of the text in base units."""
        value = parse(text, self.dimension)
        return round(value) if self.whole else value

    @property
    def examples(self) -> tuple[str, ...]:
        """Texts that `read` accepts."""
        return DIMENSIONS[self.dimension].examples

    def text(self, value: float) -> str:
        """A text that reads back as exactly this value in base units.

        >>> Quantity("duration").text(0.02)
        '0.02 s'
        """
        unit = next(unit for unit, factor in DIMENSIONS[self.dimension].units.items() if factor == 1.0)
        return f"{value!r} {unit}"

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        wanted = DIMENSIONS[self.dimension]
        units = "|".join(re.escape(unit) for unit in sorted(wanted.units, key=len, reverse=True))
        return {
            "type": "string",
            "description": f"{wanted.name}, with its unit",
            "pattern": rf"^\s*\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*({units})\s*$",
            "examples": list(wanted.examples),
        }


Duration = Annotated[float, Quantity("duration")]
"""Seconds."""
Bandwidth = Annotated[float, Quantity("rate")]
"""Bits per second."""
Size = Annotated[int, Quantity("size", whole=True)]
"""Bytes."""
MemoryBandwidth = Annotated[float, Quantity("memory bandwidth")]
"""Bytes per second."""
Power = Annotated[float, Quantity("power")]
"""Watts."""
Energy = Annotated[float, Quantity("energy")]
"""Joules."""
Flops = Annotated[float, Quantity("compute rate")]
"""Floating-point operations per second; a multiply-accumulate counts two."""
Frequency = Annotated[float, Quantity("frequency")]
"""Events per second."""


def _scaled(value: float, unit: str, steps: tuple[tuple[float, str], ...]) -> str:
    """Three digits and the largest prefix that leaves a number of at least 1, after rounding."""
    for factor, prefix in steps:
        if abs(float(f"{value:.3g}")) >= factor:
            number = value / factor
            return f"{number:.3g} {prefix}{unit}" if abs(number) < 999.5 else f"{number:,.0f} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def counted(number: int, word: str) -> str:
    """A number and its noun.

    >>> counted(1, "link"), counted(2, "link")
    ('1 link', '2 links')
    """
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def format_bytes(value: float) -> str:
    """Bytes for people.

    >>> format_bytes(14_200_000), format_bytes(999_999), format_bytes(12)
    ('14.2 MB', '1 MB', '12 B')
    """
    return _scaled(value, "B", ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")))


def format_rate(value: float) -> str:
    """Bits per second for people.

    >>> format_rate(250_000)
    '250 kbit/s'
    """
    return _scaled(value, "bit/s", ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")))


def format_energy(value: float) -> str:
    """Joules for people.

    >>> format_energy(0.0125)
    '12.5 mJ'
    """
    return _scaled(value, "J", ((1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u")))


def format_duration(value: float) -> str:
    """Seconds for people, in at most two units.

    >>> format_duration(0.0123), format_duration(75), format_duration(11_520)
    ('12.3 ms', '1 min 15 s', '3 h 12 min')
    """
    if value < 60:
        return _scaled(value, "s", ((1.0, ""), (1e-3, "m"), (1e-6, "u")))
    whole = round(value)
    for unit, length, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
