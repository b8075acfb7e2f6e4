"""Estimators for scikit-learn, which tune inside ``fit``.

base.py          what all of them do: tune, keep the study and the bundle
inputs.py        the kinds of X: texts, sequences, a matrix
supervised.py    GRUClassifier and GRURegressor
forecaster.py    GRUForecaster
progress_bar.py  a bar, in a notebook and in a terminal
"""

from gru_optuna.estimators.forecaster import GRUForecaster
from gru_optuna.estimators.supervised import GRUClassifier, GRURegressor

__all__ = ["GRUClassifier", "GRUForecaster", "GRURegressor"]
