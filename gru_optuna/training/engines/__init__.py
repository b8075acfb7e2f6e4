"""Engines that train an epoch of many trials: on the CPU and on a GPU."""
