"""Checkpoints of trials and the stores that keep them."""
