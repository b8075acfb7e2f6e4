"""From texts to a `Dataset`: deduplicate, split, tokenize, cut, in this order.

The tokenizer learns from the training rows alone, so words that only test rows have are unknown.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gru_optuna.data.readers.column_formats import TableFormats
from gru_optuna.data.readers.in_memory import open_table
from gru_optuna.data.readers.sequences import classes_of
from gru_optuna.data.readers.text_column import Texts
from gru_optuna.data.splitting import Examples, Files, divide
from gru_optuna.data.targets import assemble
from gru_optuna.data.texts.duplicates import deduplicate
from gru_optuna.data.texts.tokenizer import (
    SPECIAL,
    TextEncoder,
    encode_in_batches,
    train_tokenizer,
)
from gru_optuna.errors import DataError, StudyError
from gru_optuna.study_file.searchable import Range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Tokenizer

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.data.readers.in_memory import Source
    from gru_optuna.data.readers.tables import Table
    from gru_optuna.study_file import Specification

MOST_TOKENS = 512
"""The most tokens of a row, unless the study file says otherwise: a GRU reads step by step."""

_INK = r"[^\s\x1c-\x1f]"  # no white space, as str.isspace has it
_WHOLE_SHARE = 0.99  # of the training rows are left whole, unless the study file says otherwise


@dataclass(frozen=True)
class TextFiles:
    """The texts of the study's files, each once unless duplicates are kept."""

    files: Files[str]
    fingerprint: str  # of all rows, dropped ones included
    dropped: dict[str, int]  # numbers of rows, by reason
    formats: TableFormats


def read_texts(spec: Specification, source: Source) -> TextFiles:
    """Reads texts with labels, or with a number to predict.

    Parameters
    ----------
    spec
        Its task and ``data`` section.
    source
        As in `load_dataset`.

    Raises
    ------
    DataError
        If a file can't be read, or nothing is left of it.
    StudyError
        If the study searches its vocabulary, as version 0.1.0 could.
    """
    data = spec.data
    if isinstance(data.vocabulary, list):
        raise StudyError(
            f'study "{spec.name}" searches vocabulary = {data.vocabulary}, which only version '
            f"0.1.0 could. You can look at it, but not tune, confirm or export it. "
            f"Tune a new study for each vocabulary, or use version 0.1.0."
        )

    def read_part(part: float | str | None) -> Examples[str] | None:
        return _read(spec, open_table(source, part, formats)) if isinstance(part, str) else None

    formats = TableFormats.of(data)
    train = _read(spec, open_table(source, data.train, formats))
    read = Files(train, validation=read_part(data.validation), test=read_part(data.test))
    files, dropped = deduplicate(read) if data.deduplicate else (read, {})
    return TextFiles(files, fingerprint(read.all()), dropped, formats)


def prepare_texts(
    spec: Specification, read: TextFiles, fold: int | None = None, *, refit: bool = False
) -> Dataset:
    """Splits, tokenizes and cuts texts.

    Parameters
    ----------
    spec
        Its task, ``data`` section and seed.
    read
        The texts, from `read_texts`.
    fold, refit
        As in `load_dataset`.

    Raises
    ------
    DataError
        If the rows can't be split, have no frequent tokens, or can't be measured.
    """
    data = spec.data
    parts = divide(spec, read.files, fold)
    parts = parts.refitting() if refit else parts
    size = data.vocabulary if isinstance(data.vocabulary, int) else None
    tokenizer = train_tokenizer(data.tokenizer, parts.train.rows, size)
    if tokenizer.get_vocab_size() <= len(SPECIAL):
        raise DataError(
            f"{read.files.train.source}: no {data.tokenizer} token occurs twice in the training "
            f"rows. Add rows, or use another tokenizer."
        )
    encoder = TextEncoder(
        tokenizer, _limit(spec, tokenizer, parts.train.rows), data.text, read.formats
    )
    return assemble(
        spec,
        parts,
        lambda part: encoder.encode(part.rows),
        fingerprint=read.fingerprint,
        preprocessing=encoder.as_json(),
        vocabulary=encoder.vocabulary,
        dropped=read.dropped,
    )


def fingerprint(files: list[Examples[str]]) -> str:
    """SHA-256 of all texts with their labels or targets, in order."""
    digest = hashlib.sha256()
    for file in files:
        groups = file.groups or [""] * len(file)
        digest.update(f"{len(file)} rows".encode())
        for row, (text, group) in enumerate(zip(file.rows, groups, strict=True)):
            digest.update(repr((text, file.target(row), group)).encode())
    return digest.hexdigest()


def texts_of(table: Table, column: str) -> Texts:
    """Reads a column of texts, none of which may be empty.

    Raises
    ------
    DataError
        Naming the first empty row.
    """
    texts = table.strings(column)
    empty = texts.is_null() | ~texts.str.contains(_INK).fill_null(value=True)
    if empty.any():
        row = int(empty.arg_max() or 0)
        raise DataError(
            f'{table.at(row)}: column "{column}" is empty. Fill it in, or remove the row.'
        )
    return Texts(texts)


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
        classes=() if labels is None else classes_of(labels.names),
        groups=None if data.group is None else table.labels(data.group),
    )


def _limit(spec: Specification, tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    """The number of tokens of a text to keep: the most that a trial may read."""
    match spec.data.max_tokens:
        case None:
            lengths = [len(ids) for batch in encode_in_batches(tokenizer, texts) for ids in batch]
            longest = np.quantile(lengths, _WHOLE_SHARE, method="higher")
            return min(int(longest), MOST_TOKENS)
        case Range(high=high):
            return int(high)
        case list(choices):
            return max(int(choice) for choice in choices)
        case number:
            return int(number)
