"""Training many GRUs as one: batched matrix products over the slots of a pool, on any device.

`BatchedEngine` is meant for CUDA, where one small GRU leaves most of the device idle. It was
written and tested on the CPU and **has not run on a GPU yet**; its CUDA test waits for one.

What a slot computes is what ``reference.Trainer`` computes, up to rounding. How a sum rounds
depends on the shapes it is batched into, so on a slot's neighbours: equality bit for bit isn't
promised, equality to 1e-9 in float64 is tested.

Letters: C inputs of a layer, H hidden size, D directions, F = D * H features, L layers,
O outputs, N rows of a split, T steps, as in ``training.network`` and ``data.dataset``; and

    K  slots of one network, trained together
    B  rows of a slot in one micro-batch
    G  gates, 3
    Q  numbers that the network learns, in the order of ``Network.shapes``
    V  token ids of a vocabulary; C is then the size of their embedding
    J  recurrences that run together: of K slots, or of K slots in two directions

Imports run downward: ``engine``; ``forward``, ``updates`` and ``batches``; ``recurrence``.
"""

from gru_optuna.training.engines.batched.engine import BatchedEngine

__all__ = ["BatchedEngine"]
