"""Compiled code that trains one GRU at a time: what ``reference`` computes, several times faster.

With the small networks of a study, ``torch.nn.GRU`` spends most of its time outside arithmetic:
on dispatching every operation of every step, on packing the same weights for every product, on
padding. Here an epoch of one trial is one call that doesn't hold the interpreter's lock, with
forward and backward pass written by hand.

It uses no BLAS. A BLAS packs and checks its operands at every call, but a recurrence multiplies
by the same weights at every step. Weights packed once per update and sums kept in registers
(``tiles``) are 1.0 to 1.4 times as fast as the better of two BLAS libraries, and start no threads
of their own. ``benchmarks/LOG.md`` has the experiments; ``benchmarks/steps.py`` measures.

To debug, set ``NUMBA_DISABLE_JIT=1``: everything then runs as plain Python on numpy arrays,
slowly. Compiled code doesn't check indices; `train_epoch` and `predict` check their arguments
before they enter it.

Letters: C inputs of a layer (for texts, the size of the embedding), H hidden size, D directions,
L layers, O outputs, B rows of a batch, T steps, N rows of a split, Q numbers that the network
learns, as in ``training.network`` and ``data.dataset``; and

    S  cells: a row at one step. Those of step t are ``starts[t]:starts[t + 1]``, one for each
       row of the batch at least t + 1 steps long, longest first: padding costs nothing
    V  numbers in a vector register: 16 of float32 with AVX-512, 8 with AVX2, 4 with SSE or NEON
    J  panels of V units, which together hold a layer
    P  units of a layer with padding: J * V, which is H rounded up to whole registers
    W  width of a layer's output: D * P, rounded up to two vectors

Names begin with ``d_`` where they hold the derivative of the loss by something.

Imports run downward: ``epoch``, ``embedding`` ``layers`` ``head`` ``updates``, ``recurrence``
``panels``, ``tiles``, ``vectors``, ``compiler``; the data are in ``slots`` and ``workspace``.
"""
