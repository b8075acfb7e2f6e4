"""Experiment trackers that are told what happens to a study, without ever holding it up."""

from gru_optuna.tracking.background import BackgroundTracker, open_tracker
from gru_optuna.tracking.tracker import Tracker

__all__ = ["BackgroundTracker", "Tracker", "open_tracker"]
