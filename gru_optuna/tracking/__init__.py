"""Experiment trackers: they record what happens to a study, and never hold it up."""

from gru_optuna.tracking.background import BackgroundTracker, open_tracker
from gru_optuna.tracking.tracker import Tracker

__all__ = ["BackgroundTracker", "Tracker", "open_tracker"]
