"""Finished trials as MLflow reads them: ``mlflow.db``, a SQLite file in the folder of the search.

MLflow keeps its older store of plain files for reading only; a database needs no server either."""

import logging
import math
from datetime import datetime
from typing import Any

from experiments.studies import SearchResult, SearchTrial

FILE = "mlflow.db"
MOST_METRICS = 1_000
"""In one call of MLflow."""


def track(result: SearchResult) -> str:
    """Brings the store in a search's folder up to its finished trials; one already there stays as it is.

    Returns:
        Its tracking URI, for ``mlflow ui --backend-store-uri``.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{result.folder / FILE}"
    client = MlflowClient(tracking_uri=uri)
    known = client.get_experiment_by_name(result.name)
    place = (result.folder / "mlflow").as_uri()
    experiment = known.experiment_id if known else client.create_experiment(result.name, place)
    there = {run.info.run_name for run in client.search_runs([experiment], max_results=50_000)}
    for trial in result.trials:
        if _name(trial) not in there:
            _write(client, experiment, result, trial)
    return uri


def _name(trial: SearchTrial) -> str:
    return f"trial {trial.number}"


def _write(client: Any, experiment: str, result: SearchResult, trial: SearchTrial) -> None:
    from mlflow.entities import Metric, Param

    began = int(datetime.fromisoformat(trial.started).timestamp() * 1000) if trial.started else 0
    ended = began + int(trial.seconds * 1000)
    run = client.create_run(experiment, start_time=began, run_name=_name(trial))
    # MLflow allows no @ in a metric's name
    values = {
        name.replace("@", " at "): value for name, value in zip(result.objectives, trial.values, strict=False)
    }
    metrics = [Metric(name, value, ended, 0) for name, value in values.items()]
    for epoch in trial.curve:
        told = {"loss": epoch.loss, "validation": epoch.value}
        metrics += [
            Metric(name, value, began, epoch.number)
            for name, value in told.items()
            if value is not None and math.isfinite(value)
        ]
    params = [Param(key, str(value)) for key, value in trial.settings.items()]
    for start in range(0, len(metrics), MOST_METRICS):
        client.log_batch(run.info.run_id, metrics[start : start + MOST_METRICS])
    client.log_batch(run.info.run_id, params=params)
    for key, value in {"state": trial.state, "error": trial.error, "node": trial.node}.items():
        client.set_tag(run.info.run_id, key, value)
    status = "FAILED" if trial.state == "failed" else "KILLED" if trial.state == "pruned" else "FINISHED"
    client.set_terminated(run.info.run_id, status, ended)
