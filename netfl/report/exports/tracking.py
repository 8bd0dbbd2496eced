"""A run in MLflow, with the simulated clock as its time."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from netfl.errors import MissingExtraError
from netfl.report.exports.curves import marks
from netfl.report.reading import opened

__all__ = ["write_mlflow"]

_AT_ONCE = 1000
_MOST_SETTINGS = 100
_LONGEST = 500


def write_mlflow(
    database: sqlite3.Connection | Path,
    target: str,
    *,
    experiment: str,
    name: str,
    settings: Mapping[str, str],
    figures: Mapping[str, float],
) -> list[str]:
    """Add a run to an MLflow tracking server, or to `mlflow.db` in a folder.

    Args:
        database: the run's trace, or its file.
        target: address of a server or a database (`http://...`, `sqlite:///...`), or a folder.
        experiment: MLflow's name for runs that belong together.
        name: of the run.
        settings: logged as parameters; at most a hundred, in batches as MLflow wants them.
        figures: final numbers.

    Returns:
        Where it is.

    Raises:
        MissingExtraError: MLflow is not there.
    """
    try:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient
    except ImportError:
        raise MissingExtraError("exporting to MLflow needs it: pip install 'netfl-sim[mlflow]'") from None
    if "://" not in target:
        Path(target).mkdir(parents=True, exist_ok=True)
        target = f"sqlite:///{Path(target).absolute() / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=target)
    found = client.get_experiment_by_name(experiment)
    identity = found.experiment_id if found is not None else client.create_experiment(experiment)
    # Timestamps are milliseconds from 0; 1 because MLflow takes 0 for now.
    run = client.create_run(identity, start_time=1, run_name=name)
    chosen = list(settings.items())[:_MOST_SETTINGS]
    client.log_batch(
        run.info.run_id,
        params=[Param(key[:250], value[:_LONGEST]) for key, value in chosen],
        tags=[RunTag("netfl.clock", "timestamps are simulated milliseconds")],
    )
    with opened(database) as trace:
        values = [Metric(mark.tag, mark.value, round(1000 * mark.time_s), mark.step) for mark in marks(trace)]
    last = max((value.timestamp for value in values), default=0)
    values += [Metric(key, value, last, 0) for key, value in figures.items()]
    for first in range(0, len(values), _AT_ONCE):
        client.log_batch(run.info.run_id, metrics=values[first : first + _AT_ONCE])
    client.set_terminated(run.info.run_id, end_time=last)
    return [f"{target}: experiment '{experiment}', run {run.info.run_id}"]
