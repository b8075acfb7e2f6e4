"""Who ends a trial early. Steps are epochs, counted from 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optuna import pruners

if TYPE_CHECKING:
    from gru_optuna.study_file import Specification

FIRST_RUNG = 0.06
"""asha's and hyperband's first cut, as a share of the epochs: one epoch says too little."""


def make_pruner(spec: Specification) -> pruners.BasePruner:
    """Optuna's pruner of that name."""
    pruner, epochs = spec.pruner, spec.training.epochs
    min_resource = pruner.min_resource or max(1, round(FIRST_RUNG * epochs))
    match pruner.name:
        case "asha":  # Li et al. 2020
            return pruners.SuccessiveHalvingPruner(
                min_resource=min_resource, reduction_factor=pruner.reduction_factor or 4
            )
        case "hyperband":  # Li et al. 2018
            return pruners.HyperbandPruner(
                min_resource=min_resource,
                max_resource=max(min_resource, epochs),
                reduction_factor=pruner.reduction_factor or 3,
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
