"""Encode and decode of an update of 1.6 million parameters, against what torch does in place of it.

    python benchmarks/codecs.py [--json] [--pairs N] [--markdown FILE]

A case is one `encode` and one `decode` by a pipeline, frame included. Its baseline is `torch.topk` alone (top-k), `copy_` of
the same vector into a tensor that is already there (8 bits and all others), or a plain Python loop that writes and reads the
same codes bit by bit (index codings, at 16,000 of 1.6 million places). Case and baseline run in turns in one process, on one
thread; figures are CPU seconds, medians over the pairs, and the ratio is the median of the pairs' ratios, baseline / netfl:
above 1 where netfl is faster. A limit is the least ratio that the project asks of a case.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from netfl.codecs import (
    Affine,
    Bfloat16,
    CountSketch,
    Entropy,
    Float16,
    GumbelTopK,
    IndexCoding,
    LaplaceRelease,
    LowRank,
    OneBit,
    OneBitRelease,
    Pipeline,
    Qsgd,
    Quantize,
    RandomK,
    Sign,
    Stage,
    Svt,
    TernGrad,
    Threshold,
    TopK,
    Zstd,
)
from netfl.codecs.indices import decode_places, encode_places, rice_bits

COUNT = 1_600_000
KEPT = 16_000


@dataclass(frozen=True)
class Case:
    name: str
    baseline: str
    netfl: Callable[[], object]
    other: Callable[[], object]
    payload_bytes: int
    limit: float | None = None


def cases() -> list[Case]:
    generator = np.random.default_rng(0)
    values = generator.normal(scale=0.01, size=COUNT).astype(np.float32)
    tensor = torch.from_numpy(values)
    there = torch.empty_like(tensor)

    def topk() -> object:
        return torch.topk(tensor, KEPT)

    def copy() -> object:
        return there.copy_(tensor)

    def case(name: str, *stages: Stage, baseline: str = "copy_", other: Callable[[], object] = copy, limit: float | None = None) -> Case:
        pipeline = Pipeline(stages)
        length = len(pipeline.encode(values, generator))
        return Case(name, baseline, lambda: pipeline.decode(pipeline.encode(values, generator), COUNT), other, length, limit)

    found = [
        case("top-k 1 %", TopK(fraction=0.01), baseline="torch.topk", other=topk, limit=1 / 0.6),
        case("top-k 1 %, rice", TopK(fraction=0.01, indices="rice"), baseline="torch.topk", other=topk),
        case("8 bit, nearest", Quantize(bits=8, stochastic=False), limit=1 / 8),
        case("8 bit, stochastic", Quantize(bits=8), limit=1 / 16),
    ]
    places = np.sort(generator.choice(COUNT, KEPT, replace=False))
    listed = places.tolist()
    codings: tuple[IndexCoding, ...] = ("elias_gamma", "elias_delta", "rice", "bitmap")
    for coding in codings:
        data = encode_places(coding, places, COUNT)
        assert loop(coding, listed) == listed
        found.append(
            Case(
                f"places, {coding}",
                "Python loop",
                lambda coding=coding: decode_places(coding, encode_places(coding, places, COUNT), KEPT, COUNT, "places"),
                lambda coding=coding: loop(coding, listed),
                len(data),
                30,
            )
        )
    clip, shares = 0.02, 0.01
    return [
        *found,
        case("random-k 1 %", RandomK(fraction=shares)),
        case("threshold", Threshold(least=0.0258)),
        case("gumbel top-k 1 %, one-bit release", GumbelTopK(fraction=shares, clip=clip, epsilon=1.0), OneBitRelease(clip=clip, epsilon=1.0)),
        case("svt 1 %", Svt(fraction=shares, clip=clip, epsilon=1.0, threshold=clip / 10)),
        case("low rank 4", LowRank(rank=4)),
        case("count sketch 1 %", CountSketch(fraction=shares)),
        case("QSGD, 127 levels", Qsgd()),
        case("QSGD, 3 levels, Elias", Qsgd(levels=3, coding="elias_gamma", bucket=512)),
        case("TernGrad", TernGrad()),
        case("sign", Sign()),
        case("one bit", OneBit()),
        case("affine int8", Affine()),
        case("float16", Float16()),
        case("bfloat16", Bfloat16()),
        case("Laplace release", LaplaceRelease(clip=clip, epsilon=1.0)),
        case("8 bit and zstd", Quantize(bits=8), Zstd()),
        case("8 bit and entropy coding", Quantize(bits=8), Entropy()),
    ]  # fmt: skip


def loop(coding: str, places: list[int]) -> list[int]:
    """Places to bits and back as a plain loop writes it, one bit at a time."""
    written = bytearray()
    state = [0, 0]

    def put(bit: int) -> None:
        state[0] = state[0] << 1 | bit
        state[1] += 1
        if state[1] == 8:
            written.append(state[0])
            state[0] = state[1] = 0

    def put_number(number: int, width: int) -> None:
        for shift in range(width - 1, -1, -1):
            put(number >> shift & 1)

    def put_gamma(number: int) -> None:
        width = number.bit_length() - 1
        for _ in range(width):
            put(0)
        put_number(number, width + 1)

    low = rice_bits(len(places), COUNT)
    before = -1
    for place in places:
        gap = place - before
        if coding == "elias_gamma":
            put_gamma(gap)
        elif coding == "elias_delta":
            put_gamma(gap.bit_length())
            put_number(gap, gap.bit_length() - 1)
        elif coding == "rice":
            for _ in range((gap - 1) >> low):
                put(0)
            put(1)
            put_number(gap - 1, low)
        else:
            for _ in range(gap - 1):
                put(0)
            put(1)
        before = place
    for _ in range(-state[1] % 8):
        put(0)
    at = 0

    def take() -> int:
        nonlocal at
        at += 1
        return written[(at - 1) >> 3] >> (7 - (at - 1) % 8) & 1

    def take_unary() -> int:
        zeros = 0
        while not take():
            zeros += 1
        return zeros

    def take_number(first: int, width: int) -> int:
        for _ in range(width):
            first = first << 1 | take()
        return first

    found = []
    before = -1
    for _ in places:
        if coding == "elias_gamma":
            before += take_number(1, take_unary())
        elif coding == "elias_delta":
            before += take_number(1, take_number(1, take_unary()) - 1)
        elif coding == "rice":
            before += (take_unary() << low) + take_number(0, low) + 1
        else:
            before += take_unary() + 1
        found.append(before)
    return found


def measure(case: Case, pairs: int) -> dict[str, str | float | None]:
    """One row."""
    case.netfl()
    case.other()
    repeats = max(1, int(0.02 / timed(case.other, 1)))
    netfl_s, baseline_s = [], []
    for _ in range(pairs if case.limit is not None else max(pairs // 4, 3)):
        netfl_s.append(timed(case.netfl, 1 if repeats == 1 else 5))
        baseline_s.append(timed(case.other, repeats))
    return {
        "case": case.name,
        "baseline": case.baseline,
        "ratio": statistics.median(other / ours for other, ours in zip(baseline_s, netfl_s, strict=True)),
        "netfl_s": statistics.median(netfl_s),
        "baseline_s": statistics.median(baseline_s),
        "payload_bytes": case.payload_bytes,
        "limit": case.limit,
    }


def timed(action: Callable[[], object], repeats: int) -> float:
    """CPU seconds of one run."""
    begin = time.process_time()
    for _ in range(repeats):
        action()
    return (time.process_time() - begin) / repeats


def table(rows: list[dict[str, str | float | None]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| case | bytes | baseline | netfl, ms | baseline, ms | netfl / baseline | limit |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        ratio, limit = float(row["ratio"] or 0), row["limit"]
        asked = "" if limit is None else f"at most {1 / float(limit):.3g}"
        lines.append(
            f"| {row['case']} | {row['payload_bytes']:,} | {row['baseline']} | {1000 * float(row['netfl_s'] or 0):.2f}"
            f" | {1000 * float(row['baseline_s'] or 0):.2f} | {1 / ratio:.3g} | {asked} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.add_argument("--pairs", type=int, default=21, help="interleaved pairs a case with a limit; a quarter of them else")
    parser.add_argument("--markdown", type=Path, help="write the table to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(case, arguments.pairs) for case in cases()]
    if arguments.markdown:
        opening = (
            "# Codecs: encode and decode of 1.6 million parameters\n\n"
            "`python benchmarks/codecs.py --markdown benchmarks/results/codecs.md`: CPU time on one thread, medians of interleaved "
            f"pairs, torch {torch.__version__.split('+')[0]}, numpy {np.__version__}. The last column is what the project asks.\n\n"
        )
        arguments.markdown.write_text(opening + table(rows) + "\n", encoding="utf-8")
    print(json.dumps(rows) if arguments.json else table(rows))


if __name__ == "__main__":
    main()
