"""Checkpoints of trials, and where they are kept."""
