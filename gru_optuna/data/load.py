"""Reads the files that a study names, and prepares its datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gru_optuna.data.dataset import Dataset
    from gru_optuna.data.readers.in_memory import Source
    from gru_optuna.study_file import Specification


def check_files(spec: Specification, folder: Path) -> None:
    """Makes sure that the files a study names are there, without importing torch.

    Parameters
    ----------
    spec
        Its task and ``data`` section.
    folder
        What relative paths are relative to.

    Raises
    ------
    DataError
        Naming a file that isn't there, and the nearest one that is.
    """
    from gru_optuna.data.readers.sequence_files import SEQUENCES
    from gru_optuna.data.readers.tables import TABLES
    from gru_optuna.data.readers.text_files import check_file

    parts = (spec.data.train, spec.data.validation, spec.data.test)
    for path in (folder / part for part in parts if isinstance(part, str)):
        if not path.exists():
            check_file(path, SEQUENCES if path.suffix in SEQUENCES else TABLES)


def load_dataset(
    spec: Specification, source: Source, fold: int | None = None, *, refit: bool = False
) -> Dataset:
    """Reads and prepares the rows a study names, whatever its task.

    Parameters
    ----------
    spec
        Its task, ``data`` section and seed.
    source
        The study file's folder, which relative paths are relative to; or the rows by name.
    fold
        The fold of ``data.folds`` to validate on, from 0. None: the part that ``data.validation``
        names or, if there are folds, the first fold.
    refit
        Whether to train on the validation rows too, once everything is decided; on all rows, the
        test rows included, of series.

    Raises
    ------
    DataError
        Naming the file, and the row or column, that can't be used.
    """
    read, prepare = _ways(spec)
    if fold is None and spec.data.folds is not None:
        fold = spec.data.folds - 1 if refit else 0  # the last one's parts reach up to the test
    return prepare(spec, read(spec, source), fold, refit=refit)


def load_folds(spec: Specification, source: Source) -> list[Dataset]:
    """Prepares the data once for each fold of ``data.folds``; every row is validated on once.

    With series, a fold validates on the rows that follow its training rows in time. The test
    rows are the same in all folds. Each fold's scaler and tokenizer see only its training rows.

    Raises
    ------
    DataError
        As `load_dataset`.
    """
    read, prepare = _ways(spec)
    rows = read(spec, source)
    if spec.data.folds is None:
        return [prepare(spec, rows)]
    return [prepare(spec, rows, fold) for fold in range(spec.data.folds)]


def _ways(spec: Specification) -> tuple[Callable[..., Any], Callable[..., Dataset]]:
    """A function that reads the study's files once, and one that makes a dataset of them."""
    # Imported late: each kind of rows brings libraries that the others don't need.
    match spec.kind:
        case "series":
            from gru_optuna.data.series.prepare import prepare_forecasting, read_forecasting

            return read_forecasting, prepare_forecasting
        case "texts":
            from gru_optuna.data.texts.prepare import prepare_texts, read_texts

            return read_texts, prepare_texts
        case "sequences":
            from gru_optuna.data.sequences.prepare import prepare_sequences, read_study_sequences

            return read_study_sequences, prepare_sequences
