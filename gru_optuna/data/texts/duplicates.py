"""Texts that stand in the files more than once, by digests of 16 bytes."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.splitting import Files
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from gru_optuna.data.splitting import Examples

_DIGEST = 16  # bytes: by chance no two of as many texts as there are will be equal


def deduplicate(files: Files[str]) -> tuple[Files[str], dict[str, int]]:
    """Every text once, whatever the white space, and in one file.

    Of equal rows the first stays. A text that has several answers has none: all its rows go.
    What is in the test or the validation file leaves the other files, training last, so that
    the test is of the very rows its maker chose.

    Returns
    -------
    Files, dict
        What is left, and how many rows went as ``duplicates``, as ``contradictions``, and
        because they are ``in another part``.
    """
    dropped = {"duplicates": 0, "contradictions": 0, "in another part": 0}
    in_turn = [one for one in (files.test, files.validation, files.train) if one is not None]
    texts = _numbered([_digests(one.rows) for one in in_turn])
    taken = np.zeros(1 + max(int(one.max()) for one in texts), np.bool_)
    left: dict[int, Examples[str]] = {}
    for file, numbers in zip(in_turn, texts, strict=True):
        elsewhere = taken[numbers]
        torn, first = _torn_and_first(file, numbers)
        kept = ~elsewhere & ~torn & first
        dropped["in another part"] += int(elsewhere.sum())
        dropped["contradictions"] += int((~elsewhere & torn).sum())
        dropped["duplicates"] += int((~elsewhere & ~torn & ~first).sum())
        taken[numbers] = True
        if not kept.any():
            raise DataError(
                f"{file.source}: every row contradicts another, or is in another part too. "
                f"Write deduplicate = false under [data] to keep them."
            )
        left[id(file)] = file.take(np.flatnonzero(kept))
    validation, test = (
        None if one is None else left[id(one)] for one in (files.validation, files.test)
    )
    return Files(left[id(files.train)], validation, test), dropped


def _digests(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Of each text (N, 2), whatever its white space."""
    found = bytearray()
    for text in texts:
        # A lone surrogate, which only a program's rows can hold, is no UTF-8.
        raw = " ".join(text.split()).encode("utf-8", "surrogatepass")
        found += hashlib.blake2b(raw, digest_size=_DIGEST).digest()
    return np.frombuffer(found, np.uint64).reshape(-1, 2)


def _numbered(digests: list[NDArray[np.uint64]]) -> list[NDArray[np.int64]]:
    """The number of each row's text (N,), the same wherever it stands."""
    all_of_them = np.concatenate(digests)
    order = np.lexsort(all_of_them.T)
    new = np.ones(len(order), np.bool_)
    new[1:] = (all_of_them[order[1:]] != all_of_them[order[:-1]]).any(axis=1)
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(new) - 1
    return np.split(numbers, np.cumsum([len(one) for one in digests])[:-1])


def _torn_and_first(
    file: Examples[str], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows have a text of several answers, and which are their text's first (N,)."""
    texts, firsts, of_row = np.unique(numbers, return_index=True, return_inverse=True)
    first = np.zeros(len(numbers), np.bool_)
    first[firsts] = True
    answers = file.targets if file.labels is None else file.labels.places
    assert answers is not None
    torn = np.zeros(len(texts), np.bool_)
    torn[of_row[~first & (answers != answers[firsts][of_row])]] = True
    return torn[of_row], first
