"""Recorded sequences to scaled tensors."""
