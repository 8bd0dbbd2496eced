"""What crosses a cut is sent as the settings say, estimated as it is sent, and answered from what arrives."""

import sqlite3
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netfl import run
from netfl.codecs import Affine, Pipeline, Quantize, Stage, Threshold, TopK, Zstd
from netfl.errors import ScenarioError
from netfl.learning import values
from netfl.learning.data import Digits
from netfl.learning.models import Cnn
from netfl.learning.trainer import Sgd
from netfl.placement import Profile
from netfl.randomness import Streams
from netfl.scenario import load
from netfl.scenario.build import prepare
from netfl.store import Store
from netfl.workloads.crossing import Crossing
from netfl.workloads.inference import Answers, infer, profile_of, served
from tests.workloads.small import serving_only

STREAMS = Streams(seed=3)
MODEL = Cnn(channels=(4, 8))
STORE = Store()


@cache
def trained() -> tuple[Any, Any, Any, Profile]:
    data = values.dataset(Digits(), STREAMS.stream("data"))
    start = values.initial_model(MODEL, data, STREAMS.stream("initial"))
    trainer = Sgd(learning_rate=0.1, batch_size=16, epochs=4)
    model = values.total(start, values.fit(values.cohort(trainer, MODEL, data, STREAMS.stream("fit")), start))
    profile = profile_of(MODEL, data)
    return data, model, profile, STORE.force(profile)


def answers(cut: int, activations: tuple[Stage, ...], inputs: tuple[Stage, ...] | None = None, input_bytes: int | None = None) -> Answers:
    data, model, profile, _ = trained()
    weights = served(Pipeline(()), profile, model, STREAMS.stream("served"))
    crossing = Crossing(activations=Pipeline(activations), inputs=None if inputs is None else Pipeline(inputs), input_bytes=input_bytes)
    found: Answers = STORE.force(infer(MODEL, data, profile, (cut,), (), weights, crossing, STREAMS.stream("activations")))
    return found


CODECS: dict[str, tuple[Stage, ...]] = {
    "float32": (),
    **{f"quantize {bits}": (Quantize(bits=bits, stochastic=False),) for bits in (8, 4, 2)},
    **{f"affine {bits} a tensor": (Affine(bits=bits),) for bits in (8, 4, 2)},
    **{f"affine {bits} a channel": (Affine(bits=bits, per="channel"),) for bits in (8, 4, 2)},
    "topk": (TopK(fraction=0.25),),
    "topk 8 bit": (TopK(fraction=0.25), Quantize(bits=8, stochastic=False)),
}


@pytest.mark.parametrize("cut", [1, 3])
@pytest.mark.parametrize("name", sorted(CODECS))
def test_planners_know_the_length_of_every_codec_of_closed_form(name: str, cut: int) -> None:
    crossing = Crossing(activations=Pipeline(CODECS[name]))
    profile = trained()[3]
    (crosses,) = profile.crossing(cut)
    expected = crossing.reckoned_bytes(profile.nodes[profile.index[crosses]])
    assert answers(cut, CODECS[name]).payload_bytes.tolist() == [[expected] * 359]


def test_a_channel_is_one_of_the_tensors_own() -> None:
    # Four feature maps of 8 x 8: a scale and a zero point each, 8 bytes, and 256 values in 4 bits.
    profile = trained()[3]
    assert profile.nodes[2].output_shape == (4, 8, 8)
    crossing = Crossing(activations=Pipeline((Affine(bits=4, per="channel"),)))
    assert crossing.stated_bytes(profile.nodes[2]) == 4 + 4 * 8 + 128


def test_accuracy_is_that_of_what_was_executed() -> None:
    data, model, _, _ = trained()
    whole = STORE.force(values.evaluate(MODEL, model, data)).accuracy
    assert whole > 0.85
    # Nothing is lost in float32, with zstd or without: every answer is the same, and zstd saves bytes where half the values are 0.
    plain, packed = answers(3, ()), answers(3, (Zstd(),))
    assert plain.correct.mean() == pytest.approx(whole)
    assert np.array_equal(plain.correct, packed.correct)
    assert packed.payload_bytes.mean() < 0.8 * plain.payload_bytes.mean()
    # 8 bits change next to nothing; 2 bits behind the first convolution cost much, and less with a scale a channel.
    accuracy = {name: float(answers(2, stages).correct.mean()) for name, stages in CODECS.items()}
    assert accuracy["quantize 8"] == pytest.approx(whole, abs=0.01)
    assert accuracy["quantize 2"] < whole - 0.1
    assert accuracy["affine 2 a channel"] > accuracy["affine 2 a tensor"] + 0.01


def test_an_input_has_codecs_of_its_own_and_other_tensors_theirs() -> None:
    coarse, fine = (Quantize(bits=1, stochastic=False),), (Quantize(bits=8, stochastic=False),)
    # 64 values in a bit each, two float32 ends, a count; the other way round 64 bytes in place of 8.
    assert answers(1, fine, coarse).payload_bytes[0, 0] == 4 + 8 + 8
    assert answers(1, coarse, fine).payload_bytes[0, 0] == 4 + 8 + 64
    assert answers(1, fine, coarse).correct.mean() < answers(1, coarse, fine).correct.mean() - 0.02
    # Behind the first layer the input does not cross any more.
    assert np.array_equal(answers(3, fine, coarse).correct, answers(3, fine).correct)
    assert np.array_equal(answers(1, fine, fine).correct, answers(1, fine).correct)


def test_an_input_in_an_encoding_of_its_own_arrives_as_it_is() -> None:
    sent = answers(1, (Quantize(bits=1),), input_bytes=20_000)
    assert set(sent.payload_bytes[0]) == {20_000}
    assert np.array_equal(sent.correct, answers(1, ()).correct)


def test_what_depends_on_the_values_is_left_out_of_the_reckoning() -> None:
    node = trained()[3].nodes[2]
    assert Crossing(activations=Pipeline((Zstd(),))).reckoned_bytes(node) == 4 + 4 * 256
    sparse = Crossing(activations=Pipeline((Threshold(least=0.1), Quantize(bits=8), Zstd())))
    assert sparse.reckoned_bytes(node) == 4 + 8 + 256


def rows(folder: Path, query: str) -> list[Any]:
    with sqlite3.connect(folder / "run.db") as connection:
        return connection.execute(query).fetchall()


def planned(scenario: dict[str, Any]) -> Any:
    bench = prepare(load(scenario))
    workload: Any = bench.loaded.scenario.workloads["serving"]
    return workload.first_plan(bench.session(None), "node-1")


def test_a_request_takes_what_was_added_up_with_its_input_decoded_at_the_server(tmp_path: Path) -> None:
    scenario = serving_only(
        serving__placement={"kind": "upload"}, serving__sources=["node-1"], serving__input_bytes="3 kB", serving__input_decode_flop=5e9,
        serving__arrivals={"kind": "poisson", "rate": "0.05 per s"}, stop={"after": "3 min"},
    )  # fmt: skip
    expected_s = planned(scenario).estimate_s
    bare = serving_only(serving__placement={"kind": "upload"}, serving__sources=["node-1"], serving__input_bytes="3 kB")
    rate = prepare(load(scenario)).session(None).world.profile("cloud").inference_flop_per_s
    assert expected_s == pytest.approx(planned(bare).estimate_s + 5e9 / rate, rel=1e-9)
    run(scenario, output=tmp_path / "out")
    latencies = rows(tmp_path / "out", "SELECT end_s - arrival_s FROM requests WHERE outcome = 'answered'")
    assert len(latencies) > 3
    assert [latency_s for (latency_s,) in latencies] == pytest.approx([expected_s] * len(latencies), rel=1e-9)
    assert set(rows(tmp_path / "out", "SELECT kind, payload_bytes FROM transfers WHERE kind = 'request'")) == {("request", 3000)}


def test_the_encoding_of_the_input_decides_where_a_model_runs() -> None:
    """Trap 5 in a scenario: the same model and links, and only the input's bytes differ: 260 in float32, 20 in a bit a value."""

    def computing(**changes: Any) -> list[str]:
        model = {"kind": "cnn", "channels": [2, 64, 96]}
        scenario = serving_only(serving__activations=[], serving__placement={"kind": "mincut"}, model=model, **changes)
        scenario["topology"]["devices"]["node-{1..4}"]["profile"] = "cortex-m4"
        return [device for device, start, stop in planned(scenario).pieces if stop > max(start, 1)]

    assert computing() == ["node-1", "gateway"]
    assert computing(serving__inputs=[{"kind": "quantize", "bits": 1}]) == ["gateway"]


def test_inputs_whose_length_depends_on_them_are_tried() -> None:
    scenario = serving_only(serving__inputs=[{"kind": "threshold", "least": 0.3}])
    session = prepare(load(scenario)).session(None)
    workload: Any = load(scenario).scenario.workloads["serving"]
    found = workload.profile(session).nodes[0].wire_bytes
    data = session.store.force(session.task.dataset)
    pipeline = Pipeline((Threshold(least=0.3),))
    lengths = [len(pipeline.encode(sample.reshape(-1), np.random.default_rng(0))) for sample in data.test_inputs[:256]]
    assert found == -(-sum(lengths) // 256)
    assert found < 4 + 4 * 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"serving__inputs": [{"kind": "zstd"}], "serving__input_bytes": "3 kB"}, "expected one of `inputs`"),
        ({"serving__inputs": [{"kind": "zstd"}, {"kind": "quantize", "bits": 8}]}, "inputs: codec stage"),
        ({"serving__input_bytes": "0 B"}, "input_bytes"),
        ({"serving__input_decode_flop": -1.0}, "input_decode_flop"),
    ],
)
def test_mistakes_are_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load(serving_only(**changes))
    assert message in str(caught.value)
