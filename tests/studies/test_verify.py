"""Files of finish times: read safely, predicted on their own routes, compared."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from netfl.cli.commands import cli
from netfl.errors import ScenarioError
from netfl.studies import verify as module
from netfl.studies.verify import verify

ORACLES = Path(__file__).parents[1] / "oracles"

# 8 Mbit/s behind 0.1 s: 1 MB from 0 ends at 1.1 s in the fluid; the file says 1.0 s: an error of 10 %. The way back is free: 0.6 s, as the file says.
CASE: dict[str, Any] = {
    "name": "mine",
    "nodes": ["a", "m", "b"],
    "links": [
        {"u": "a", "v": "m", "bandwidth_bps": 8e6, "latency_s": 0.1},
        {"u": "m", "v": "b", "bandwidth_bps": 80e6, "latency_s": 0},
    ],
    "flows": [
        {"src": "a", "dst": "b", "bytes": 1000000, "start_s": 0.0, "route": ["a", "m", "b"], "route_links": [[0, 1], [1, 1]]},
        {"src": "m", "dst": "a", "bytes": 500000, "start_s": 0.0, "route": ["m", "a"]},
    ],
    "finish_s": [1.0, 0.6],
}


def write(folder: Path, case: Any) -> Path:
    path = folder / "case.json"
    path.write_text(case if isinstance(case, str) else json.dumps(case))
    return path


def changed(**changes: Any) -> dict[str, Any]:
    """The case with `links__0__u=...` set; None takes a key away."""
    case = copy.deepcopy(CASE)
    for path, value in changes.items():
        *steps, last = [int(step) if step.isdigit() else step for step in path.split("__")]
        block: Any = case
        for step in steps:
            block = block[step]
        if value is None:
            del block[last]
        else:
            block[last] = value
    return case


def problems(folder: Path, case: Any) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        verify([write(folder, case)])
    return [str(problem).removeprefix(str(folder / "case.json")).removeprefix(": ") for problem in caught.value.problems]


def test_errors_of_a_small_case(tmp_path: Path) -> None:
    (case,) = verify([write(tmp_path, CASE)])
    assert (case.name, case.transport, case.lossy, case.notes) == ("mine", "fluid", False, ())
    assert [flow.predicted_s for flow in case.flows] == pytest.approx([1.1, 0.6])
    assert case.flows[1][:3] == ("m", "a", 0.6)
    assert case.per_flow_mean_error == pytest.approx(0.05)
    assert case.last_flow_error == pytest.approx(0.1)
    assert case.largest_difference_s == pytest.approx(0.1)


def test_without_a_way_the_one_of_least_latency_counts(tmp_path: Path) -> None:
    case = changed(flows__0__route=None, flows__0__route_links=None, flows__1__route=None)
    assert verify([write(tmp_path, case)])[0].flows[0].predicted_s == pytest.approx(1.1)


def test_set_up_counts_where_it_was_measured(tmp_path: Path) -> None:
    # The file's connect_s says that set-up, a round trip of 0.2 s, is part of the times.
    without = verify([write(tmp_path, changed(cc="bbr"))])[0]
    with_it = verify([write(tmp_path, changed(cc="bbr", connect_s=[0.2, 0.2]))])[0]
    assert without.transport == with_it.transport == "tcp bbr"
    for one, other in zip(with_it.flows, without.flows, strict=True):
        assert one.predicted_s == pytest.approx(other.predicted_s + 0.2)


def test_the_transport_can_be_chosen(tmp_path: Path) -> None:
    path = write(tmp_path, changed(cc="reno", links__0__loss_up=0.01))
    fluid, tcp = verify([path], "fluid")[0], verify([path], "tcp")[0]
    assert (fluid.transport, tcp.transport) == ("fluid", "tcp reno")
    assert (fluid.notes, tcp.notes) == (("loss of packets left out: fluid knows none",), ())
    assert fluid.flows[0].predicted_s == pytest.approx(1.1)
    assert verify([write(tmp_path, CASE)], "tcp")[0].notes == ("no congestion control named: cubic",)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("{", "1:2: not JSON"),
        ("[]", "expected one JSON object"),
        ('{"name": 1, "name": 2}', "the key 'name' stands twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"mtu": ' + "9" * 5000 + "}", "not JSON that can be read"),
        ({}, "nodes: expected a list of names, got nothing"),
        (changed(nodes=None) | {"node": ["a"]}, "did you mean 'node'?"),
        (changed(links=[]), "links: expected a list of at least one object, got []"),
        (changed(links__1=7), "links[1]: expected an object, got 7"),
        (changed(links__0__u="x"), 'links[0].u: expected one of the nodes, got "x"'),
        (changed(links__0__bandwidth_bps=0), "links[0].bandwidth_bps: expected bits a second above 0, got 0"),
        (changed(links__0__bandwidth_bps=None), "links[0].bandwidth_bps: missing: expected bits a second above 0"),
        (changed(links__0__latency_s=float("nan")), "links[0].latency_s: expected seconds of at least 0, got NaN"),
        (changed(links__0__latency_s=True), "links[0].latency_s: expected seconds of at least 0, got true"),
        (changed(links__0__loss_up=1), "links[0].loss_up: expected a probability below 1, got 1"),
        (changed(links__1__queue_bytes=-5), "links[1].queue_bytes: expected bytes of at least 0, got -5"),
        (changed(links__1__v="a"), "links: links 'links[0]' and 'links[1]' both join 'a' and 'm'"),
        (changed(nodes=["a", "m", "b", "a"]), "links: expected unique site names, got 'a' 2 times"),
        (changed(flows__0__src="bb"), "did you mean 'b'?"),
        (changed(flows__0__dst="a"), "flows[0]: expected two nodes, got 'a' twice"),
        (changed(flows__0__bytes=1.5), "flows[0].bytes: expected whole bytes, got 1.5"),
        (changed(flows__0__bytes=-1), "flows[0].bytes: expected whole bytes of at least 0, got -1"),
        (changed(flows__0__start_s=-1), "flows[0].start_s: expected seconds of at least 0, got -1"),
        (changed(flows__0__route_links=[[0, 1], [2, 1]]), "flows[0].route_links[1]: expected [place in links, 1 or -1], got [2, 1]"),
        (changed(flows__0__route_links=[[1, 1], [0, 1]]), "flows[0]: its way does not lead from 'a' to 'b' without a gap"),
        (changed(flows__0__route=["a", "b"]), 'flows[0].route: route_links lead over ["a", "m", "b"], got ["a", "b"]'),
        (changed(flows__1__route=["m", "b", "a"]), "flows[1].route: no link joins 'b' and 'a'"),
        (changed(flows__1__src="m", nodes=["a", "m", "b", "alone"], flows__1__dst="alone", flows__1__route=None), "no path of links joins"),
        (changed(finish_s=[1.0]), "finish_s: expected a list of 2 times, one a flow, got a list of 1"),
        (changed(finish_s=[1.0, 0.0]), "finish_s[1]: expected seconds after the flow's start_s, got 0.0"),
        (changed(cc="cubik"), "cc: expected cubic, reno, bbr, got \"cubik\" (did you mean 'cubic'?)"),
        (changed(duplex="both"), "duplex: expected full or half"),
        (changed(mtu=52), "mtu: expected whole bytes above 52"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_every_mistake_has_its_place(tmp_path: Path, case: Any, expected: str) -> None:
    assert any(expected in problem for problem in problems(tmp_path, case)), problems(tmp_path, case)


def test_all_problems_come_at_once_but_not_without_end(tmp_path: Path) -> None:
    found = problems(tmp_path, changed(links__0__latency_s=-1, links__1__bandwidth_bps="fast", cc="x"))
    assert len(found) == 3
    found = problems(tmp_path, CASE | {"links": [{}] * 1000})
    assert len(found) == module.MAX_PROBLEMS + 1
    assert "and 3,980 more problems" in found[-1]


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    for path, expected in ((tmp_path / "none.json", "no such file"), (tmp_path, "a folder"), (tmp_path / "bytes.json", "UTF-8")):
        with pytest.raises(ScenarioError, match=expected):
            verify([path])
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 10)
    with pytest.raises(ScenarioError, match="expected at most 10 bytes"):
        verify([write(tmp_path, CASE)])


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from([10**400, "a", "m", [0, 1], 1e308]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in inside for place in places(each, (*path, key)))]


def test_whatever_stands_there_it_is_a_problem_or_a_prediction(tmp_path: Path) -> None:
    @settings(max_examples=400, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.tuples(st.sampled_from([place for place in places(CASE) if place]), JUNK), min_size=1, max_size=2))
    def check(changes: list[tuple[tuple[Any, ...], Any]]) -> None:
        case = copy.deepcopy(CASE)
        for (*steps, last), value in changes:
            block: Any = case
            try:
                for step in steps:
                    block = block[step]
                block[last] = value
            except (TypeError, KeyError, IndexError):
                return
        try:
            verify([write(tmp_path, case)])
        except ScenarioError as error:
            assert error.problems

    check()


def test_the_command(tmp_path: Path) -> None:
    files = [str(path) for path in sorted((ORACLES / "network").glob("*.json"))]
    done = CliRunner().invoke(cli, ["verify", *files, "--json"])
    document = json.loads(done.stdout)
    assert (done.exit_code, document["schema_version"], document["success"], len(document["cases"])) == (0, 1, True, 6)
    for case in document["cases"]:
        assert case["largest_difference_s"] < 1e-6
        assert {"expected_s", "predicted_s"} <= case["flows"][0].keys()
    done = CliRunner().invoke(cli, ["verify", str(write(tmp_path, changed(links__0__loss_up=0.01))), "--transport", "fluid"])
    assert done.exit_code == 0
    assert "mine [1]" in done.stdout
    assert "10.00%" in done.stdout
    assert "[1] loss of packets left out" in done.stdout
    done = CliRunner().invoke(cli, ["verify", str(write(tmp_path, "{")), "--json"])
    assert done.exit_code == 3
    assert json.loads(done.stdout)["success"] is False
    done = CliRunner().invoke(cli, ["verify", str(tmp_path / "none.json")])
    assert (done.exit_code, done.stdout) == (3, "")
    assert "none.json: no such file" in done.stderr
