"""Bayesian hyperparameter optimization for GRU networks.

>>> import gru_optuna
>>> result = gru_optuna.tune("studies/japanese-vowels.toml")  # doctest: +SKIP
>>> result.best.value                                          # doctest: +SKIP
1.0
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gru_optuna.bundle.making import load_bundle
    from gru_optuna.tuning import tune

__all__ = ["load_bundle", "tune"]


def __getattr__(name: str) -> object:
    # torch and optuna take seconds to import; gru-optuna --help needs neither.
    if name == "tune":
        from gru_optuna.tuning import tune

        return tune
    if name == "load_bundle":
        from gru_optuna.bundle.making import load_bundle

        return load_bundle
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
