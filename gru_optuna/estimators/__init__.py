"""Estimators of scikit-learn that tune inside ``fit``.

base.py        what all of them do: tune, keep the study and the bundle
rows.py        X as people have it: texts, sequences, a matrix
labelled.py    GRUClassifier and GRURegressor
forecaster.py  GRUForecaster
progress.py    a bar, in a notebook and in a terminal
"""

from gru_optuna.estimators.forecaster import GRUForecaster
from gru_optuna.estimators.supervised import GRUClassifier, GRURegressor

__all__ = ["GRUClassifier", "GRUForecaster", "GRURegressor"]
