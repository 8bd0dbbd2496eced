"""When requests come."""

from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from netfl import run
from netfl.errors import ScenarioError
from netfl.randomness import Streams
from netfl.workloads.arrivals import Periodic, TraceArrivals
from tests.workloads.small import serving_only

STREAM = Streams(1, 0).stream("arrivals", "x")


def test_periodic_arrivals_keep_their_beat() -> None:
    times_s = list(islice(Periodic(every=0.1).times_s(STREAM), 1000))
    assert 0 <= times_s[0] < 0.1
    # Counted, not added up: the thousandth comes 99.9 s after the first, to the last bit that a sum keeps.
    assert times_s[-1] == times_s[0] + 999 * 0.1
    assert all(second - first == pytest.approx(0.1) for first, second in pairwise(times_s))
    assert list(islice(Periodic(every=2.0, together=True).times_s(STREAM), 3)) == [0.0, 2.0, 4.0]


def test_a_trace_for_all_and_one_by_device(tmp_path: Path) -> None:
    file = tmp_path / "arrivals.csv"
    file.write_text("# by hand\nseconds,device\n0.5,node-1\n1,\n1.5,node-2\n\n2,node-1\n")
    found = TraceArrivals(file=str(file))
    assert list(found.times_s(STREAM, "node-1")) == [0.5, 1.0, 2.0]
    assert list(found.times_s(STREAM, "node-3")) == [1.0]
    assert found.devices == ["node-1", "node-2"]
    # From 1.2 s on, and anew every 3 s: 2.0 - 1.2, then 0.5, 1 and 2 + 3 - 1.2, and so on.
    again = TraceArrivals(file=str(file), offset=1.2, repeat_every=3.0).times_s(STREAM, "node-1")
    assert list(islice(again, 4)) == pytest.approx([0.8, 2.3, 2.8, 3.8])


def test_a_scenario_with_a_trace(tmp_path: Path) -> None:
    (tmp_path / "arrivals.csv").write_text("0.1\n0.2,node-3\n0.3\n")
    scenario = serving_only(serving__arrivals={"kind": "trace", "file": str(tmp_path / "arrivals.csv")}, stop={"after": "2 s"})
    # Two lines for each of four nodes, and one for node-3.
    assert run(scenario).metrics["serving"]["serving"]["requests"] == 9
    (tmp_path / "arrivals.csv").write_text("0.1,node-9\n")
    with pytest.raises(ScenarioError, match="'node-9' asks there and is no source here"):
        run(scenario)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no arrivals"),
        ("time\n", "holds no arrivals"),
        ("1\n0.5\n", r"arrivals.csv:2: expected a time of at least 1.0 s, got 0.5"),
        ("-1\n", r"arrivals.csv:1: expected a time of at least 0 s, got '-1'"),
        ("1\nsoon\n", r"arrivals.csv:2: expected a time of at least 0 s, got 'soon'"),
        ("nan\n", r"arrivals.csv:1: expected a time of at least 0 s, got 'nan'"),
        ("1,node-1,x\n", r"arrivals.csv:1: expected 'seconds' or 'seconds,device'"),
    ],
)
def test_bad_traces_are_told_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "arrivals.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        TraceArrivals(file=str(tmp_path / "arrivals.csv"))


@pytest.mark.parametrize(
    ("arrivals", "message"),
    [
        ({"kind": "periodic", "every": "0 s"}, "every: expected a duration greater than 0"),
        ({"kind": "trace", "file": "nowhere.csv"}, "cannot be read"),
        ({"kind": "trace", "file": "{here}", "repeat_every": "1 s"}, "no shorter than the last time"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, arrivals: dict[str, Any], message: str) -> None:
    (tmp_path / "a.csv").write_text("5\n")
    with pytest.raises(ScenarioError, match=message):
        run(serving_only(serving__arrivals={key: value.format(here=tmp_path / "a.csv") for key, value in arrivals.items()}))
