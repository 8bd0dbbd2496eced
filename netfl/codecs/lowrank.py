"""Low rank: each matrix as the product of two thin ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import annotated_types
import numpy as np
import numpy.typing as npt

from netfl.codecs.pipeline import Leaves, Shapes, Sparsifier, Vector, require_finite
from netfl.errors import CodecError

__all__ = ["LowRank"]

_MOST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """Sends each matrix M (m x n) as P (m x r) and Q (n x r), M' = P Q^T: one step of subspace iteration from random directions.

    A tensor with more axes counts as a matrix of its first axis by all others; one for which r (m + n) numbers are not fewer is
    sent as it is, as are vectors. Without the tensors' shapes the whole vector is one matrix, as near to square as it gets,
    filled with zeros (a choice). P is orthonormal, so M' is a projection of M and what is lost is at most |M|. Each message
    begins with new random directions: the paper's warm start from the last message's Q, a state between messages, is left out,
    so one message is a little worse than there. P and Q are scaled by inverse powers of 2 so that both have magnitudes of like
    order, for quantizers behind.

    Source: Vogels, Karimireddy and Jaggi, "PowerSGD: practical low-rank gradient compression for distributed optimization",
    NeurIPS 2019.

    Args:
        rank: r, at least 1; a smaller side of a matrix limits it.
    """

    rank: Annotated[int, annotated_types.Ge(1)] = 4

    first = True
    leaves: ClassVar[Leaves] = "mixed"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"expected a rank of at least 1, got {self.rank}")

    def for_shapes(self, shapes: Shapes) -> Sparsifier:
        """The sparsifier for a vector of tensors of these shapes."""
        matrices = tuple((shape[0] if shape else 1, math.prod(shape[1:])) for shape in shapes)
        return _OfMatrices(self.rank, sum(m * n for m, n in matrices), matrices)

    def kept_count(self, count: int) -> int:
        """How many numbers P and Q have.

        >>> LowRank(rank=2).kept_count(10_000)
        400
        """
        return self._square(count).kept_count(count)

    def side_bytes(self, count: int) -> int:
        """None are needed."""
        return 0

    def select(self, values: Vector, generator: np.random.Generator) -> tuple[bytes, Vector]:
        """P and Q of the whole vector; draws the directions."""
        return self._square(len(values)).select(values, generator)

    def restore(self, side: bytes, kept: Vector, count: int) -> Vector:
        """The product."""
        return self._square(count).restore(side, kept, count)

    def error_bound(self, values: Vector) -> float:
        """The norm of the matrix, and the rounding to float32."""
        return self._square(len(values)).error_bound(values)

    def _square(self, count: int) -> _OfMatrices:
        rows = math.isqrt(max(count - 1, 0)) + 1
        return _OfMatrices(self.rank, count, ((rows, -(-count // rows)),))


@dataclass(frozen=True)
class _OfMatrices:
    """Low rank of a vector of known matrices.

    Args:
        rank: r.
        count: how many values the vector has; zeros fill the last matrix.
        matrices: (m, n) of each.
    """

    rank: int
    count: int
    matrices: tuple[tuple[int, int], ...]

    leaves: ClassVar[Leaves] = "mixed"

    def kept_count(self, count: int) -> int:
        self._check(count)
        thin = sum(self._rank_of(m, n) * (m + n) or m * n for m, n in self.matrices)
        return min(thin, count)

    def side_bytes(self, count: int) -> int:
        return 0

    def select(self, values: Vector, generator: np.random.Generator) -> tuple[bytes, Vector]:
        require_finite(values, "lowrank")
        if self.kept_count(len(values)) == self.count:
            return b"", values
        parts = []
        for matrix, rank in self._split(values):
            if not rank:
                parts.append(matrix.ravel().astype(np.float32))
                continue
            directions = generator.normal(size=(matrix.shape[1], rank))
            left, _ = np.linalg.qr(matrix @ directions)
            right = matrix.T @ left
            largest = float(np.abs(right).max())
            shift = round(math.log2(largest) / 2) if largest else 0
            parts.append((left * 2.0**shift).astype(np.float32).ravel())
            parts.append((right * 2.0**-shift).astype(np.float32).ravel())
        return b"", np.concatenate(parts)

    def restore(self, side: bytes, kept: Vector, count: int) -> Vector:
        if len(kept) == count:
            return kept
        if not np.isfinite(kept).all():
            raise CodecError("lowrank: expected finite values, got others")
        values = np.empty(sum(m * n for m, n in self.matrices), np.float32)
        at = start = 0
        for m, n in self.matrices:
            rank = self._rank_of(m, n)
            block = values[start : start + m * n]
            start += m * n
            if not rank:
                block[:] = kept[at : at + m * n]
                at += m * n
                continue
            left = kept[at : at + m * rank].astype(np.float64).reshape(m, rank)
            right = kept[at + m * rank : at + (m + n) * rank].astype(np.float64).reshape(n, rank)
            at += (m + n) * rank
            block[:] = np.clip(left @ right.T, -_MOST, _MOST).ravel()
        return values[:count]

    def error_bound(self, values: Vector) -> float:
        if self.kept_count(len(values)) == self.count:
            return 0.0
        norms = [float(np.linalg.norm(matrix)) for matrix, rank in self._split(values) if rank]
        return max(norms, default=0.0) * (1 + self.rank * 2.0**-20) + 2.0**-140

    def _rank_of(self, m: int, n: int) -> int:
        """The rank of what is sent of a matrix; 0 if it is sent as it is."""
        rank = min(self.rank, m, n)
        return rank if rank * (m + n) < m * n else 0

    def _split(self, values: Vector) -> list[tuple[npt.NDArray[np.float64], int]]:
        padded = np.zeros(sum(m * n for m, n in self.matrices))
        padded[: len(values)] = values
        matrices = []
        start = 0
        for m, n in self.matrices:
            matrices.append((padded[start : start + m * n].reshape(m, n), self._rank_of(m, n)))
            start += m * n
        return matrices

    def _check(self, count: int) -> None:
        if count != self.count:
            raise CodecError(f"lowrank: expected {self.count} values, as many as the tensors have, got {count}")
