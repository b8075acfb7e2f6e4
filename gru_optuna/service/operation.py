"""What those who run the service ask it: is it alive, can it work, and what does it do."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from prometheus_client.process_collector import ProcessCollector
from pydantic import BaseModel

from gru_optuna.service.access import Viewer
from gru_optuna.service.context import Context
from gru_optuna.service.problems import RequestRefused, problems_of
from gru_optuna.storage import jobs, uploads
from gru_optuna.storage.database import schema
from gru_optuna.storage.database.open import locate
from gru_optuna.study import submissions

if TYPE_CHECKING:
    from collections.abc import Mapping

operation = APIRouter(tags=["operation"])


class ServiceStatus(BaseModel):
    """A service that works."""

    status: str = "ok"


@operation.get("/healthz")
def is_alive() -> ServiceStatus:
    """Answers as long as the process does."""
    return ServiceStatus()


@operation.get("/readyz", responses=problems_of(HTTPStatus.SERVICE_UNAVAILABLE))
def is_ready(context: Context) -> ServiceStatus:
    """Answers if the database does, and its tables are those of this version."""
    database = locate(context.settings.url)
    with database.plain_errors(), context.engine.connect() as connection:
        found = schema.stored(connection)
    if found != schema.newest():
        raise RequestRefused(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"The tables of the database are those of {found}, and this version needs "
            f"{schema.newest()}. Run: gru-optuna storage upgrade.",
        )
    return ServiceStatus()


@operation.get(
    "/metrics",
    response_class=Response,
    responses={
        HTTPStatus.OK.value: {
            "description": "Prometheus's text format.",
            "content": {"text/plain": {}},
        },
        **problems_of(HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE),
    },
)
def show_metrics(context: Context, caller: Viewer) -> Response:
    """Counts studies, workers, jobs and uploads, and what the process takes, for Prometheus."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    studies = submissions.list_all(context.engine)
    files = uploads.list_all(context.engine)
    _count(registry, "studies", "Studies", Counter(study.state for study in studies), "state")
    states = Counter(job.state for job in jobs.list_all(context.engine))
    _count(registry, "jobs", "Exports, predictions and confirmations", states, "state")
    trials: Counter[str] = Counter()
    for study in studies:
        trials.update(study.trials)
    _count(registry, "trials", "Trials of all studies", trials, "state")
    workers = Counter({study.name: study.workers for study in studies})
    _count(registry, "workers", "Workers at each study", workers, "study")
    Gauge("gru_optuna_uploads", "Stored files", registry=registry).set(len(files))
    total = Gauge("gru_optuna_upload_bytes", "Bytes of the stored files", registry=registry)
    total.set(sum(file.bytes for file in files))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _count(
    registry: CollectorRegistry, name: str, about: str, counts: Mapping[str, int], label: str
) -> None:
    gauge = Gauge(f"gru_optuna_{name}", about, [label], registry=registry)
    for key, count in counts.items():
        gauge.labels(key).set(count)
