"""Which hyperparameters matter, by two of Optuna's measures that ask different questions.

PED-ANOVA (Watanabe et al. 2023) asks what sets the best tenth of the trials apart. fANOVA
(Hutter et al. 2014) asks what moves the metric anywhere in the space, and knows only parameters
that all trials have. A learning rate that ruins half of the trials and is the same in all good
ones matters to the second alone.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from gru_optuna.report.numbers.trials import complete

if TYPE_CHECKING:
    from optuna import Study

FEWEST_TRIALS = 4
"""PED-ANOVA sets the best tenth against all trials; among fewer there is nothing to compare."""

STEADY_TRIALS = 50
"""Optuna's advice for PED-ANOVA: five trials in the best tenth."""

FANOVA_TRIALS = 200
"""fANOVA walks through a forest as large as the study, three seconds of it at 200 trials and 12
parameters: of more trials it reads an even selection."""


@dataclass(frozen=True)
class Importance:
    """How much each parameter matters, as shares that make 1 together."""

    shares: dict[str, float]  # PED-ANOVA, largest first; empty where `missing` says why
    fanova: dict[str, float]  # of the parameters that all complete trials have; may be empty
    trials: int  # complete ones
    fanova_trials: int
    missing: str | None


def importance(study: Study) -> Importance:
    """Both measures, as Optuna computes them."""
    trials = complete(study)
    missing = None
    if len(trials) < FEWEST_TRIALS:
        missing = (
            f"Importance needs at least {FEWEST_TRIALS} complete trials, "
            f"and this study has {len(trials)}."
        )
    elif not any(trial.distributions for trial in trials):
        missing = "Nothing was searched: every hyperparameter is fixed."
    elif len({trial.value for trial in trials}) == 1:
        missing = (
            f"All {len(trials)} complete trials reached the same value, "
            f"so no parameter can be said to matter."
        )
    if missing:
        return Importance({}, {}, len(trials), 0, missing)
    selected = _even_selection(study)
    with warnings.catch_warnings():
        # Optuna warns of few trials; the page says so in its own words.
        warnings.simplefilter("ignore")
        shares = get_param_importances(study)
        fanova: dict[str, float] = {}
        # Where no tree finds anything to split by, Optuna's fANOVA gives up.
        with suppress(RuntimeError):
            fanova = get_param_importances(selected, evaluator=FanovaImportanceEvaluator(seed=0))
    known = len(complete(selected))
    return Importance(_ordered(shares), _ordered(fanova), len(trials), known, None)


def _even_selection(study: Study) -> Study:
    trials = complete(study)
    stride = -(-len(trials) // FANOVA_TRIALS)
    if stride == 1:
        return study
    fewer = optuna.create_study(direction=study.direction)
    fewer.add_trials(trials[::stride])
    return fewer


def _ordered(shares: dict[str, float]) -> dict[str, float]:
    # Optuna leaves the order of equal ones to the hash seed.
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))
