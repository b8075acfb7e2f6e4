"""From a study file to a result: reads, creates or resumes, works, tests the winner, reports."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from optuna.trial import TrialState

from gru_optuna import seeds
from gru_optuna import spec as study_file
from gru_optuna.data.sequences import load_sequences
from gru_optuna.errors import UserError
from gru_optuna.report.page import render_report
from gru_optuna.report.summary import TEST, Summary, Winner, summarize
from gru_optuna.search import budget
from gru_optuna.search.study import create_or_resume
from gru_optuna.storage.database import open_engine, open_storage, study_lock
from gru_optuna.storage.mirror import Mirror
from gru_optuna.training.cpu import CPUEngine, is_compiled
from gru_optuna.training.metrics import classification_metric
from gru_optuna.training.pool import Pool
from gru_optuna.training.sizing import choose_size
from gru_optuna.worker import EngineReady, Worker
from gru_optuna.workspace import Workspace, storage_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from optuna import Study

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.spec import Specification
    from gru_optuna.training.pool import Engine
    from gru_optuna.worker import Event

Device = Literal["auto", "cpu", "cuda"]

CUDA_SLOTS = 128
"""Trials that train together on a GPU: small GRUs fill it only side by side."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opening:
    """What is known before the first trial."""

    spec: Specification
    storage: str
    device: str
    rows: tuple[int, int, int]  # training, validation, test
    before: Summary
    compiles: bool  # whether the training code has to be compiled for this machine first


@dataclass(frozen=True)
class TuningResult:
    """What `tune` leaves."""

    summary: Summary
    report: Path | None  # None: interrupted before any trial was over
    interrupted: bool
    ran: int  # trials that ended in this run

    @property
    def best(self) -> Winner | None:
        """The winner, chosen on validation rows."""
        return self.summary.best


def tune(
    study: str | Path,
    *,
    trials: int | None = None,
    hours: float | None = None,
    storage: str | None = None,
    device: Device = "auto",
    workers: int | None = None,
    slots: int | None = None,
    overrides: Sequence[str] = (),
    report: Path | None = None,
    stop: threading.Event | None = None,
    on_open: Callable[[Opening], None] = lambda opening: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> TuningResult:
    """Creates a study from its file, or goes on with it, until its budget is spent.

    Parameters
    ----------
    study
        The study file (TOML).
    trials, hours
        The budget in all, over every run, instead of the file's.
    storage
        URL of the database; else ``GRU_OPTUNA_STORAGE``, else the workspace's own.
    device
        "auto" takes CUDA where there is one.
    workers, slots
        How many threads train, and how many trials they share; else measured.
    overrides
        ``section.key=value``, as ``--set``.
    report
        Folder of the report; else ``dashboards/NAME`` in the workspace.
    stop
        Set it to end after the epoch in flight; the same call goes on later.
    on_open, on_event
        Told what is about to begin, and everything that happens.

    Raises
    ------
    UserError
        If file, data, storage or study can't be used; the message says what to do.
    StudyFailed
        If every trial fails.

    Examples
    --------
    >>> tune("studies/japanese-vowels.toml", trials=50).best.value  # doctest: +SKIP
    1.0
    """
    path = Path(study)
    limits = {"budget.trials": trials, "budget.hours": hours}
    given = [f"{key}={value}" for key, value in limits.items() if value is not None]
    spec = study_file.load(path, [*overrides, *given])
    workspace = Workspace.around(path.parent)
    url = storage_url(storage, workspace)
    where = choose_device(device)
    dataset = load_sequences(spec, path.parent)
    backend = open_storage(url, create=True)
    with study_lock(url, spec.name):
        optuna_study = create_or_resume(backend, spec, dataset.fingerprint)
        before = summarize(optuna_study, spec)
        splits = (dataset.train, dataset.validation, dataset.test or ())
        rows = (len(splits[0]), len(splits[1]), len(splits[2]))
        compiles = where.type == "cpu" and not is_compiled()
        on_open(Opening(spec, url, str(where), rows, before, compiles))
        dataset = dataset.to(where)
        stop = stop or threading.Event()
        if _something_to_do(optuna_study, spec, dataset):
            engine, ready = make_engine(spec, dataset, workers, slots)
            on_event(ready)
            mirror = Mirror(optuna_study, open_engine(url))
            Worker(mirror, spec, dataset, engine, ready.slots, stop, on_event).run()
            if not stop.is_set():
                measure_on_test(optuna_study, spec, dataset, engine)
        summary = summarize(optuna_study, spec)
    ended = _ended(summary)
    folder = report or workspace.report_folder(spec.name)
    page = render_report(optuna_study, spec, folder) if ended else None
    return TuningResult(summary, page, stop.is_set(), ended - _ended(before))


def make_engine(
    spec: Specification, dataset: Dataset, threads: int | None = None, slots: int | None = None
) -> tuple[Engine, EngineReady]:
    """What trains on the device where the data lie, and how much at once.

    The first time on a machine the CPU's code is compiled, which takes a quarter of a minute.
    """
    device = dataset.train.values.device
    if device.type != "cpu":
        from gru_optuna.training.batched import BatchedEngine

        return BatchedEngine(spec, dataset), EngineReady(1, slots or CUDA_SLOTS, None)
    size = choose_size(spec, dataset, threads, slots)
    ready = EngineReady(size.threads, size.slots, size.memory)
    return CPUEngine(spec, dataset, size.threads), ready


def measure_on_test(study: Study, spec: Specification, dataset: Dataset, engine: Engine) -> None:
    """Measures the winner on the test rows and keeps the value, once for each winner.

    The winner is trained again up to its best epoch, which gives the same weights: a trial is
    a function of its parameters and its seed.
    """
    winner = summarize(study, spec).best
    if winner is None or winner.test is not None or dataset.test is None:
        return
    pool = Pool(spec, dataset, engine)
    slot = pool.admit(winner.hyperparameters, seeds.trial_seed(spec.seed, winner.number))
    for _ in range(winner.best_epoch):
        pool.train_epoch()
    again = slot.progress.curve[-1].value if slot.progress.curve else float("nan")
    if again != winner.value:
        logger.warning(
            "trial %d reached %s %.6f when it was searched and %.6f when trained again here: "
            "another processor or device rounds differently",
            winner.number,
            spec.metric,
            winner.value,
            again,
        )
    logits = engine.predict(slot, engine.weights(slot), dataset.test)
    value = classification_metric(spec.metric, logits, dataset.test.targets)
    study.set_user_attr(TEST, {"number": winner.number, "value": value})


def _something_to_do(study: Study, spec: Specification, dataset: Dataset) -> bool:
    """Whether a trial is left to train, or the winner to be measured on the test rows."""
    unfinished = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    time_left = budget.seconds_left(study, spec) > 0
    winner = summarize(study, spec).best
    unmeasured = winner is not None and winner.test is None and dataset.test is not None
    trains = bool(unfinished) or budget.trials_left(study, spec) > 0
    return unmeasured or (trains and time_left)


def choose_device(device: Device) -> torch.device:
    """The device to train on.

    Raises
    ------
    UserError
        If CUDA is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here. Use --device cpu.")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def _ended(summary: Summary) -> int:
    return sum(summary.trials[state] for state in ("complete", "pruned", "failed"))
