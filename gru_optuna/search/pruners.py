"""Optuna's pruners, which end unpromising trials early. Steps are epochs, counted from 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna import pruners

from gru_optuna.search.successive_halving import FlatHalvingPruner
from gru_optuna.study_file import complete_pruner

if TYPE_CHECKING:
    from gru_optuna.study_file import Specification


def make_pruner(spec: Specification) -> pruners.BasePruner:
    """Optuna's pruner of the name that the study file gives."""
    pruner = complete_pruner(spec)
    # A share of the epochs, unless the study file says so: the first epoch says too little.
    first_rung, factor = pruner.min_resource or 1, pruner.reduction_factor or 2
    match pruner.name:
        case "asha":  # Li et al. 2020
            return FlatHalvingPruner(first_rung, factor)
        case "hyperband":  # Li et al. 2018
            return pruners.HyperbandPruner(
                min_resource=first_rung,
                max_resource=max(first_rung, spec.training.epochs),
                reduction_factor=factor,
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
        # `search.thaw` pauses such a study's trials. Plain Optuna, which can't, prunes none.
        case "thaw" | "none":
            return pruners.NopPruner()
