"""Training one GRU after another in compiled code: `reference`'s numbers, several times faster.

The small networks of a study spend most of ``torch.nn.GRU``'s time outside arithmetic: a
dispatch per operation and step, packing of the same weights at every product, padding. Here an
epoch of one trial is one call without the GIL, forward and backward written by hand.

There is no BLAS in it. A BLAS packs and checks its operands at every call, while a recurrence
multiplies by the same weights at every step; weights packed once per update and products kept
in registers (``tiles``) came out 1.0 to 1.4 times as fast as the better of two BLAS, and leave
no threads to restrain. ``benchmarks/LOG.md`` has the experiments, ``benchmarks/steps.py``
measures.

To debug, set ``NUMBA_DISABLE_JIT=1``: all of it then runs as plain Python on numpy arrays,
slowly. Compiled code checks no index; `train_epoch` and `predict` check before they enter it.

Letters: C inputs of a layer, H hidden size, D directions, L layers, O outputs, B rows of a
batch, T steps, N rows of a split, as in ``training.network`` and ``data.dataset``; and

    S  cells: a row at one step. Those of step t are ``starts[t]:starts[t + 1]``, one for each
       row of the batch at least t + 1 steps long, longest first: padding costs nothing
    V  numbers in a vector register; J panels of V units hold a layer; P = J * V is H rounded up
    W  width of a layer's output: D * P, rounded up to two vectors
    Q  parameters of the network

Of texts, C is the size of an embedding, and the embedding is one of the parameters.

Imports run downward: ``epoch``, ``embedding`` ``layers`` ``head`` ``updates``, ``recurrence``
``panels``, ``tiles``, ``vectors``, ``compiler``; beside them the data, ``slots`` and ``workspace``.
"""

from gru_optuna.training.engines.compiled.compiler import code_folder
from gru_optuna.training.engines.compiled.epoch import (
    DIVERGED,
    FINE,
    GRADIENT,
    LOSS,
    predict,
    train_epoch,
    warm_up,
)
from gru_optuna.training.engines.compiled.slots import RowArrays, SlotArrays, flatten, unflatten
from gru_optuna.training.engines.compiled.updates import ADAM, RMSPROP, Recipe
from gru_optuna.training.engines.compiled.workspace import Workspace, workspace_bytes

__all__ = [
    "ADAM",
    "DIVERGED",
    "FINE",
    "GRADIENT",
    "LOSS",
    "RMSPROP",
    "Recipe",
    "RowArrays",
    "SlotArrays",
    "Workspace",
    "code_folder",
    "flatten",
    "predict",
    "train_epoch",
    "unflatten",
    "warm_up",
    "workspace_bytes",
]
