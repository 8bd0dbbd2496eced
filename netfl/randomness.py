"""Random streams picked by name.

One seed a run. A stream is keyed by SHA-256 of its *name*, never by the order in which streams are made, so adding a client
or changing a codec shifts nothing else, and runs of one replicate share their common random numbers.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np

__all__ = ["Stream", "Streams"]


@dataclass(frozen=True, slots=True)
class Stream:
    """One named stream: a pure value, so it can stand in the recipe of whatever draws from it.

    Args:
        seed: the scenario's seed.
        replicate: which independent repetition of it.
        name: what the numbers are for, as `("fit", "camera-3", 12)`.
    """

    seed: int
    replicate: int
    name: tuple[str | int, ...]

    def child(self, *name: str | int) -> Stream:
        """The stream whose name goes on from this one's."""
        return Stream(self.seed, self.replicate, (*self.name, *name))

    def generator(self) -> np.random.Generator:
        """A generator at the stream's beginning; every call gives the same numbers again.

        >>> a = Streams(seed=7).stream("fit", "camera-1", 3)
        >>> bool((a.generator().random(4) == a.generator().random(4)).all())
        True
        """
        return np.random.Generator(np.random.PCG64(self.seed_sequence()))

    def seed_sequence(self) -> np.random.SeedSequence:
        """The entropy is (seed, replicate); the spawn key is SHA-256 of the name as eight 32-bit words."""
        digest = hashlib.sha256(json.dumps(self.name).encode()).digest()
        words = tuple(int.from_bytes(digest[i : i + 4], "big") for i in range(0, 32, 4))
        return np.random.SeedSequence(entropy=[self.seed, self.replicate], spawn_key=words)


@dataclass(frozen=True)
class Streams:
    """All the streams of one run.

    Args:
        seed: at least 0.
        replicate: which independent repetition; at least 0.
    """

    seed: int
    replicate: int = 0

    def stream(self, *name: str | int) -> Stream:
        """The stream of that name."""
        return Stream(self.seed, self.replicate, name)

    def generator(self, *name: str | int) -> np.random.Generator:
        """A generator at the beginning of the stream of that name."""
        return self.stream(*name).generator()
