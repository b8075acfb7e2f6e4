"""A study in a note, a few small figures and a sentence for a trial: for optuna-dashboard.

A worker makes them while it trains, so they cost milliseconds: no Plotly, no importances.
"""

from gru_optuna.report.notes.describe import describe_at, make_note_writer, write_note

__all__ = ["describe_at", "make_note_writer", "write_note"]
