"""Texts that occur in the files more than once, found by digests of 16 bytes."""

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

_DIGEST = 16  # bytes: enough that no two different texts have the same one by chance


def deduplicate(files: Files[str]) -> tuple[Files[str], dict[str, int]]:
    """Keeps every text once, whatever its white space, and in one file.

    The first of equal rows stays. A text with several labels or targets is dropped with all its
    rows. A text of the test or the validation file is dropped from the other files, so that the
    test rows are exactly those that their author chose.

    Returns
    -------
    Files, dict
        What is left, and how many rows were dropped as ``duplicates``, as ``contradictions``,
        and because they are ``in another part``.

    Raises
    ------
    DataError
        If nothing is left of a file.
    """
    dropped = {"duplicates": 0, "contradictions": 0, "in another part": 0}
    in_turn = [file for file in (files.test, files.validation, files.train) if file is not None]
    texts = _numbered([_digests(file.rows) for file in in_turn])
    taken = np.zeros(1 + max(int(numbers.max()) for numbers in texts), np.bool_)
    left: dict[int, Examples[str]] = {}
    for file, numbers in zip(in_turn, texts, strict=True):
        elsewhere = taken[numbers]
        contradictory, first = _contradictory_and_first(file, numbers)
        kept = ~elsewhere & ~contradictory & first
        dropped["in another part"] += int(elsewhere.sum())
        dropped["contradictions"] += int((~elsewhere & contradictory).sum())
        dropped["duplicates"] += int((~elsewhere & ~contradictory & ~first).sum())
        taken[numbers] = True
        if not kept.any():
            raise DataError(
                f"{file.source}: every row contradicts another, or is also in another part. "
                f"Write deduplicate = false under [data] to keep them."
            )
        left[id(file)] = file.take(np.flatnonzero(kept))
    validation, test = (
        None if file is None else left[id(file)] for file in (files.validation, files.test)
    )
    return Files(left[id(files.train)], validation, test), dropped


def _digests(texts: Iterable[str]) -> NDArray[np.uint64]:
    """The digest of each text (N, 2), whatever its white space."""
    found = bytearray()
    for text in texts:
        # Rows that a program passes may hold lone surrogates, which UTF-8 can't encode.
        raw = " ".join(text.split()).encode("utf-8", "surrogatepass")
        found += hashlib.blake2b(raw, digest_size=_DIGEST).digest()
    return np.frombuffer(found, np.uint64).reshape(-1, 2)


def _numbered(digests: list[NDArray[np.uint64]]) -> list[NDArray[np.int64]]:
    """A number for each row's text (N,), the same wherever the text occurs."""
    all_of_them = np.concatenate(digests)
    order = np.lexsort(all_of_them.T)
    new = np.ones(len(order), np.bool_)
    new[1:] = (all_of_them[order[1:]] != all_of_them[order[:-1]]).any(axis=1)
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.cumsum(new) - 1
    return np.split(numbers, np.cumsum([len(part) for part in digests])[:-1])


def _contradictory_and_first(
    file: Examples[str], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows have a text with several labels or targets, and which are their text's first."""
    texts, firsts, of_row = np.unique(numbers, return_index=True, return_inverse=True)
    first = np.zeros(len(numbers), np.bool_)
    first[firsts] = True
    targets = file.targets if file.labels is None else file.labels.places
    assert targets is not None
    contradictory = np.zeros(len(texts), np.bool_)
    contradictory[of_row[~first & (targets != targets[firsts][of_row])]] = True
    return contradictory[of_row], first
