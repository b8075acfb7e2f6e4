"""Embeddings that a network starts from: what the training texts say about their tokens.

PPMI-SVD (Levy, Goldberg & Dagan 2015): tokens that occur near each other are counted, the counts
become positive pointwise mutual information (PPMI), and a truncated singular value decomposition
makes it a table of as many columns as an embedding has. Letters: V token ids, E the embedding's
size, N training rows.
"""

from __future__ import annotations

import threading
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from gru_optuna.data.dataset import PADDING
from gru_optuna.training.initializers import initial_parameters
from gru_optuna.training.network import EMBEDDING

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array
    from torch import Tensor

    from gru_optuna.data.dataset import Dataset, Split
    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.training.network import Network

WINDOW = 4
"""Tokens at most this far apart co-occur; a pair at distance d counts 1 / d."""

CONTEXT_POWER = 0.75
"""Counts of contexts are raised to this, so that rare contexts weigh less."""

MOST_READ = 1_000_000
"""Tokens of training rows that are counted at most. They bound the memory: 4 million pairs."""

MOST_TOKENS = 50_000
"""Tokens that get a row of the table, the most frequent ones. They bound the time."""

_ROWS_TOGETHER = 1024
_ITERATIONS = 4
_TABLES = 4  # of different sizes, which an engine keeps

# Limits on threads hold for the whole process, so two tables aren't computed at once.
_LOCK = threading.Lock()


class FirstWeights:
    """First weights of the trials of one dataset, which share its tables of embeddings.

    Parameters
    ----------
    dataset
        The data; embeddings are computed from its training rows when a trial first asks for them.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._table = lru_cache(_TABLES)(
            partial(ppmi_embeddings, dataset.train, dataset.vocabulary)
        )

    def draw(
        self, network: Network, hyperparameters: Hyperparameters, seed: int
    ) -> dict[str, Tensor]:
        """All parameters of a new trial, as `initial_parameters` draws them.

        With ``ppmi``, the tokens that the table knows have its rows instead. Whatever the trial's
        initializer draws stays the same.
        """
        parameters = initial_parameters(network, hyperparameters.initializer, seed)
        if hyperparameters.embedding_initializer == "ppmi":
            with _LOCK:
                table = self._table(network.inputs)
            known = table.any(dim=1).unsqueeze(1)
            drawn = parameters[EMBEDDING][:, : table.shape[1]]
            drawn.copy_(torch.where(known, table, drawn))
        return parameters


def ppmi_embeddings(train: Split, vocabulary: int, size: int) -> Tensor:
    """Embeddings of the tokens of the training rows, the same in every call on one machine.

    Parameters
    ----------
    train
        The training rows, of token ids.
    vocabulary
        V.
    size
        The most columns of the table.

    Returns
    -------
    Tensor
        (V, E) float32, with E below `size` only where fewer tokens co-occur. The rows of tokens
        that co-occur with none, or aren't among the most frequent 50,000, are zero. The others
        have a standard deviation of 1, all together.
    """
    from threadpoolctl import threadpool_limits

    counts = _co_occurrences(train.to(torch.device("cpu"), torch.float32), vocabulary)
    totals = counts.sum(axis=1)
    order = np.argsort(-totals, kind="stable")[:MOST_TOKENS]
    seen = np.sort(order[totals[order] > 0])
    # One thread, because how a sum is divided among threads changes its last bits, and workers
    # with more or fewer cores have to start a trial from the same weights.
    with threadpool_limits(1, user_api="blas"):
        left = _left_singular(_ppmi(counts[seen][:, seen]), size)
    table = torch.zeros(vocabulary, left.shape[1])
    if left.size:
        table[seen] = torch.from_numpy(left / left.std()).float()
    return table


def _co_occurrences(train: Split, vocabulary: int) -> csr_array:
    """(V, V), how often two tokens occur near each other, weighted by their distance."""
    from scipy.sparse import coo_array

    stride = -(-int(train.lengths.sum()) // MOST_READ)
    pairs = [
        _pairs(batch.values.cpu().numpy())
        for batch in train.batches(_ROWS_TOGETHER, torch.arange(0, len(train), stride))
    ]
    first, second, weights = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    counts = coo_array((weights, (first, second)), shape=(vocabulary, vocabulary)).tocsr()
    return counts + counts.T


def _pairs(
    tokens: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """All pairs of tokens of a row (B, T) that are near each other, with their weights."""
    first, second, weights = [], [], []
    for distance in range(1, WINDOW + 1):
        left, right = tokens[:, :-distance], tokens[:, distance:]
        both = (left != PADDING) & (right != PADDING)
        first.append(left[both].astype(np.int32))
        second.append(right[both].astype(np.int32))
        weights.append(np.full(len(first[-1]), 1 / distance))
    return np.concatenate(first), np.concatenate(second), np.concatenate(weights)


def _ppmi(counts: csr_array) -> csr_array:
    """Positive pointwise mutual information of tokens (rows) and their contexts (columns)."""
    from scipy.sparse import csr_array

    tokens, contexts = counts.sum(axis=1), counts.sum(axis=0) ** CONTEXT_POWER
    table = counts.tocoo()
    expected = tokens[table.row] * contexts[table.col] / contexts.sum()
    values = np.maximum(np.log(table.data / expected), 0)
    ppmi = csr_array((values, (table.row, table.col)), shape=counts.shape)
    ppmi.eliminate_zeros()
    return ppmi


def _left_singular(matrix: csr_array, size: int) -> NDArray[np.float64]:
    """The left singular vectors of the largest singular values, times the roots of these.

    Randomized (Halko, Martinsson & Tropp 2011): a Lanczos solver takes five times as long for 128
    vectors, and minutes for more.
    """
    from sklearn.utils.extmath import randomized_svd

    if not matrix.nnz:
        return np.zeros((matrix.shape[0], 0))
    u, s, _ = randomized_svd(matrix, min(size, *matrix.shape), n_iter=_ITERATIONS, random_state=0)
    return np.asarray(u * np.sqrt(s))
