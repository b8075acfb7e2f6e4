"""scikit-learn's own checks of an estimator, on a budget of seconds."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.tiny_estimators import TINY
from sklearn.utils.estimator_checks import parametrize_with_checks

from gru_optuna import GRUClassifier, GRURegressor

REGRESSOR = TINY | {"epochs": 30, "patience": 30}


@parametrize_with_checks([GRUClassifier(**TINY), GRURegressor(**REGRESSOR)])
@pytest.mark.filterwarnings("ignore")
def test_it_is_an_estimator_of_scikit_learn(estimator: object, check: Any) -> None:
    check(estimator)
