"""Metrics, for the trainers: what they measure is defined where the data are."""

from gru_optuna.data.metrics import classification_metric, measure

__all__ = ["classification_metric", "measure"]
