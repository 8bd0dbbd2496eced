"""A codec pipeline: sparsifiers, then at most one quantizer, then compressors.

The frame is a 4-byte count of the vector's values, then the body, which the compressors wrap as a whole. The body holds the
side bytes of each sparsifier in order, then the values that are left: as the quantizer writes them, or as raw float32. A
section whose length does not follow from the count and the settings carries its length in 4 bytes before it. All numbers are
little-endian.

A stage may state more about itself than its protocol asks; what it does not state is taken as the first of each:

- `leaves`: "values", "changed" or "mixed" (see `Leaves`);
- `first`: false, or true if it means nothing behind another stage;
- `unbiased_up_to`: None, or the largest magnitude up to which the mean of what is decoded is the value itself;
- `epsilon_per_coordinate`: None, or the differential privacy that it spends on each value that it lets out; 0.0 of a selection
  that does not look at the values;
- `most_kept(count)`: how many values it keeps at most, where `kept_count` depends on them; all of them;
- `releases`: false, or true of a private selection whose values are noised already;
- `momentum`: None, or the factor of a momentum that error feedback keeps for it;
- `at_round(round_)`: the stage of that round, counted from 1;
- `for_shapes(shapes)`: the stage for a vector of tensors of these shapes;
- `meant(values)`: what error feedback counts as sent, of a quantizer whose noise must not come back.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from netfl.errors import CodecError
from netfl.parts import Family

__all__ = [
    "CODECS",
    "MAX_COUNT",
    "Compressor",
    "Encoding",
    "Leaves",
    "Pipeline",
    "Quantizer",
    "Shapes",
    "Sparsifier",
    "Stage",
    "Vector",
    "check_fraction",
    "dense_bytes",
    "require_finite",
]

Vector: TypeAlias = npt.NDArray[np.float32]
"""One-dimensional float32."""

Shapes: TypeAlias = tuple[tuple[int, ...], ...]
"""The shapes of the tensors that a vector is made of, in order."""

Leaves: TypeAlias = Literal["values", "changed", "mixed"]
"""What a sparsifier hands on: some of the values themselves, values that it changed, or numbers that each depend on many values.

What a later stage does to them counts beside the sparsifier's own error, adds to it, or has no bound that is known.
"""

MAX_COUNT = 2**28
"""The most values that one frame holds: 1 GiB of float32."""

_SECTION_SLACK_BYTES = 64


@runtime_checkable
class Sparsifier(Protocol):
    """Keeps some values of a vector and says in side bytes which; a value that is not kept is restored as something else, often 0.

    Side bytes are at most 4 a value and 64 more.
    """

    def select(self, values: Vector, generator: np.random.Generator) -> tuple[bytes, Vector]:
        """The side bytes, and the kept values in the order of their places."""
        ...

    def restore(self, side: bytes, kept: Vector, count: int) -> Vector:
        """The vector of `count` values; CodecError if `select` can not have made `side`."""
        ...

    def kept_count(self, count: int) -> int | None:
        """How many of `count` values are kept; None if that depends on the values."""
        ...

    def side_bytes(self, count: int) -> int | None:
        """Length of the side bytes for `count` values; None if that depends on the values."""
        ...

    def error_bound(self, values: Vector) -> float | None:
        """The most by which a value that is not kept changes; None if there is no such bound."""
        ...


@runtime_checkable
class Quantizer(Protocol):
    """Writes values in fewer bits; at most 4 bytes a value and 64 more."""

    def quantize(self, values: Vector, generator: np.random.Generator) -> bytes | memoryview:
        """The values as bytes, or as a view of bytes that nothing changes any more."""
        ...

    def dequantize(self, data: bytes, count: int) -> Vector:
        """`count` values; CodecError if `quantize` can not have made `data`."""
        ...

    def quantized_bytes(self, count: int) -> int | None:
        """Length of `count` quantized values; None if that depends on the values."""
        ...

    def error_bound(self, values: Vector) -> float | None:
        """The most by which any of these values changes; None if there is no such bound."""
        ...


@runtime_checkable
class Compressor(Protocol):
    """Writes bytes as fewer bytes and loses nothing."""

    def compress(self, data: bytes) -> bytes:
        """The compressed bytes."""
        ...

    def decompress(self, data: bytes, limit: int) -> bytes:
        """What was compressed; CodecError if `compress` can not have made `data` from at most `limit` bytes."""
        ...

    def compressed_bytes(self, length: int) -> int | None:
        """Length of `length` compressed bytes; None if that depends on the bytes."""
        ...

    def most_bytes(self, length: int) -> int:
        """The most that at most `length` bytes can become."""
        ...


Stage: TypeAlias = Sparsifier | Quantizer | Compressor

CODECS = Family(
    "codecs",
    {
        "topk": "netfl.codecs.topk:TopK",
        "randomk": "netfl.codecs.randomk:RandomK",
        "threshold": "netfl.codecs.threshold:Threshold",
        "dgc": "netfl.codecs.dgc:Dgc",
        "gumbel_topk": "netfl.codecs.gumbel:GumbelTopK",
        "svt": "netfl.codecs.svt:Svt",
        "lowrank": "netfl.codecs.lowrank:LowRank",
        "sketch": "netfl.codecs.sketch:CountSketch",
        "quantize": "netfl.codecs.quantize:Quantize",
        "qsgd": "netfl.codecs.qsgd:Qsgd",
        "terngrad": "netfl.codecs.terngrad:TernGrad",
        "sign": "netfl.codecs.sign:Sign",
        "onebit": "netfl.codecs.sign:OneBit",
        "affine": "netfl.codecs.affine:Affine",
        "float16": "netfl.codecs.floats:Float16",
        "bfloat16": "netfl.codecs.floats:Bfloat16",
        "laplace": "netfl.codecs.release:LaplaceRelease",
        "onebit_release": "netfl.codecs.release:OneBitRelease",
        "zstd": "netfl.codecs.zstd:Zstd",
        "entropy": "netfl.codecs.entropy:Entropy",
    },
)

_ROLES: tuple[tuple[str, type], ...] = (("sparsifier", Sparsifier), ("quantizer", Quantizer), ("compressor", Compressor))


@dataclass(frozen=True)
class Encoding:
    """One vector as bytes, as its sender sees it.

    Args:
        payload: the bytes.
        decoded: (n,) float32, what a receiver makes of them.
        sent: (n,) float32, what error feedback counts as sent: `decoded`, but without the noise of a private release.
        places: (n,) bool, which values are in it; None unless the pipeline has a momentum.
    """

    payload: bytes
    decoded: Vector
    sent: Vector
    places: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Pipeline:
    """Stages in order; none at all sends raw float32.

    Law: `decode(encode(x, g))` differs from `x` by at most `error_bound(x, g)` in every value, and `decode` knows nothing but
    the bytes and the pipeline's own settings.

    Args:
        stages: sparsifiers, then at most one quantizer, then compressors.
        shapes: of the tensors that the vector is made of, for stages that treat each tensor by itself; empty if it is one
            tensor. They hold for the first stage only: behind a sparsifier the values that are left are one tensor.

    Raises:
        ValueError: something is not a stage, or a stage cannot follow the one before it.
    """

    stages: tuple[Stage, ...] = ()
    shapes: Shapes = ()

    def __post_init__(self) -> None:
        before = -1
        for i in range(len(self.stages)):
            rank = _rank(self.stages[i])
            if rank < before or rank == before == 1:
                raise ValueError(
                    f"codec stage {_name(self.stages[i])} (a {_ROLES[rank][0]}) cannot follow {_name(self.stages[i - 1])} "
                    f"(a {_ROLES[before][0]}): the order is sparsifiers, at most one quantizer, compressors"
                )
            if i and getattr(self.stages[i], "first", False):
                raise ValueError(
                    f"codec stage {_name(self.stages[i])} cannot follow {_name(self.stages[i - 1])}: it must see the whole vector, "
                    f"so it comes first"
                )
            before = rank

    def at_round(self, round_: int) -> Pipeline:
        """The pipeline of one round, for stages whose settings change over rounds; itself if none does.

        Args:
            round_: counted from 1.
        """
        stages = tuple(stage.at_round(round_) if hasattr(stage, "at_round") else stage for stage in self.stages)
        return self if stages == self.stages else replace(self, stages=stages)

    @property
    def lossless(self) -> bool:
        """Whether `decode` gives back every vector bit for bit, whatever the settings: there are only compressors."""
        return all(_rank(stage) == 2 for stage in self.stages)

    @property
    def sparse(self) -> bool:
        """Whether values are left out: there is a sparsifier."""
        return bool(self._sparsifiers)

    @property
    def unbiased_up_to(self) -> float | None:
        """The largest magnitude up to which the mean of `decode(encode(x))` is `x`; None if some stage does not say so."""
        lossy = [stage for stage in self.stages if _rank(stage) < 2]
        limits: list[float] = []
        for stage in lossy:
            limit: float | None = getattr(stage, "unbiased_up_to", None)
            if limit is None:
                return None
            limits.append(limit)
        for i in range(len(lossy) - 1):
            # A median is not linear in what it is taken of; a limit on changed values is none on the vector's own.
            if _leaves(lossy[i]) == "mixed" or (_leaves(lossy[i]) == "changed" and min(limits[i + 1 :]) < math.inf):
                return None
        return min(limits, default=math.inf)

    @property
    def epsilon_per_coordinate(self) -> float | None:
        """The differential privacy spent on each value that is let out: what its selection and its release spend together.

        None if no stage claims any; infinite if one stage does and another lets the values themselves through.
        """
        selections = [getattr(stage, "epsilon_per_coordinate", None) for stage in self._sparsifiers]
        release = getattr(self._quantizer, "epsilon_per_coordinate", None)
        if release is None and not any(selections):
            return None
        if any(getattr(stage, "releases", False) for stage in self._sparsifiers):
            release = release or 0.0
        spent = [each for each in (*selections, release) if each is not None]
        return math.fsum(spent) if len(spent) == len(selections) + 1 else math.inf

    def most_kept(self, count: int) -> int:
        """How many of `count` values are let out at most."""
        for sparsifier in self._sparsifiers:
            kept = sparsifier.kept_count(count)
            if kept is None:
                kept = sparsifier.most_kept(count) if hasattr(sparsifier, "most_kept") else count
            count = kept
        return count

    @property
    def momentum(self) -> float | None:
        """The factor of the momentum that error feedback keeps; None for none."""
        factors: list[float | None] = [getattr(stage, "momentum", None) for stage in self._sparsifiers]
        return next((factor for factor in factors if factor is not None), None)

    def encode(self, values: Vector, generator: np.random.Generator) -> bytes:
        """The vector as bytes.

        Args:
            values: (n,) float32, at most `MAX_COUNT` values; it is not changed.
            generator: where stages draw from; equal states give equal bytes.

        Raises:
            CodecError: not such a vector, or values that a stage cannot encode, as NaN.
        """
        return self._encode(values, generator)[0]

    def encode_fully(self, values: Vector, generator: np.random.Generator) -> Encoding:
        """The bytes, and what the sender needs to know of them.

        Raises:
            CodecError: as `encode`.
        """
        payload, selected, kept = self._encode(values, generator)
        decoded = self.decode(payload, len(values))
        sent = _restored(selected, self._quantizer.meant(kept)) if hasattr(self._quantizer, "meant") else decoded
        places = None if self.momentum is None else _restored(selected, np.ones(len(kept), np.float32)) != 0
        return Encoding(payload, decoded, sent, places)

    def _encode(self, values: Vector, generator: np.random.Generator) -> tuple[bytes, list[_Selected], Vector]:
        if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.ndim != 1 or len(values) > MAX_COUNT:
            given = f"{values.dtype} of shape {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            raise CodecError(f"expected a float32 vector of at most {MAX_COUNT} values, got {given}")
        self._check_count(len(values))
        sections: list[bytes | memoryview] = []
        selected: list[_Selected] = []
        kept = values
        for sparsifier in self._sparsifiers:
            count = len(kept)
            side, kept = sparsifier.select(kept, generator)
            selected.append((sparsifier, side, count))
            sections.extend(_section(sparsifier, side, sparsifier.side_bytes(count), count))
            expected = sparsifier.kept_count(count)
            if expected is None:
                sections.append(struct.pack("<I", len(kept)))
            elif expected != len(kept):
                raise CodecError(f"codec stage {_name(sparsifier)} stated {expected} kept values of {count} and kept {len(kept)}")
        if self._quantizer is None:
            sections.append(kept.astype("<f4", copy=False).tobytes())
        else:
            data = self._quantizer.quantize(kept, generator)
            sections.extend(_section(self._quantizer, data, self._quantizer.quantized_bytes(len(kept)), len(kept)))
        head = struct.pack("<I", len(values))
        if not self._compressors:
            return b"".join((head, *sections)), selected, kept
        body = b"".join(sections)
        for compressor in self._compressors:
            body = compressor.compress(body)
        return head + body, selected, kept

    def decode(self, data: bytes, count: int | None = None) -> Vector:
        """The vector that the bytes stand for: (n,) float32, the caller's own.

        A few bytes may stand for many values, as a sparse message of one: a receiver that states the count that it expects takes
        no memory beyond that count and the bytes.

        Args:
            data: what an encoder made.
            count: how many values are expected; None takes any number up to `MAX_COUNT`, or what `shapes` says.

        Raises:
            CodecError: bytes that no encoder with these settings made, or another count.
        """
        if len(data) < 4:
            raise CodecError(f"expected a 4-byte count of values, got {len(data)} bytes")
        (given,) = struct.unpack_from("<I", data)
        if given > MAX_COUNT:
            raise CodecError(f"expected a count of at most {MAX_COUNT} values, got {given}")
        if count not in (None, given):
            raise CodecError(f"expected {count} values, got {given}")
        count = int(given)
        self._check_count(count)
        body = memoryview(data)[4:]
        limits = list(self._body_limits(count))
        for compressor, limit in zip(reversed(self._compressors), reversed(limits[:-1]), strict=True):
            body = memoryview(compressor.decompress(bytes(body), limit))
        reader = _Reader(body)
        selected: list[_Selected] = []
        left = count
        for sparsifier in self._sparsifiers:
            side = reader.section(sparsifier.side_bytes(left))
            selected.append((sparsifier, side, left))
            stated = sparsifier.kept_count(left)
            kept_count = reader.number() if stated is None else stated
            if kept_count > left:
                raise CodecError(f"{kept_count} kept values of {left}")
            left = kept_count
        length = 4 * left if self._quantizer is None else self._quantizer.quantized_bytes(left)
        written = reader.section(length)
        reader.end()
        values = np.frombuffer(written, "<f4").astype(np.float32) if self._quantizer is None else self._quantizer.dequantize(written, left)
        return _restored(selected, values)

    def encoded_bytes(self, count: int) -> int | None:
        """Length of `count` encoded values in closed form; None if it depends on the values."""
        body = 0
        left = count
        for sparsifier in self._sparsifiers:
            side, kept = sparsifier.side_bytes(left), sparsifier.kept_count(left)
            if side is None or kept is None:
                return None
            body, left = body + side, kept
        values = 4 * left if self._quantizer is None else self._quantizer.quantized_bytes(left)
        if values is None:
            return None
        body += values
        for compressor in self._compressors:
            compressed = compressor.compressed_bytes(body)
            if compressed is None:
                return None
            body = compressed
        return 4 + body

    def error_bound(self, values: Vector, generator: np.random.Generator | None = None) -> float | None:
        """A bound on max |decode(encode(values)) - values|; None if some stage states none.

        Args:
            values: (n,) float32.
            generator: in the state that `encode` gets it in; matters only if a sparsifier draws from it.
        """
        generator = generator or np.random.default_rng(0)
        carried: list[tuple[Leaves, float]] = []
        for sparsifier in self._sparsifiers:
            of_stage = sparsifier.error_bound(values)
            if of_stage is None:
                return None
            carried.append((_leaves(sparsifier), of_stage))
            _, values = sparsifier.select(values, generator)
        later = 0.0 if self._quantizer is None else self._quantizer.error_bound(values)
        num_lossy = len(carried) + (self._quantizer is not None)
        if later is None or any(leaves == "mixed" for leaves, _ in carried[: num_lossy - 1]):
            return None
        for leaves, of_stage in reversed(carried):
            later = max(of_stage, later) if leaves == "values" else of_stage + later
        return later

    @cached_property
    def _bound(self) -> tuple[Stage, ...]:
        """The stages, the first for the shapes."""
        if not self.shapes or not self.stages or not hasattr(self.stages[0], "for_shapes"):
            return self.stages
        return (self.stages[0].for_shapes(self.shapes), *self.stages[1:])

    @cached_property
    def _sparsifiers(self) -> tuple[Sparsifier, ...]:
        return tuple(stage for stage in self._bound if isinstance(stage, Sparsifier))

    @cached_property
    def _quantizer(self) -> Any:
        return next((stage for stage in self._bound if isinstance(stage, Quantizer)), None)

    @cached_property
    def _compressors(self) -> tuple[Compressor, ...]:
        return tuple(stage for stage in self._bound if isinstance(stage, Compressor))

    def _check_count(self, count: int) -> None:
        if self.shapes and count != sum(math.prod(shape) for shape in self.shapes):
            raise CodecError(f"expected {sum(math.prod(shape) for shape in self.shapes)} values, as many as the tensors have, got {count}")

    def _body_limits(self, count: int) -> Iterator[int]:
        """The most bytes that the body can have: before compression, then after each compressor."""
        limit = 0
        left = count
        for sparsifier in self._sparsifiers:
            limit += _section_limit(sparsifier.side_bytes(left), left)
            kept = sparsifier.kept_count(left)
            if kept is None:
                limit += 4
            else:
                left = kept
        limit += 4 * left if self._quantizer is None else _section_limit(self._quantizer.quantized_bytes(left), left)
        yield limit
        for compressor in self._compressors:
            limit = compressor.most_bytes(limit)
            yield limit


def dense_bytes(num_values: int) -> int:
    """Length of so many values as a message of float32."""
    length = Pipeline(()).encoded_bytes(num_values)
    assert length is not None
    return length


def require_finite(values: Vector, stage: str, magnitudes: Vector | None = None) -> None:
    """Raise CodecError if a value is NaN or infinite.

    Args:
        values: (n,) float32.
        stage: who cannot encode such a value.
        magnitudes: their absolute values, if they are at hand.
    """
    # The largest of some numbers is NaN if one of them is.
    if not len(values) or math.isfinite((np.abs(values) if magnitudes is None else magnitudes).max()):
        return
    finite = np.isfinite(values)
    first = int(np.argmin(finite))
    bad = len(values) - int(np.count_nonzero(finite))
    raise CodecError(f"{stage} cannot encode {bad} of {len(values)} values that are not finite: value {first} is {values[first]}")


def check_fraction(fraction: float, name: str = "fraction") -> None:
    """Raise ValueError unless a share of values is above 0 and at most 1."""
    if not 0 < fraction <= 1:
        raise ValueError(f"expected a {name} above 0 and at most 1, got {fraction}")


_Selected: TypeAlias = tuple[Sparsifier, bytes, int]
"""A sparsifier, the side bytes that it made, and of how many values."""


def _restored(selected: list[_Selected], values: Vector) -> Vector:
    for sparsifier, side, count in reversed(selected):
        values = sparsifier.restore(side, values, count)
    return values


def _leaves(stage: object) -> Leaves:
    leaves: Leaves = getattr(stage, "leaves", "values")
    return leaves


def _rank(stage: object) -> int:
    for i in range(len(_ROLES)):
        if isinstance(stage, _ROLES[i][1]):
            return i
    raise ValueError(f"expected a codec stage (a sparsifier, quantizer or compressor), got {type(stage).__name__}")


def _name(stage: object) -> str:
    return type(stage).__name__


def _section_limit(length: int | None, count: int) -> int:
    return 4 + 4 * count + _SECTION_SLACK_BYTES if length is None else length


def _section(stage: Stage, data: bytes | memoryview, length: int | None, count: int) -> tuple[bytes | memoryview, ...]:
    """The bytes of a section, after their length where `length` is not known in advance."""
    if length is None:
        if len(data) > 4 * count + _SECTION_SLACK_BYTES:
            raise CodecError(f"codec stage {_name(stage)} made {len(data)} bytes of {count} values: more than 4 each and 64")
        return struct.pack("<I", len(data)), data
    if len(data) != length:
        raise CodecError(f"codec stage {_name(stage)} stated {length} bytes for {count} values and made {len(data)}")
    return (data,)


class _Reader:
    """Takes sections off the front of a body."""

    def __init__(self, body: memoryview) -> None:
        self._body = body
        self._at = 0

    def section(self, length: int | None) -> bytes:
        """The next bytes: `length` of them, or as many as the 4 bytes before them say."""
        if length is None:
            length = self.number()
        if length > len(self._body) - self._at:
            raise CodecError(f"expected {length} more bytes, got {len(self._body) - self._at}")
        self._at += length
        return bytes(self._body[self._at - length : self._at])

    def number(self) -> int:
        """The next 4 bytes as an unsigned number."""
        return int.from_bytes(self.section(4), "little")

    def end(self) -> None:
        """Raise CodecError if bytes are left."""
        if self._at != len(self._body):
            raise CodecError(f"expected the end, got {len(self._body) - self._at} more bytes")
