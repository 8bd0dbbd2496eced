"""Contract tests for parts: the ones that the project runs on its own, for parts from outside."""

from __future__ import annotations

import math
import pickle
import struct
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from netfl.codecs import Pipeline, Stage, Vector, encode_with_feedback
from netfl.errors import CodecError, NetflError
from netfl.learning.aggregators import Aggregated, Aggregator, Contributions
from netfl.placement import Hop, Node, Path, Placement, Profile, Tier, estimate
from netfl.placement.plan import memory_shortages
from netfl.placement.planners import Planner
from netfl.placement.planners.chain import Chain
from netfl.placement.planners.problem import problem_of
from netfl.randomness import Streams

__all__ = ["check_aggregator", "check_codec", "check_planner"]

_Result = TypeVar("_Result")


def check_codec(
    codec: Pipeline | Stage,
    *,
    counts: Sequence[int] = (0, 1, 7, 8, 9, 1000),
    fuzz: int = 100,
    draws: int = 400,
    seed: int = 0,
) -> None:
    """Check that a pipeline, or a stage alone, keeps the contract of `Pipeline`.

    Its decoder uses only the bytes and the settings; the length that it states is the length that it makes; its error is within
    its bound; equal generators give equal bytes; the input stays as it is; what it says of its mean is so, within 4 standard
    errors of each value and of the mean of all; error feedback neither loses nor makes anything; bytes that no encoder made
    raise CodecError and nothing else, and take no more memory than the vector and the bytes account for.

    Args:
        codec: what to check.
        counts: lengths of the vectors to try; each is tried with several kinds of values. A pipeline with shapes is tried with
            vectors of its tensors alone.
        fuzz: how many changed payloads to decode for each vector.
        draws: how many encodings the mean is taken of, if the codec says that it is right.
        seed: of the values and the changes.

    Raises:
        AssertionError: a sentence that says which law broke, for what vector.
    """
    pipeline = codec if isinstance(codec, Pipeline) else Pipeline((codec,))
    if pipeline.shapes:
        counts = (sum(math.prod(shape) for shape in pipeline.shapes),)
    receiver = pickle.loads(pickle.dumps(pipeline))
    generator = np.random.default_rng(seed)
    for count in counts:
        for kind, values in _vectors(count, generator):
            _check_vector(pipeline, receiver, values, f"a vector of {count} values ({kind})", seed)
        normal = generator.normal(size=count).astype(np.float32)
        _check_feedback(pipeline, normal, f"a vector of {count} values (normal)", seed)
        payload = pipeline.encode(normal, generator)
        for wrong in _wrong_payloads(payload, generator, fuzz):
            _check_wrong(receiver, wrong)
            _check_memory(receiver, wrong, count)
    up_to = pipeline.unbiased_up_to
    if up_to is not None and not pipeline.lossless:
        _check_mean(pipeline, up_to, counts[0] if pipeline.shapes else 64, draws, generator)


def _vectors(count: int, generator: np.random.Generator) -> Iterator[tuple[str, Vector]]:
    normal = generator.normal(size=count).astype(np.float32)
    yield "normal", normal
    yield "all 0", np.zeros(count, np.float32)
    yield "all equal", np.full(count, -2.5, np.float32)
    yield "mostly 0", np.where(generator.random(count) < 0.9, np.float32(0), normal)
    yield "tiny", normal * np.float32(1e-40)
    yield "huge", np.clip(normal, -3, 3) * np.float32(1e38)


def _check_vector(pipeline: Pipeline, receiver: Pipeline, values: Vector, what: str, seed: int) -> None:
    given = values.copy()
    payload = _attempt("encode must take", what, lambda: pipeline.encode(values, np.random.default_rng(seed)))
    assert isinstance(payload, bytes), f"encode must return bytes, but returned {type(payload).__name__} for {what}"
    assert values.tobytes() == given.tobytes(), f"encode must leave its input as it is, but changed {what}"
    again = pipeline.encode(values, np.random.default_rng(seed))
    assert payload == again, f"equal generators must give equal bytes, but two encodings of {what} differ"
    stated = pipeline.encoded_bytes(len(values))
    assert stated in (None, len(payload)), f"encoded_bytes stated {stated} bytes for {what}, but encode made {len(payload)}"
    decoded = _attempt("decode must read what encode made of", what, lambda: receiver.decode(payload))
    shape_and_type = f"{decoded.dtype} of shape {decoded.shape}"
    assert decoded.dtype == np.float32 and decoded.shape == values.shape, f"decode must return {what}, but gave {shape_and_type}"
    assert decoded.tobytes() == receiver.decode(payload).tobytes(), f"decode gave two results for the same bytes of {what}"
    if pipeline.lossless:
        assert decoded.tobytes() == values.tobytes(), f"a lossless pipeline must give back {what} bit for bit, but did not"
    bound = pipeline.error_bound(values, np.random.default_rng(seed))
    if bound is not None and len(values):
        error = float(np.abs(decoded.astype(np.float64) - values.astype(np.float64)).max())
        assert error <= bound, f"the error must be at most {bound} for {what}, but was {error}"


def _check_mean(pipeline: Pipeline, up_to: float, count: int, draws: int, generator: np.random.Generator) -> None:
    """The mean of many encodings is the vector, value by value and over all values.

    Beside 4 standard errors stands the other term of Bernstein's inequality, for values that change rarely and then much.
    """
    magnitude = min(up_to, 2.0)
    values = np.clip(generator.normal(size=count) * magnitude / 2, -magnitude, magnitude).astype(np.float32)
    errors_DN = np.stack([pipeline.decode(pipeline.encode(values, generator)) for _ in range(draws)]).astype(np.float64) - values
    for errors_DX, what in ((errors_DN, "each value"), (errors_DN.mean(axis=1, keepdims=True), "the mean of all values")):
        standard_errors_X = errors_DX.std(axis=0, ddof=1) / math.sqrt(draws)
        rare = 4**2 / 3 * float(np.abs(errors_DX).max(initial=0.0)) / draws
        off_X = np.abs(errors_DX.mean(axis=0))
        assert (off_X <= 4 * standard_errors_X + rare + 1e-6 * magnitude).all(), (
            f"the codec states that the mean of its results is the value, but over {draws} encodings {what} is off: "
            f"{float(off_X.max())} at most, with standard errors of {float(standard_errors_X.max())} at most"
        )


def _check_feedback(pipeline: Pipeline, values: Vector, what: str, seed: int) -> None:
    """What was sent, without the noise of a release, and what is owed make up what was put in."""
    count = len(values)
    put_in, sent = np.zeros(count), np.zeros(count)
    velocity = np.zeros(count, np.float32)
    residual: Vector | None = None
    largest = 0.0
    for round_ in range(3):
        encoded = encode_with_feedback(pipeline, values, residual, np.random.default_rng((seed, round_)))
        made = pipeline.encode_fully(encoded.input[:count], np.random.default_rng((seed, round_)))
        assert made.payload == encoded.payload, f"error feedback must encode its input, but did not for {what}"
        residual = encoded.residual
        velocity = np.float32(pipeline.momentum or 0.0) * velocity + values
        put_in += velocity
        velocity = residual[count:] if pipeline.momentum is not None else velocity
        sent += made.sent
        largest = max(largest, *(float(np.abs(each).max(initial=0.0)) for each in (encoded.input, residual, made.sent)))
        off = float(np.abs(sent + residual[:count] - put_in).max(initial=0.0))
        assert off <= 32 * largest * 2.0**-24, (
            f"what was sent and what is owed must make up what was put in, but differ by {off} for {what}"
        )


def _check_memory(receiver: Pipeline, data: bytes, count: int) -> None:
    """A receiver that knows the count takes memory for that many values and for the bytes that came, whatever they say."""
    limit = 2**20 + 512 * (count + len(data))
    tracemalloc.start()
    try:
        receiver.decode(data, count)
    except CodecError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak <= limit, f"decode took {peak} bytes of memory for {len(data)} bytes that may hold {count} values: {data[:40].hex()}..."


def _attempt(law: str, what: str, action: Callable[[], _Result]) -> _Result:
    try:
        return action()
    except Exception as error:
        raise AssertionError(f"{law} {what}, but raised {error!r}") from error


def _wrong_payloads(payload: bytes, generator: np.random.Generator, fuzz: int) -> Iterator[bytes]:
    yield b""
    yield payload[:-1]
    yield payload + b"\0"
    yield struct.pack("<I", 2**32 - 1) + payload[4:]
    yield struct.pack("<I", 2**28) + payload[4:]
    for _ in range(fuzz):
        changed = bytearray(payload)
        for place in generator.integers(0, len(payload), size=int(generator.integers(1, 4))):
            changed[place] = int(generator.integers(256))
        yield bytes(changed)
        yield payload[: int(generator.integers(len(payload)))]
        yield payload[:4] + generator.bytes(len(payload) - 4)
        yield generator.bytes(int(generator.integers(64)))


def _check_wrong(receiver: Pipeline, data: bytes) -> None:
    """Changed bytes may stand for another vector; anything else must be a CodecError."""
    shown = f"{len(data)} bytes {data[:40].hex()}..."
    try:
        decoded = receiver.decode(data)
    except CodecError:
        return
    except Exception as error:
        raise AssertionError(f"decode must raise CodecError on wrong bytes, but raised {error!r} on {shown}") from error
    stated = receiver.encoded_bytes(len(decoded))
    assert stated in (None, len(data)), f"decode took {shown}, but {len(decoded)} values are {stated} bytes"


def check_planner(planner: Planner, *, cases: int = 60, seed: int = 0) -> None:
    """Check that a planner keeps the contract of `Planner`, on random models and paths of one to four devices, some with tight memory.

    Some profiles say what each output is on a wire and what decoding an input takes, as those of serving workloads all do.

    Its placement is one of that profile and path, in which no data flows back and every piece fits; its estimate is what the placement
    takes; equal arguments give equal placements; what it cannot place raises NetflError and nothing else; a gap of 0 is claimed only where
    no prefix cut that fits is faster by the planner's estimate, unless the planner has an `objective` other than latency.

    Args:
        planner: what to check.
        cases: how many models and paths.
        seed: of these.

    Raises:
        AssertionError: a sentence that says which law broke, for which case.
    """
    generator = np.random.default_rng(seed)
    for number in range(cases):
        profile, path = _random_profile(generator), _random_path(generator, 1 + number % 4, tight=number % 3 == 2)
        if number % 5 > 2:
            profile = profile.as_sent(lambda node: 30 if node.op == "input" else 5 + node.output_values // 2, decode_flop=1e6)
        _check_plan(planner, profile, path, f"case {number} (seed {seed}): {len(profile.nodes)} nodes on {len(path.tiers)} devices")


def _check_plan(planner: Planner, profile: Profile, path: Path, what: str) -> None:
    def encoded_bytes(values: int) -> int:
        return 9 + values

    def plan() -> Placement | None:
        try:
            return planner.plan(profile, path, encoded_bytes, 40)
        except NetflError:
            return None
        except Exception as error:
            raise AssertionError(f"a planner must place or raise NetflError, but raised {error!r} on {what}") from error

    placement = plan()
    assert placement == plan(), f"equal arguments must give equal placements, but two differ on {what}"
    if placement is None:
        return
    assert isinstance(placement, Placement), f"a planner must return a Placement, but returned {type(placement).__name__} on {what}"
    assert placement.devices == path.devices, f"the devices must be the path's, but are {placement.devices} on {what}"
    assert placement.nodes == len(profile.nodes), (
        f"the placement must be of {len(profile.nodes)} nodes, but is of {placement.nodes} on {what}"
    )
    problem = problem_of(profile, path, encoded_bytes, 40)
    try:
        problem.check(placement.labels)
        placed = placement.arranged(profile)
        took = estimate(placed, path, placement.cuts, encoded_bytes, 40)
    except ValueError as error:
        raise AssertionError(f"the placement {placement} is none: {error}, on {what}") from error
    assert not any(memory_shortages(placed, path, placement.cuts)), (
        f"every piece must fit its memory, but {placement.describe()} does not, on {what}"
    )
    close = abs(placement.estimate_s - took.total_s) <= 1e-9 * max(took.total_s, 1e-9)
    assert close, f"the estimate must be what the placement takes, {took.total_s} s, but is {placement.estimate_s} s, on {what}"
    if placement.gap == 0 and getattr(planner, "objective", "latency") == "latency" and getattr(planner, "deadline", None) is None:
        best = Chain().plan(profile, path, encoded_bytes, 40)
        assert placement.estimate_s <= best.estimate_s * (1 + 1e-6), f"a gap of 0 was claimed, but {best.describe()} is faster, on {what}"


def _random_profile(generator: np.random.Generator) -> Profile:
    values = int(generator.integers(1, 1000))
    nodes = [
        Node(
            name="n0", op="input", predecessors=(), flop=0.0, moved_bytes=0.0, output_values=values, output_shape=(values,),
            parameter_bytes=0, parameters=(),
        )
    ]  # fmt: skip
    first = values
    for place in range(1, int(generator.integers(2, 12))):
        reads = sorted({*generator.integers(0, place, size=int(generator.integers(1, 3))).tolist()})
        values = int(generator.integers(1, 1000))
        start = 100 * int(generator.integers(0, 12))
        nodes.append(
            Node(
                name=f"n{place}", op="op", predecessors=tuple(f"n{read}" for read in reads), flop=float(generator.integers(0, 10**7)),
                moved_bytes=float(generator.integers(1, 10**6)), output_values=values, output_shape=(values,),
                parameter_bytes=400, parameters=((start, start + 100),),
            )
        )  # fmt: skip
    return Profile(nodes=tuple(nodes), sample_shape=(first,))


def _random_path(generator: np.random.Generator, tiers: int, *, tight: bool) -> Path:
    return Path(
        tiers=tuple(
            Tier(
                device=f"device {k}",
                flop_per_s=float(10 ** generator.uniform(6, 9)),
                memory_bytes_per_s=float(10 ** generator.uniform(6, 9)),
                overhead_s=float(generator.choice([0.0, 0.01, 0.5])),
                memory_bytes=int(generator.integers(5000, 30000)) if tight else 10**6,
            )
            for k in range(tiers)
        ),
        hops=tuple(
            Hop(latency_s=float(generator.uniform(0, 0.1)), up_bps=float(10 ** generator.uniform(4, 7)), down_bps=1e6)
            for _ in range(tiers - 1)
        ),
    )


def check_aggregator(
    aggregator: Aggregator, *, counts: Sequence[int] = (1, 4, 11), length: int = 57, rounds: int = 3, seed: int = 0
) -> None:
    """Check that an aggregator keeps the contract of `netfl.learning.aggregators.Aggregator`.

    It is a pure function: equal arguments give equal bits, in this process and after pickling, and stay as they are. The model and
    its state are float32 vectors of the model's length. Clients' order moves the result by rounding alone. Fewer updates than it
    says it needs, and arguments that do not belong together, raise ValueError.

    Args:
        aggregator: what to check.
        counts: numbers of updates to try, beyond the least that it needs.
        length: of the model.
        rounds: how many aggregations follow each other, each with the state of the one before.
        seed: of the values.

    Raises:
        AssertionError: a sentence that says which law broke, for what.
    """
    least = aggregator.least_updates
    assert least >= 1, f"least_updates must be at least 1, but is {least}"
    hash(aggregator)
    generator = np.random.default_rng(seed)
    twin = pickle.loads(pickle.dumps(aggregator))
    assert twin == aggregator, "an aggregator must be equal to its pickled self: it is part of recipes"
    for count in sorted({least, *(each for each in counts if each >= least)}):
        model = generator.normal(size=length).astype(np.float32)
        state: Mapping[str, Vector] = {}
        for round_ in range(rounds):
            given = _contributions(aggregator, count, length, generator, seed + round_)
            what = f"{count} updates, aggregation {round_ + 1}"
            made = _check_aggregation(aggregator, twin, model, state, given, what)
            model, state = made.model, made.state
    few = _contributions(aggregator, least, length, generator, seed)
    _check_refused(aggregator, length, replace(few, num_samples=few.num_samples[1:]), "one number of samples too few")
    _check_refused(aggregator, length + 1, few, "updates shorter than the model")
    short = replace(
        few, updates=few.updates[1:], num_samples=few.num_samples[1:], steps=few.steps[1:], controls=few.controls[1:],
    )  # fmt: skip
    _check_refused(aggregator, length, short, f"{least - 1} updates, where it says that it needs {least}")


def _contributions(aggregator: Aggregator, count: int, length: int, generator: np.random.Generator, seed: int) -> Contributions:
    vectors = generator.normal(size=(2, count, length)).astype(np.float32)
    return Contributions(
        updates=list(vectors[0]),
        num_samples=[int(number) for number in generator.integers(1, 100, size=count)],
        steps=[int(number) for number in generator.integers(1, 20, size=count)],
        controls=list(vectors[1]) if aggregator.uses_controls else (),
        num_clients=count + 3,
        stream=Streams(seed).stream("check") if aggregator.draws else None,
    )


def _check_aggregation(
    aggregator: Aggregator, twin: Aggregator, model: Vector, state: Mapping[str, Vector], given: Contributions, what: str
) -> Aggregated:
    """One aggregation, and the same again, and with the clients in another order."""

    def call(made_by: Aggregator, contributions: Contributions) -> Aggregated:
        return _attempt("aggregate must take", what, lambda: made_by.aggregate(model, state, contributions))

    before = [vector.tobytes() for vector in (model, *state.values(), *given.updates, *given.controls)]
    made = call(aggregator, given)
    after = [vector.tobytes() for vector in (model, *state.values(), *given.updates, *given.controls)]
    assert before == after, f"aggregate must leave its arguments as they are, but changed some ({what})"
    again = call(twin, given)
    names = sorted(made.state)
    assert names == sorted(again.state), f"two aggregations kept different states ({what}): {names}, {sorted(again.state)}"
    assert aggregator.remembers or not names, f"an aggregator that keeps a state must say that it remembers, but kept {names} ({what})"
    assert not aggregator.uses_controls or "control" in names, f"an aggregator with controls must keep `control`, but kept {names}"
    for name, vector, other in [("model", made.model, again.model), *((name, made.state[name], again.state[name]) for name in names)]:
        shape_and_type = f"{vector.dtype} of shape {vector.shape}"
        assert vector.dtype == np.float32 and vector.shape == model.shape, f"{name} must be float32 of {model.shape}, not {shape_and_type}"
        assert np.isfinite(vector).all(), f"{name} must be finite for finite updates ({what})"
        assert vector.tobytes() == other.tobytes(), f"equal arguments must give equal bits, but {name} differs ({what})"
    order = list(range(len(given.updates)))[::-1]
    turned = replace(
        given,
        updates=[given.updates[index] for index in order],
        num_samples=[given.num_samples[index] for index in order],
        steps=[given.steps[index] for index in order],
        controls=[given.controls[index] for index in order] if given.controls else (),
    )
    error = float(np.abs(call(aggregator, turned).model - made.model).max())
    assert error <= 1e-4, f"the clients' order must not matter, but it moves the model by {error:g} ({what})"
    return made


def _check_refused(aggregator: Aggregator, length: int, given: Contributions, what: str) -> None:
    try:
        aggregator.aggregate(np.zeros(length, np.float32), {}, given)
    except ValueError:
        return
    except Exception as error:
        raise AssertionError(f"aggregate must raise ValueError for {what}, but raised {error!r}") from error
    raise AssertionError(f"aggregate must raise ValueError for {what}, but took it")
