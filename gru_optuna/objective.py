"""A GRU as the objective of a plain Optuna study.

The study, its sampler, pruner, storage and processes are the user's. A trial computes what it
would compute in one of our own studies.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from gru_optuna import seeds, study_file
from gru_optuna.data.load import load_folds
from gru_optuna.data.readers.in_memory import describe
from gru_optuna.errors import Diverged, StudyError, StudyFileError, TrialFailed
from gru_optuna.search import space
from gru_optuna.study.trial_attributes import TrialAttributes, pruned_outcome
from gru_optuna.training.pool_factory import Device, choose_device, make_engines, pool_of
from gru_optuna.tuning.export import bundle_of_trial

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.trial import FrozenTrial

    from gru_optuna.bundle.bundle import Bundle
    from gru_optuna.data.dataset import Dataset
    from gru_optuna.data.readers.in_memory import Source
    from gru_optuna.study_file import Metric, Task
    from gru_optuna.training.engines.base import Engine
    from gru_optuna.training.folded_pool import TrialPool
    from gru_optuna.training.slot import EpochResult, Slot


class GRUObjective:
    """Trains one trial's GRU and returns the metric of its best epoch on validation rows.

    Reports every epoch, counted from 1, and prunes where ``trial.should_prune()`` says so. What
    a trial computes depends only on its parameters, its number and `seed`, so several threads
    (``n_jobs``) or several processes on one storage find the same as a single one.

    A trial whose loss or gradient stops being finite returns NaN. Optuna then marks it as failed
    and continues; the attribute ``outcome`` gives the reason. Anything else that goes wrong is
    raised, and ends ``optimize`` unless it is named in ``catch``.

    Parameters
    ----------
    dataset
        A study file (``.toml``), whose settings hold unless they are given here; a file of
        rows, or a frame of polars, pandas or pyarrow, with the roles of its columns in `data`; or
        ``(X, y)``, where X is a list of texts, a list of arrays (T, C), or an array (N, T, C).
    space
        What to search, by the names under ``[search]`` and ``[model]``: a value fixes a
        hyperparameter, a list gives choices, ``{"low": …, "high": …, "log": True}`` or an Optuna
        distribution is a range. The others are searched as in a study file.
    task, metric
        As in a study file. With ``(X, y)`` the task follows from y. The metric defaults to the
        task's first one that is minimized, which is Optuna's default direction: log_loss, rmse
        or mae.
    epochs, patience
        As under ``[training]``.
    seed
        Decides the split, the first weights, the order of rows, augmentation and dropout.
    device
        "auto" takes CUDA where it is available.
    data
        Keys of ``[data]``: ``text="review"``, ``validation=0.3``, ``horizon=24``.

    Attributes
    ----------
    spec : Specification
        All settings, as a study file has them.
    datasets : list of Dataset
        The data to train on; one dataset for each fold where there are folds.

    Raises
    ------
    UserError
        If data or settings can't be used; the message says what to do.

    Examples
    --------
    >>> objective = GRUObjective((X, y), {"hidden_size": [32, 64]})  # doctest: +SKIP
    >>> optuna.create_study().optimize(objective, n_trials=20)       # doctest: +SKIP
    """

    def __init__(
        self,
        dataset: Any,
        space: Mapping[str, Any] | None = None,
        *,
        task: Task | None = None,
        metric: Metric | None = None,
        epochs: int | None = None,
        patience: int | str | None = None,
        seed: int | None = None,
        device: Device = "auto",
        **data: Any,
    ) -> None:
        where = choose_device(device)
        given = {"task": task, "metric": metric, "seed": seed}
        training = {"epochs": epochs, "patience": patience}
        self.spec, source = _specification(
            dataset, space or {}, _without_none(given), _without_none(training), data
        )
        self.datasets: list[Dataset] = [fold.to(where) for fold in load_folds(self.spec, source)]
        self._engines: Sequence[Engine] = []
        self._lock = threading.Lock()

    @property
    def direction(self) -> str:
        """For ``create_study(direction=…)``: "minimize" or "maximize"."""
        return self.spec.direction

    def __call__(self, trial: optuna.Trial) -> float:
        """Trains one trial.

        Raises
        ------
        optuna.TrialPruned
            If the pruner ends the trial.
        StudyError
            If the study's direction isn't the metric's.
        TrialFailed
            If memory runs out, or training raises.
        """
        self._check_direction(trial)
        hyperparameters = space.suggest(trial, self.spec)
        began = time.monotonic()
        pool = self._new_pool()
        slot = pool.admit(hyperparameters, seeds.trial_seed(self.spec.seed, trial.number))
        outcome: str | None = None
        try:
            while outcome is None:
                result = self._train_epoch(pool)
                trial.report(result.value, step=slot.progress.epoch)
                outcome = slot.progress.ending
                if outcome is None and trial.should_prune():
                    outcome = pruned_outcome(slot.progress.epoch)
                    raise optuna.TrialPruned(outcome)
        except TrialFailed as failed:
            outcome = str(failed)
            if not isinstance(failed, Diverged):
                raise
            return float("nan")
        finally:
            _note(trial, slot, outcome or "interrupted", time.monotonic() - began)
        return slot.progress.best.value

    def bundle(self, trial: FrozenTrial) -> Bundle:
        """The network of a complete trial: ``objective.bundle(study.best_trial)``.

        The trial is trained again, which gives the same weights. The bundle has ``predict`` and
        ``save``; `load_bundle` reads what it saves.

        Raises
        ------
        StudyError
            If the trial isn't complete, or wasn't trained by a GRUObjective.
        """
        if trial.state != TrialState.COMPLETE or not TrialAttributes.read(trial).best_epoch:
            raise StudyError(f"trial {trial.number} is not a complete trial of a GRUObjective.")
        return bundle_of_trial(self.spec, self.datasets, self._new_pool(), trial)

    def _new_pool(self) -> TrialPool:
        """A pool for one trial, over engines that all trials share."""
        import joblib

        with self._lock:
            # As many threads as may run trials at once (n_jobs): each call trains one slot.
            self._engines = self._engines or make_engines(
                self.spec, self.datasets, joblib.cpu_count()
            )
        return pool_of(self.spec, self.datasets, self._engines)

    def _train_epoch(self, pool: TrialPool) -> EpochResult:
        if pool.device.type == "cpu":
            ((_, result),) = pool.train_epoch()
        else:
            with self._lock:  # a GPU's engine stacks slots in place: one thread at a time
                ((_, result),) = pool.train_epoch()
        if isinstance(result, TrialFailed):
            raise result
        return result

    def _check_direction(self, trial: optuna.Trial) -> None:
        # A FixedTrial or a FrozenTrial is evaluated without a study.
        study = getattr(trial, "study", None)
        wanted = StudyDirection[self.direction.upper()]
        if study is not None and study.directions != [wanted]:
            raise StudyError(
                f'{self.spec.metric} has to be {self.direction}d, but study "{study.study_name}" '
                f'isn\'t. Write create_study(direction="{self.direction}"), or give GRUObjective '
                f"another metric."
            )

    def __getstate__(self) -> dict[str, Any]:
        # Threads and locks can't be pickled; another process makes its own.
        return self.__dict__ | {"_engines": [], "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_lock": threading.Lock()})


def _specification(
    dataset: Any,
    hyperparameters: Mapping[str, Any],
    given: dict[str, Any],
    training: dict[str, Any],
    data: dict[str, Any],
) -> tuple[study_file.Specification, Source]:
    """The specification, and the source of its rows."""
    content: dict[str, Any] = {"name": "objective", "model": {}, "search": {}, "training": {}}
    source: Source
    if isinstance(dataset, str | Path) and Path(dataset).suffix.lower() == ".toml":
        path = Path(dataset)
        content, source = study_file.load(path).model_dump(mode="json"), path.parent
        if given.get("task", content["task"]) != content["task"]:
            del content["metric"]
    else:
        content["data"], source, content["task"] = describe(dataset, given.get("task"), data)
        content["metric"] = study_file.minimized(content["task"])
    for section, values in space.sections(hyperparameters).items():
        content[section] |= values
    content["training"] |= training
    content["data"] |= data
    spec = study_file.parse(content | given, source="GRUObjective")
    if spec.two_goals:
        raise StudyFileError(
            f"GRUObjective returns one value, and the study file has two goals. Give it one: "
            f'metric="{spec.metric}".'
        )
    return spec, source


def _note(trial: optuna.Trial, slot: Slot, outcome: str, seconds: float) -> None:
    """Records what the trials of our own studies record."""
    epochs = slot.progress.epoch
    TrialAttributes.of(slot, seconds, outcome=outcome, epochs=epochs).write(trial)


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
