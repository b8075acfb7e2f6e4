"""Simple models of a study's rows: fitted while the search runs, compared with its winner."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from gru_optuna import seeds
from gru_optuna.attributes import WORKED_SECONDS
from gru_optuna.baselines.background import BackgroundFit
from gru_optuna.data.intervals import paired_gain
from gru_optuna.data.metrics import as_outputs, mean_metric
from gru_optuna.storage.database.open import locate
from gru_optuna.storage.optuna_private import study_id
from gru_optuna.study.fitted_baselines import (
    Comparison,
    FittedBaselines,
    FittedModel,
    ModelLeftOut,
    read_fitted,
    write_fitted,
)
from gru_optuna.worker.events import WaitingForBaselines

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from threading import Event

    from optuna import Study

    from gru_optuna.data.dataset import Split
    from gru_optuna.data.metrics import Predictions
    from gru_optuna.study_file import Specification
    from gru_optuna.worker.events import WorkerEvent

WAIT_SECONDS = 30.0
"""How long the end of a search waits for the simple models; or a tenth of its time, if longer."""

_GRACE_SECONDS = 30.0  # to end the fit in progress and predict
_LEAST_GRACE_SECONDS = 5.0  # even if the study's hours are spent


class BaselineFits:
    """The simple models of a study, while this process works on it.

    Parameters
    ----------
    study, url
        The study, and its database.
    spec
        The study file; `fit_baselines` says whether there are simple models at all.
    folder
        What the paths of its data are relative to.
    """

    def __init__(self, study: Study, url: str, spec: Specification, folder: Path) -> None:
        self._study, self._url, self._spec, self._folder = study, url, spec, folder
        self._fit: BackgroundFit | None = None
        self.found: FittedBaselines | None = None  # after `predict`
        self._lock = ExitStack()

    def start(self) -> None:
        """Begins to fit in the background, unless that was done, or another process does it."""
        if not self._spec.fit_baselines or self._fit is not None:
            return
        stored = read_fitted(self._study)
        if stored is not None and stored.complete:
            return
        try:
            name = f"baselines-{study_id(self._study)}"
            self._lock.enter_context(locate(self._url).exclusively(name, 0.0))
        except TimeoutError:
            return
        self._begin(None)

    def record(self) -> None:
        """Stores the models once all of them are fitted."""
        if self._fit is not None and self._fit.fitted(0):
            stored = read_fitted(self._study)
            if stored is None or not stored.complete:
                write_fitted(self._study, self._found(self._fit, complete=True))

    def predict(
        self,
        part: Literal["validation", "test"],
        splits: Sequence[Split],
        stop: Event,
        on_event: Callable[[WorkerEvent], None],
        seconds_left: float = math.inf,
    ) -> dict[str, Predictions]:
        """What each fitted model predicts; waits a while for those that aren't fitted yet.

        Parameters
        ----------
        part
            "validation" or "test".
        splits
            Its rows as a network reads them; validation rows of each fold.
        stop, on_event
            As in `confirm`.
        seconds_left
            How much time the study has left.

        Returns
        -------
        dict
            By family, as for a network: a pair for each fold, and of rolling origins the last
            one's for the test rows. Empty if it was stopped.
        """
        if not self._spec.fit_baselines:
            return {}
        stored = read_fitted(self._study)
        if self._fit is None:
            # In another process, or before: only the settings that were chosen are fitted again.
            known = stored is not None and stored.complete
            self._begin({m.family: m.settings for m in stored.models} if known and stored else None)
        fit = self._fit
        assert fit is not None
        seconds = max(WAIT_SECONDS, float(self._study.user_attrs.get(WORKED_SECONDS, 0)) / 10)
        seconds = min(seconds, seconds_left)
        if not fit.fitted(0):
            on_event(WaitingForBaselines(seconds))
        complete = fit.fitted(seconds, stop)
        grace = min(_GRACE_SECONDS, seconds_left + _LEAST_GRACE_SECONDS)
        predictions = fit.predict(part, grace, stop)
        if stop.is_set():
            return {}
        found = stored if stored is not None and stored.complete else None
        self.found = found or self._found(fit, complete=complete)
        first = -1 if part == "test" and self._spec.data.rolling else 0
        predicted: dict[str, Predictions] = {}
        for family, every in predictions.items():
            folds = every[first:]
            own = splits if part == "validation" else [*splits] * len(folds)
            if folds and [len(rows) for rows in folds] == [len(split) for split in own]:
                predicted[family] = [
                    (as_outputs(rows, split), split) for rows, split in zip(folds, own, strict=True)
                ]
        return predicted

    def compare(
        self,
        winner: int,
        part: str,
        shown: Predictions,
        predicted: Mapping[str, Predictions],
        *,
        of_ensemble: bool,
    ) -> None:
        """Measures the models on the rows of a part, and the winner against the best of them.

        Parameters
        ----------
        winner
            Number of the winning trial.
        part
            "test", or "validation" in a study without test rows.
        shown
            The winner's predictions, on the host.
        predicted
            The models', from `predict`.
        of_ensemble
            Whether the winner's are an ensemble's.
        """
        if self.found is None:
            return
        spec = self._spec
        values = {family: mean_metric(spec.metric, [own]) for family, own in predicted.items()}
        measured = [model for model in self.found.models if model.family in predicted]
        best = replace(self.found, models=measured).best(spec)
        comparison = None
        if best is not None:
            gain = paired_gain(
                spec.metric,
                [shown],
                predicted[best.family],
                spec.data.horizon if spec.kind == "series" else None,
                seeds.seed_for(spec.seed, "bootstrap", 1),
            )
            both = mean_metric(spec.metric, [shown]), values[best.family]
            comparison = Comparison.of(
                winner, part, len(shown[0][1]), best.name, both, gain, ensemble=of_ensemble
            )
        write_fitted(self._study, self.found.measured(values if part == "test" else {}, comparison))

    def close(self) -> None:
        """Ends the process that fits, if there is one."""
        if self._fit is not None:
            self._fit.close()
        self._lock.close()

    def _begin(self, known: dict[str, dict[str, object]] | None) -> None:
        self._fit = BackgroundFit(self._spec, self._folder, known)
        self._fit.start()

    def _found(self, fit: BackgroundFit, *, complete: bool) -> FittedBaselines:
        return FittedBaselines(
            models=[FittedModel(**model) for model in fit.models],
            left_out=[ModelLeftOut(**each) for each in fit.left_out],
            rows=fit.rows,
            of=fit.of,
            complete=complete,
        )
