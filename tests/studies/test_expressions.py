"""The expression language: what it means, and where it says that something is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netfl.errors import ScenarioError
from netfl.studies.expressions import NOT_REACHED, Expression

VALUES = {
    "rounds": 3,
    "topology.links.edge-cloud.rate": "10 Mbit/s",
    "accuracy": 0.93,
    "time": NOT_REACHED,
    "p95_s": 0.2,
    "kind": "fedavg",
    "codecs": [],
    "flag": True,
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rounds >= 3", True),
        ("rounds*2 - 1 == 5", True),
        ("2 + 3 * 4 == 14", True),
        ("-rounds < -2", True),
        ("8 / 2 / 2 == 2", True),
        ("1 < rounds < 3", False),
        ("not rounds == 3 or flag", True),
        ("not (rounds == 3 or flag)", False),
        ("rounds in [1, 2, 3]", True),
        ("kind == 'fedavg' and kind != \"fedprox\"", True),
        ("codecs == []", True),
        ("max(rounds, 7, 5) == 7 and min(1, 2) == 1 and abs(-2) == 2", True),
        # A name with a dash where one exists; a text with a unit against a quantity of another prefix.
        ("topology.links.edge-cloud.rate < 12 Mbit/s", True),
        ("`topology.links.edge-cloud.rate` == 10000 kbit/s", True),
        ("topology.links.edge-cloud.rate == 1.25 MB/s", True),
        # A figure in seconds against a quantity.
        ("p95_s > 150 ms", True),
        ("p95_s > 1 min", False),
        # What was not reached is later than every time.
        ("time > 1000 h", True),
        ("flag == true and flag != false", True),
        ("flag == 1", False),
    ],
)
def test_means(text: str, expected: bool) -> None:
    assert Expression.parse(text, VALUES, "--fail-if").is_true(VALUES) is expected


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("accuracyy < 1", 1, "did you mean 'accuracy'?"),
        ("rounds = 3", 8, "equality is written `==`"),
        ("rounds < 3 and (accuracy > 1", 16, "never closed"),
        ("rounds <", 9, "expected a value, got the end"),
        ("", 1, "got nothing"),
        ("rounds", 1, "true or false"),
        ("kind < 3", 1, "expected a number"),
        ("3 < 1 / (rounds - 3)", 7, "division by 0"),
        ("rounds == 3 rounds", 13, "expected `and`, `or` or the end"),
        ("rounds and flag", 1, "expected true or false"),
        ("flag and sqrt(2) > 1", 10, "no function 'sqrt'"),
        ("'open", 1, "never closed"),
        ("rounds in 3", 11, "expected a list"),
        ("__import__('os') == 1", 1, "no function '__import__'"),
        ("rounds.__class__ == 1", 1, "unknown name"),
        ("(" * 60 + "1" + ")" * 60, 51, "nested deeper"),
        ("1 == 1 " * 400, 0, "at most 2,000 characters"),
    ],
)
def test_says_where(text: str, column: int, message: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        Expression.parse(text, VALUES, "--fail-if").is_true(VALUES)
    (problem,) = caught.value.problems
    assert problem.file == "--fail-if"
    assert problem.column == column
    assert message in str(problem)


@given(st.text(alphabet="rounds<>=!+-*/() [],.'`12 andortime_Mbit/s", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        Expression.parse(text, VALUES, "x").is_true(VALUES)
    except ScenarioError as error:
        assert 0 <= error.problems[0].column <= len(text) + 1
