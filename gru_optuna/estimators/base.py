"""What all estimators do: tune inside ``fit``, keep the study and the bundle.

Rows pass through the same checks, splits and encoders as those of a study file, and trials train
in the same pool. The search is the same on every machine, because the same number of trials train
together whatever the number of cores.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import uuid4

import joblib
import optuna
from optuna.storages import InMemoryStorage
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state

from gru_optuna import study_file
from gru_optuna.bundle.load import bundle_from_files
from gru_optuna.data.load import load_dataset, load_folds
from gru_optuna.errors import RareClass, StorageError, StudyFailed, StudyFileError, UserError
from gru_optuna.estimators.progress_bar import bar
from gru_optuna.search.space import sections
from gru_optuna.storage.database.open import exclusively, open_storage
from gru_optuna.study.study import create_or_resume, with_stored_defaults
from gru_optuna.study.summary import find_winner
from gru_optuna.training.pool_factory import choose_device, make_pool
from gru_optuna.tuning.confirm import confirm
from gru_optuna.tuning.export import bundle_of_winner, without_folds
from gru_optuna.worker.run import WorkerSettings, work

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from optuna import Study
    from optuna.storages import BaseStorage

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.data.readers.in_memory import RowsByName
    from gru_optuna.search.default_sizes import DefaultSizes
    from gru_optuna.study_file import Metric, Specification, Task
    from gru_optuna.training.pool_factory import Device

AGAIN = "X again"
"""Names the training rows where they are the validation rows, too: there are too few to hold some
out. Trials are then compared on the rows that they learned from, and none are left to refit on."""

TOGETHER = 8
"""Trials that train at once. The same everywhere, because the sampler's proposals depend on it."""


@dataclass(repr=False, eq=False, kw_only=True)
class GRUEstimator(BaseEstimator):  # type: ignore[misc]
    """Parameters and fitting of all three estimators.

    Each estimator is a dataclass: scikit-learn reads its parameters from the signature, and so do
    people and editors. Its docstring has the parameters and attributes below where ``{parameters}``
    and ``{attributes}`` stand.

    Parameters
    ----------
    space
        What to search, by name as under ``[search]`` and ``[model]`` of a study file: a value
        fixes, a list gives choices, ``{"low": …, "high": …, "log": True}`` or an Optuna
        distribution is a range. What is left out is searched as in a study file; sizes and epochs
        that are left out are chosen for the data, so that 30 trials take a few minutes.
    trials, seconds
        The budget; the search ends when either is spent. None for `seconds`: no limit.
    metric
        What the search optimizes, on validation rows; None: the task's default.
    epochs, patience
        How many epochs a trial trains at most, and how many without a better one.
    validation
        Fraction of the rows that decide between trials.
    data
        Other keys of ``[data]``, such as ``{"tokenizer": "char"}`` or ``{"folds": 5}``.
    confirm
        How many of the best trials are trained again on five fresh seeds each, so that the best
        mean wins: the best of many trials owes some of its value to luck. The model is then an
        ensemble of these networks. 0: none, and the model is a single network.
    refit
        Whether the best configuration is finally trained on all rows, the validation rows
        included, for as many epochs as it was best after.
    sampler, pruner
        As in a study file.
    storage
        None: the study is kept only in ``study_``. A URL (``sqlite:///FILE``,
        ``postgresql://…``): the study is stored there, and the same fit resumes it, up to
        `trials` in total.
    study_name
        The study's name in that storage; None: a name derived from data and parameters.
    n_jobs
        Threads; None: all cores.
    device
        "auto" takes CUDA where there is one.
    progress
        Whether to show a bar; None: in a notebook and in a terminal.
    random_state
        Seed of everything random. None: a new one for each fit, or 0 with a storage.

    Attributes
    ----------
    study_
        The search, as a plain Optuna study in memory.
    bundle_
        The model; ``bundle_.save(folder)`` writes it for ``gru-optuna predict``.
    best_params_, best_score_
        The best single configuration, and its metric on validation rows.
    """

    trials: int = 30
    seconds: float | None = 600.0
    metric: Metric | None = None
    epochs: int | None = None
    patience: int | None = None
    validation: float = 0.2
    data: Mapping[str, Any] | None = None
    confirm: int = 0
    refit: bool = True
    sampler: str = "tpe"
    pruner: str = "asha"
    storage: str | None = None
    study_name: str | None = None
    n_jobs: int | None = None
    device: Device = "auto"
    progress: bool | None = None
    random_state: Any = None

    _task: ClassVar[Task]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cls.__doc__ and GRUEstimator.__doc__:  # python -OO has none
            headings = r"    (?:Parameters|Attributes)\n    -+\n"
            _, parameters, attributes = re.split(headings, GRUEstimator.__doc__)
            shared = {"parameters": parameters.strip(), "attributes": attributes.strip()}
            for name, text in shared.items():
                cls.__doc__ = cls.__doc__.replace(f"{{{name}}}", text)

    def _tune(
        self,
        space: Mapping[str, Any] | None,
        data: Mapping[str, Any],
        source: RowsByName,
        sizes: DefaultSizes,
        seed: int,
    ) -> None:
        """Tunes, and sets the attributes of a fitted estimator.

        Parameters
        ----------
        space
            The estimator's parameter.
        data
            The keys of ``[data]``, without those that the user gave.
        source
            The rows that they name.
        sizes
            Sizes and epochs for these rows, used where the user gave none.
        seed
            The study's, from `_seed`.

        Raises
        ------
        ValueError
            If data or parameters can't be used.
        RareClass
            If a class has too few rows to hold some out for validation.
        StudyFailed
            If no trial completes.
        """
        self.__dict__.pop("bundle_", None)
        with value_errors():
            where = choose_device(self.device)
            spec = self._specification(space or {}, data, sizes, seed)
            datasets = [part.changed(self._weighted).to(where) for part in load_folds(spec, source)]
            spec = self._named(spec, datasets[0].fingerprint)
            threads = joblib.effective_n_jobs(-1 if self.n_jobs is None else self.n_jobs)
            settings = WorkerSettings(self.device, min(threads, TOGETHER), TOGETHER)
            pool, size = make_pool(spec, datasets, settings.threads, settings.slots)
            if self.storage is None:
                url, storage = scratch(os.getpid())
            else:
                url, storage = self.storage, open_storage(self.storage, create=True)
            with exclusively(url, f"study-{spec.name}"):
                study = create_or_resume(
                    storage,
                    spec,
                    datasets[0].fingerprint,
                    formats=datasets[0].preprocessing.get("formats"),
                    rows=len(datasets[0].train),
                )
            title = self.study_name or type(self).__name__
            try:
                with bar(spec, title, show=self.progress) as on_event:
                    never = threading.Event()
                    work(study, url, spec, pool, size, settings, never, on_event)
                    if self.confirm:
                        confirm(study, url, spec, pool, size.slots, never, on_event)
            finally:
                self.study_ = in_memory(study)
                if self.storage is None:
                    optuna.delete_study(study_name=study.study_name, storage=storage)
        winner = find_winner(self.study_, spec)
        if winner is None:
            raise StudyFailed(
                f"none of {len(self.study_.trials)} trials finished an epoch; study_.trials shows "
                f"how each ended. Give more trials or seconds."
            )
        confirmed = winner.confirmed
        self.best_params_ = winner.configuration()
        self.best_score_ = winner.value if confirmed is None else confirmed.won.mean
        refit = self.refit and AGAIN not in source
        if refit:
            datasets = [load_dataset(spec, source, refit=True).changed(self._weighted).to(where)]
            pool, _ = make_pool(without_folds(spec), datasets, threads=1, slots=1)
        self.bundle_ = bundle_of_winner(
            self.study_, spec, winner, datasets, pool, 1, threading.Event(),
            refit=refit,
            fingerprint=datasets[0].fingerprint,
            baselines=datasets[0].baselines,
        )  # fmt: skip

    def _specification(
        self, space: Mapping[str, Any], data: Mapping[str, Any], default: DefaultSizes, seed: int
    ) -> Specification:
        """The study file that means the same as these parameters."""
        sizes = ["hidden_size", "embedding_size"] if data.get("text") else ["hidden_size"]
        searched = sections(dict.fromkeys(sizes, default.sizes) | dict(space))
        budget: dict[str, Any] = {"trials": self.trials}
        if self.seconds is not None:
            budget["hours"] = self.seconds / 3600
        content: dict[str, Any] = {
            "name": type(self).__name__,
            "task": self._task,
            "seed": seed,
            "data": {**data, **searched.pop("data"), **(self.data or {})},
            **searched,
            "training": {
                "epochs": self.epochs or default.epochs,
                "patience": self.patience or default.patience,
            },
            "budget": budget,
            "confirmation": {"candidates": self.confirm},
            "sampler": {"name": self.sampler},
            "pruner": {"name": self.pruner},
        }
        if self.metric is not None:
            if not isinstance(self.metric, str):
                raise StudyFileError(
                    f"{type(self).__name__}: metric = {self.metric!r}: an estimator has one goal. "
                    f"Name one metric, or tune a study file, which may have two goals."
                )
            content["metric"] = self.metric
        if "folds" not in content["data"]:
            content["data"].setdefault("validation", self.validation)
        spec = study_file.parse(content, source=type(self).__name__)
        if self.storage is None or self.study_name is None:
            return spec
        with suppress(StorageError):  # there is no database yet, or creating the study will say so
            named = spec.model_copy(update={"name": self.study_name})
            named = with_stored_defaults(named, open_storage(self.storage))
            return named.model_copy(update={"name": spec.name})
        return spec

    def _weighted(self, dataset: Dataset) -> Dataset:
        """The dataset with class weights, if the estimator has any."""
        return dataset

    def _seed(self) -> int:
        if self.random_state is None and self.storage is not None:
            return 0
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _named(self, spec: Specification, fingerprint: str) -> Specification:
        """The specification under the study's name in its storage: equal fits, equal names."""
        if self.study_name is not None:
            name = self.study_name
        elif self.storage is None:
            name = f"{spec.name}-{uuid4().hex}"
        else:
            content = spec.model_dump(mode="json", exclude={"budget", "confirmation"})
            digest = hashlib.sha256(json.dumps([content, fingerprint], sort_keys=True).encode())
            name = f"{spec.name}-{digest.hexdigest()[:12]}"
        content = spec.model_dump(mode="json") | {"name": name}
        return study_file.parse(content, "study_name", stored=True)

    def __getstate__(self) -> dict[str, Any]:
        """The state with the bundle's files, which are checked when unpickled: none is code."""
        state: dict[str, Any] = dict(super().__getstate__())
        if (bundle := state.get("bundle_")) is not None:
            state["bundle_"] = dict(bundle.files)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(files := state.get("bundle_"), dict):
            state = {**state, "bundle_": bundle_from_files(files, "the pickled bundle")}
        super().__setstate__(state)


def in_memory(study: Study) -> Study:
    """A plain Optuna study with the same trials and attributes, which needs no database."""
    kept = optuna.create_study(
        study_name=study.study_name, directions=study.directions, storage=InMemoryStorage()
    )
    kept.add_trials(study.get_trials(deepcopy=False))
    for key, content in study.user_attrs.items():
        kept.set_user_attr(key, content)
    return kept


@lru_cache(maxsize=1)
def scratch(process: int) -> tuple[str, BaseStorage]:
    """A temporary database of this process, made once: that takes half a second."""
    folder = tempfile.TemporaryDirectory(prefix=f"gru-optuna-{process}-")
    atexit.register(folder.cleanup)
    url = f"sqlite:///{Path(folder.name) / 'scratch.db'}"
    return url, open_storage(url, create=True)


@contextmanager
def value_errors() -> Iterator[None]:
    """Raises ValueError for unusable data and parameters, as scikit-learn's users expect."""
    try:
        yield
    except RareClass:
        raise
    except UserError as error:
        raise ValueError(str(error)) from None
