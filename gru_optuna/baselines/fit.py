"""Fits the simple models of a study, and chooses each one's settings on the validation rows.

The test rows are not looked at: `Chosen.predict` is for the moment when the winner is tested.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.baselines.lag_ridge import LagRidgeModel
from gru_optuna.baselines.model import NotPossibleError
from gru_optuna.baselines.sequence_ridge import SequenceRidge
from gru_optuna.baselines.tfidf import TfidfModel
from gru_optuna.data.metrics import as_outputs, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gru_optuna.baselines.model import Family, Predictor, Settings
    from gru_optuna.baselines.rows import RawFold
    from gru_optuna.study_file import Specification


@dataclass(frozen=True)
class Chosen:
    """A fitted model of a family, with the settings that were best on the validation rows."""

    family: str
    name: str
    settings: Settings
    validation: float  # the metric; with folds their mean
    seconds: float  # of processor time that the family took
    tried: int  # settings
    predictors: Sequence[Predictor]  # one for each fold

    @property
    def exportable(self) -> bool:
        """Whether it is a few arrays, which a bundle can hold."""
        return all(
            isinstance(predict, TfidfModel | SequenceRidge)
            or (isinstance(predict, LagRidgeModel) and not predict.covariates)
            for predict in self.predictors
        )

    def predict(self, folds: Sequence[RawFold], part: str) -> list[NDArray[np.float64]]:
        """Each fold's predictions (N, O) of its "validation" or "test" rows."""
        rows = [getattr(fold, part) for fold in folds]
        return [predict(own.inputs) for predict, own in zip(self.predictors, rows, strict=True)]


@dataclass(frozen=True)
class LeftOut:
    """A family without a model, and why."""

    family: str
    reason: str


def families_of(spec: Specification) -> dict[str, type[Family]]:
    """The families for a study's kind of rows, by their names, the cheapest first."""
    # Here, because each kind of rows brings libraries that the others don't need.
    match spec.kind:
        case "texts":
            from gru_optuna.baselines.texts import TextLinear

            return {"TF-IDF and a linear model": TextLinear}
        case "sequences":
            from gru_optuna.baselines.sequences import ConvolutionRidge, FeatureTrees, RowRidge

            return {
                "ridge regression": RowRidge,
                "extra trees": FeatureTrees,
                "random convolutions": ConvolutionRidge,
            }
        case "series":
            from gru_optuna.baselines.lag_ridge import LagRidge
            from gru_optuna.baselines.series import (
                ExponentialSmoothing,
                SeasonalMedian,
                SeasonalNaive,
            )

            return {
                "naive forecasts": SeasonalNaive,
                "seasonal medians": SeasonalMedian,
                "ridge regression": LagRidge,
                "exponential smoothing": ExponentialSmoothing,
            }


def fit_all(
    spec: Specification,
    folds: Sequence[RawFold],
    seconds: float,
    known: Mapping[str, Settings] | None = None,
    hurry: Callable[[], bool] = lambda: False,
) -> Iterator[Chosen | LeftOut]:
    """Fits every family, the cheapest first.

    Parameters
    ----------
    spec
        The study.
    folds
        Its rows.
    seconds
        Processor time for all families together. When a family's share is used up, its best
        settings so far are its result.
    known
        Settings that were chosen before, by family; they are fitted without trying others.
    hurry
        Once true, no further family is started, and no further settings are tried.
    """
    families = families_of(spec)
    end = time.process_time() + seconds
    for number, (name, family) in enumerate(families.items()):
        began = time.process_time()
        share = max(end - began, 0.0) / (len(families) - number)
        given = None if known is None else known.get(name)
        if known is not None and given is None:
            continue
        if hurry():
            yield LeftOut(name, "there was no time for it")
            continue

        def is_over(until: float = began + share) -> bool:
            return hurry() or time.process_time() > until

        yield _choose(spec, folds, name, family, is_over, given)


def _choose(
    spec: Specification,
    folds: Sequence[RawFold],
    name: str,
    family: type[Family],
    is_over: Callable[[], bool],
    given: Settings | None,
) -> Chosen | LeftOut:
    began = time.process_time()
    try:
        own = [family(spec, fold) for fold in folds]
        # Folds may differ in what is possible, such as a season; the first one's settings are
        # those of the shortest training part.
        tried, best = 0, None
        reason = "there is nothing to try"
        for settings in own[0].settings() if given is None else [given]:
            if best is not None and is_over():
                break
            tried += 1
            try:
                predictors = [each.fit(settings) for each in own]
                value = fmean(
                    measure(
                        spec.metric,
                        as_outputs(predict(fold.validation.inputs), fold.validation.truth),
                        fold.validation.truth,
                    )
                    for predict, fold in zip(predictors, folds, strict=True)
                )
            except NotPossibleError as error:
                reason = str(error)
                continue
            if not math.isfinite(value):
                reason = f"its {spec.metric} is not finite"
                continue
            if best is None or spec.as_loss(value) < spec.as_loss(best.validation):
                best = Chosen(name, family.label(settings), settings, value, 0.0, tried, predictors)
    except NotPossibleError as error:
        return LeftOut(name, str(error))
    except (MemoryError, FloatingPointError, np.linalg.LinAlgError, ValueError) as error:
        # Rows of an unforeseen kind: the failure of one model must not cost the others.
        return LeftOut(name, f"{type(error).__name__}: {error}".partition("\n")[0])
    if best is None:
        return LeftOut(name, reason)
    seconds = time.process_time() - began
    return Chosen(name, best.name, best.settings, best.validation, seconds, tried, best.predictors)
