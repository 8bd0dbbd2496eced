"""A model that was trained before the run and has lost its way is told, where its numbers are first needed."""

import re
from pathlib import Path
from typing import Any

import pytest

from netfl import run
from netfl.errors import RunError, ScenarioError
from netfl.store import Disk, Store
from tests.workloads import test_cooperative, test_early_exit
from tests.workloads.small import serving_only

WILD = {"kind": "sgd", "learning_rate": 1e20, "epochs": 3}
"""The first step's gradients are finite, the losses after it are not."""
TAME = {"kind": "sgd", "learning_rate": 0.1}
WILD_PRUNED = {"kind": "pruned", "model": {"kind": "cnn", "channels": [4, 8]}, "keep": [2, 4], "pretraining": WILD}


def upload(**changes: Any) -> dict[str, Any]:
    """Samples are sent to the server, which answers; nothing has a codec."""
    made = serving_only(stop={"after": "2 s"}, data={"source": {"kind": "digits", "limit": 200, "test_limit": 50}})
    made["workloads"]["serving"] = {
        "kind": "requests", "arrivals": {"kind": "poisson", "rate": "5 per s"}, "placement": "upload", **changes,
    }  # fmt: skip
    return made


def distilled(**changes: Any) -> dict[str, Any]:
    settings = {"kind": "distilled", "teacher": {"kind": "mlp", "hidden": [8]}, "lessons": {"kind": "real"}, "teacher_trainer": TAME}
    return upload(pretrained={**settings, **changes})


def said_of(found: str, what: str, trainer: str) -> bool:
    return bool(
        re.fullmatch(
            rf"workload 'serving': the loss of {what} is (nan|inf): its training has diverged; "
            rf"lower `workloads.serving.{trainer}.learning_rate`, or set a low `workloads.serving.{trainer}.clip_norm`",
            found,
        )
    )


@pytest.mark.parametrize(
    ("scenario", "what", "trainer"),
    [
        (upload(pretrained=WILD), "the pretrained model", "pretrained"),
        # One step, whose loss is of before it: the weights after it are finite, the model's loss is not.
        (upload(pretrained={**WILD, "learning_rate": 1e30, "epochs": 1, "batch_size": 200}), "the pretrained model", "pretrained"),
        (distilled(teacher_trainer=WILD), "the teacher", "pretrained.teacher_trainer"),
        (distilled(trainer=WILD), "the student", "pretrained.trainer"),
        (test_cooperative.scenario({"kind": "filter_split"}, pretrained=WILD), "the pretrained model", "pretrained"),
        (test_cooperative.scenario(pretrained=WILD), "the pretrained model", "pretrained"),
        (test_cooperative.scenario({**test_cooperative.STUDENTS, "trainer": WILD}), "the students", "placement.trainer"),
    ],
)
def test_it_ends_the_run_and_says_what_to_lower(scenario: dict[str, Any], what: str, trainer: str) -> None:
    with pytest.raises(RunError) as caught:
        run(scenario, store=Store())
    assert said_of(str(caught.value), what, trainer)


def test_results_so_far_are_kept_and_known_facts_say_it_again(tmp_path: Path) -> None:
    store = Store(disk=Disk(tmp_path / "store"))
    with pytest.raises(RunError, match="the pretrained model is"):
        run(upload(pretrained=WILD), output=tmp_path / "out", store=store)
    assert '"status": "failed"' in (tmp_path / "out" / "run.json").read_text()
    assert (tmp_path / "out" / "metrics.json").exists()
    store.close()
    with pytest.raises(RunError, match="the pretrained model is"):
        run(upload(pretrained=WILD), store=Store(disk=Disk(tmp_path / "store"), refuses=True))


def test_a_run_whose_facts_are_known_computes_nothing(tmp_path: Path) -> None:
    store = Store(disk=Disk(tmp_path))
    first = run(upload(pretrained=TAME), store=store)
    store.close()
    assert (
        run(upload(pretrained=TAME), store=Store(disk=Disk(tmp_path), refuses=True)).metrics["trace_digest"]
        == first.metrics["trace_digest"]
    )


def test_a_model_that_nobody_asks_is_not_trained() -> None:
    store = Store()
    run(upload(pretrained=WILD, arrivals={"kind": "periodic", "every": "1 h"}), store=store)
    assert not store.computed["fit"]


def test_exits_are_measured_before_the_run_and_told_there() -> None:
    with pytest.raises(ScenarioError, match=r"training has diverged.*lower `learning_rate`") as caught:
        run(test_early_exit.scenario(pretrained={**test_early_exit.EXITS, "trainer": WILD}))
    assert caught.value.problems[0].path == "workloads.serving.pretrained.trainer"


def test_a_pruned_model_whose_pretraining_diverged_is_told() -> None:
    with pytest.raises(RunError, match=r"pretraining.*diverged; lower `model.pretraining.learning_rate`"):
        run(upload(pretrained=TAME) | {"model": WILD_PRUNED}, store=Store())
