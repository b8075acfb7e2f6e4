"""Notes and small figures of a study, and a sentence for each trial, for optuna-dashboard.

A worker writes them while it trains, so they must be cheap: no Plotly, no importances.
"""

from gru_optuna.report.notes.describe import describe_at, make_note_writer, write_note

__all__ = ["describe_at", "make_note_writer", "write_note"]
