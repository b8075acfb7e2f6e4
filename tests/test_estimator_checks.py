"""scikit-learn's own checks of an estimator, on a budget of seconds."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from gru_optuna import GRUClassifier, GRURegressor

TINY: dict[str, Any] = {
    "space": {
        "hidden_size": 8,
        "learning_rate": [0.05],
        "decay": "constant",
        "optimizer": "adam",
        "initializer": "orthogonal",
        "clip_norm": 1.0,
        "dropout": 0,
        "l1": 0,
        "l2": 0,
        "batch_size": [16, 32],
    },
    "trials": 1,
    "epochs": 20,
    "n_jobs": 1,
    "progress": False,
}


REGRESSOR = TINY | {"epochs": 30, "patience": 30}


@parametrize_with_checks([GRUClassifier(**TINY), GRURegressor(**REGRESSOR)])
@pytest.mark.filterwarnings("ignore")
def test_it_is_an_estimator_of_scikit_learn(estimator: object, check: Any) -> None:
    check(estimator)
