"""Optuna's pruners, which end unpromising trials early. Steps are epochs, counted from 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna import pruners

if TYPE_CHECKING:
    from gru_optuna.study_file import Pruner, Specification

FIRST_RUNG = 0.06
"""Epochs before the first cut of asha and hyperband, as a share of all: at the usual 40, the
value after a single epoch says too little about the last."""

_REDUCTION_FACTORS = {"asha": 4, "hyperband": 3}


def make_pruner(spec: Specification) -> pruners.BasePruner:
    """Optuna's pruner of the name that the study file gives."""
    pruner = complete_pruner(spec)
    match pruner.name:
        case "asha":  # Li et al. 2020
            assert pruner.min_resource
            assert pruner.reduction_factor
            return pruners.SuccessiveHalvingPruner(
                min_resource=pruner.min_resource, reduction_factor=pruner.reduction_factor
            )
        case "hyperband":  # Li et al. 2018
            assert pruner.min_resource
            assert pruner.reduction_factor
            return pruners.HyperbandPruner(
                min_resource=pruner.min_resource,
                max_resource=max(pruner.min_resource, spec.training.epochs),
                reduction_factor=pruner.reduction_factor,
            )
        case "median":
            return pruners.MedianPruner(
                n_startup_trials=pruner.n_startup_trials, n_warmup_steps=pruner.n_warmup_steps
            )
        case "percentile":
            return pruners.PercentilePruner(
                pruner.percentile,
                n_startup_trials=pruner.n_startup_trials,
                n_warmup_steps=pruner.n_warmup_steps,
            )
        case "none":
            return pruners.NopPruner()


def complete_pruner(spec: Specification) -> Pruner:
    """The ``[pruner]`` section with the defaults that depend on its name and on the epochs."""
    pruner = spec.pruner
    if pruner.name not in _REDUCTION_FACTORS:
        return pruner
    first = max(1, round(FIRST_RUNG * spec.training.epochs))
    factor = _REDUCTION_FACTORS[pruner.name]
    changes = {
        "min_resource": pruner.min_resource or first,
        "reduction_factor": pruner.reduction_factor or factor,
    }
    return pruner.model_copy(update=changes)
