"""Training many GRUs as one: batched matrix products over the slots of a pool, on any device.

`BatchedEngine` is meant for CUDA, where one small GRU leaves most of the device idle. It was
written and tested on the CPU and **has not run on a GPU yet**: ``benchmarks/cuda.py`` checks and
measures it on one.

A slot computes what ``reference.Trainer`` computes, up to rounding. The rounding of a sum depends
on the shapes it is batched into, and so on the other slots. Equality to 1e-9 in float64 is
tested; equality bit for bit isn't promised.

Letters: C inputs of a layer (for texts, the size of the embedding), H hidden size, D directions,
F = D * H features, L layers, O outputs, N rows of a split, T steps, V token ids, Q numbers that
the network learns, as in ``training.network`` and ``data.dataset``; and

    K  slots of one network, trained together
    B  rows of a slot in one micro-batch
    G  gates, 3
    J  recurrences that run together: K slots, or K slots in two directions

Imports run downward: ``engine``; ``forward``, ``updates`` and ``batches``; ``recurrence``.
"""

from gru_optuna.training.engines.batched.engine import BatchedEngine

__all__ = ["BatchedEngine"]
