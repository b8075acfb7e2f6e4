"""Bayesian hyperparameter optimization for GRU networks.

>>> import gru_optuna
>>> result = gru_optuna.tune("studies/japanese-vowels.toml")  # doctest: +SKIP
>>> result.best.value                                          # doctest: +SKIP
1.0
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gru_optuna.bundle.load import load_bundle
    from gru_optuna.client import connect
    from gru_optuna.estimators import GRUClassifier, GRUForecaster, GRURegressor
    from gru_optuna.objective import GRUObjective
    from gru_optuna.tuning.tune import tune

__all__ = [
    "GRUClassifier",
    "GRUForecaster",
    "GRUObjective",
    "GRURegressor",
    "connect",
    "load_bundle",
    "tune",
]

_HOMES = {
    "GRUClassifier": "estimators",
    "GRUForecaster": "estimators",
    "GRUObjective": "objective",
    "GRURegressor": "estimators",
    "connect": "client",
    "load_bundle": "bundle.load",
    "tune": "tuning.tune",
}


def __getattr__(name: str) -> object:
    # torch and optuna take seconds to import; gru-optuna --help needs neither.
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
