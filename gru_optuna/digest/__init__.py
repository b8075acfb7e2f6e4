"""A study in a note, a few small figures and a sentence for a trial: for optuna-dashboard.

A worker makes them while it trains, so they cost milliseconds: no Plotly, no importances.
"""

from gru_optuna.digest.describing import describe, describe_at, describing

__all__ = ["describe", "describe_at", "describing"]
