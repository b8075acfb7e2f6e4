"""Recorded sequences: from files to scaled tensors."""
