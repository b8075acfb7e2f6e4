"""Texts to a `Dataset`: deduplicate, split, tokenize, cut, pad. In this order.

The tokenizer sees the training rows alone, so a word of the test is unknown unless it was met.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.answers import assemble
from gru_optuna.data.examples import Examples, Files, divide
from gru_optuna.data.given import open_table
from gru_optuna.data.narrowing import cut_down
from gru_optuna.data.rows import classes_of
from gru_optuna.data.tokens import SPECIAL, TextEncoder, encode, train_tokenizer
from gru_optuna.errors import DataError
from gru_optuna.hyperparameters import Range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.data.given import Source
    from gru_optuna.data.tables import Table
    from gru_optuna.spec import Specification

MOST_TOKENS = 512
"""Of a row, unless the study file says otherwise: a GRU reads step by step."""

_USUAL_SHARE = 0.99  # of the training rows are left whole, unless the study file says otherwise


def load_text(
    spec: Specification, source: Source, fold: int | None = None, *, refit: bool = False
) -> Dataset:
    """Reads and prepares texts with labels, or with a number to predict.

    Parameters
    ----------
    spec
        Its task, ``data`` section and seed.
    source, fold, refit
        As `load_dataset`'s.

    Raises
    ------
    DataError
    """
    data = spec.data

    def read_part(part: float | str | None) -> Examples[str] | None:
        return _read(spec, open_table(source, part)) if isinstance(part, str) else None

    train = _read(spec, open_table(source, data.train))
    read = Files(train, validation=read_part(data.validation), test=read_part(data.test))
    files, dropped = deduplicate(read) if data.deduplicate else (read, {})
    parts = divide(spec, files, fold)
    parts = parts.refitting() if refit else parts
    sizes = _vocabularies(spec)
    tokenizer = train_tokenizer(
        data.tokenizer, parts.train.rows, max(sizes, default=None), min(sizes, default=None)
    )
    if tokenizer.get_vocab_size() <= len(SPECIAL):
        raise DataError(
            f"{read.train.source}: no {data.tokenizer} token occurs twice in the training rows. "
            f"Add rows, or take another tokenizer."
        )
    smallest = cut_down(tokenizer, min(sizes)) if len(sizes) > 1 else tokenizer
    encoder = TextEncoder(tokenizer, _limit(spec, smallest, parts.train.rows), data.text)
    return assemble(
        spec,
        parts,
        lambda part: encoder.encode(part.rows),
        fingerprint=fingerprint(read.all()),
        preprocessing=encoder.as_json(),
        vocabulary=encoder.vocabulary,
        dropped=dropped,
    )


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
    taken: set[str] = set()

    def unique(file: Examples[str]) -> Examples[str]:
        texts = [" ".join(text.split()) for text in file.rows]
        answers: dict[str, set[str | float]] = {}
        for row, text in enumerate(texts):
            answers.setdefault(text, set()).add(file.answer(row))
        met: set[str] = set()
        kept: list[int] = []
        for row, text in enumerate(texts):
            if text in taken:
                dropped["in another part"] += 1
            elif len(answers[text]) > 1:
                dropped["contradictions"] += 1
            elif text in met:
                dropped["duplicates"] += 1
            else:
                kept.append(row)
                met.add(text)
        taken.update(answers)
        if not kept:
            raise DataError(
                f"{file.source}: every row contradicts another, or is in another part too. "
                f"Write deduplicate = false under [data] to keep them."
            )
        return file.take(kept)

    test = unique(files.test) if files.test else None
    validation = unique(files.validation) if files.validation else None
    return Files(unique(files.train), validation, test), dropped


def fingerprint(files: list[Examples[str]]) -> str:
    """SHA-256 of all texts and what is to be told of them, in their order."""
    digest = hashlib.sha256()
    for file in files:
        groups = file.groups or [""] * len(file)
        digest.update(f"{len(file)} rows".encode())
        for row, (text, group) in enumerate(zip(file.rows, groups, strict=True)):
            digest.update(repr((text, file.answer(row), group)).encode())
    return digest.hexdigest()


def texts_of(table: Table, column: str) -> list[str]:
    """One column of texts, none of them empty.

    Raises
    ------
    DataError
        Naming the first row without one.
    """
    texts = table.texts(column)
    for row, text in enumerate(texts):
        if not text or text.isspace():
            raise DataError(
                f'{table.at(row)}: column "{column}" is empty. Fill it in, or remove the row.'
            )
    return texts


def _read(spec: Specification, table: Table) -> Examples[str]:
    data = spec.data
    assert data.text is not None
    texts = texts_of(table, data.text)
    labels = None if data.label is None else table.labels(data.label)
    return Examples(
        source=table.source,
        rows=texts,
        labels=labels,
        targets=None if data.target is None else table.numbers(data.target),
        at=table.at,
        classes=classes_of(labels or ()),
        groups=None if data.group is None else table.labels(data.group),
    )


def _vocabularies(spec: Specification) -> list[int]:
    """Those that a trial may have; none where the data decide."""
    given = spec.data.vocabulary
    choices = given if isinstance(given, list) else [given]
    return [int(choice) for choice in choices if isinstance(choice, int)]


def _limit(spec: Specification, tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    """How many tokens of a text are kept: the most that a trial may read.

    `tokenizer` is that of the smallest vocabulary, which makes the most tokens of a text.
    """
    match spec.data.max_tokens:
        case None:
            lengths = [len(ids) for ids in encode(tokenizer, texts)]
            usual = np.quantile(lengths, _USUAL_SHARE, method="higher")
            return min(int(usual), MOST_TOKENS)
        case Range(high=high):
            return int(high)
        case list(choices):
            return max(int(choice) for choice in choices)
        case number:
            return int(number)
