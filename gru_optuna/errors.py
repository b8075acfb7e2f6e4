"""What can go wrong, as one tree.

    GRUOptunaError
    ├── UserError             the input is wrong: one plain message, exit code 2
    │   ├── StudyFileError        the TOML file, or a flag that overrides it
    │   ├── DataError             the data it names
    │   │   ├── TooFewRows            fewer than its parts, window, horizon and season need
    │   │   └── RareClass             a class with too few rows to hold some out
    │   ├── StorageError          the database
    │   │   └── DatabaseMissing       there is none yet
    │   ├── StudyError            the study in the database
    │   └── BundleError           a bundle that can't be made, read or trusted
    ├── TrialFailed           one trial ends as failed, the study continues
    │   ├── Diverged              its loss or gradient stopped being a number
    │   ├── OutOfMemory           its epoch didn't fit
    │   └── Crashed               its epoch raised anything else
    ├── DamagedCheckpoint     (in checkpoints.checkpoint) the trial needs an earlier one
    ├── DatabaseLost          its file was deleted, replaced or overwritten (exit code 1)
    └── StudyFailed           every trial fails: going on would waste the budget (exit code 1)

A message says what, where, got, and what to try.
"""

from __future__ import annotations

from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class GRUOptunaError(Exception):
    """Anything this package raises on purpose."""


class UserError(GRUOptunaError):
    """The user's input is wrong and the message says how to mend it."""


class StudyFileError(UserError):
    """A study file that can't be read, parsed or accepted."""


class DataError(UserError):
    """Data that can't be read or trained on."""


class TooFewRows(DataError):  # noqa: N818 (it says what is wrong)
    """Series that are too short for their parts, window, horizon and season."""


class StorageError(UserError):
    """A database that can't be opened, written, or isn't ours."""


class DatabaseMissing(StorageError):  # noqa: N818 (it says what is wrong)
    """A database that no command has created yet."""


class StudyError(UserError):
    """A study that doesn't exist, differs from its file, or is in use."""


class BundleError(UserError):
    """A bundle that can't be written, isn't one, or isn't what was exported."""


class RareClass(DataError):  # noqa: N818 (what was found, as `TrialFailed`)
    """A class has too few rows to hold some of them out."""

    def __init__(self, message: str, label: str) -> None:
        super().__init__(message)
        self.label = label


class TrialFailed(GRUOptunaError):  # noqa: N818 (an ending, not a fault)
    """One trial can't go on. The message becomes the reason in its attributes."""

    def in_fold(self, fold: int, folds: int) -> TrialFailed:
        """This failure as that of one fold (from 0) of a cross-validation.

        >>> str(TrialFailed("diverged in epoch 3").in_fold(0, 5))
        'fold 1 of 5: diverged in epoch 3'
        """
        self.args = (f"fold {fold + 1} of {folds}: {self}",)
        return self


class Quantity(StrEnum):
    """What can stop being finite, as messages name it."""

    TRAINING_LOSS = "the training loss"
    GRADIENT = "the gradient"
    VALIDATION_LOSS = "the validation loss"


class Diverged(TrialFailed):
    """Loss or gradient became infinite or NaN."""

    def __init__(self, what: Quantity, epoch: int) -> None:
        super().__init__(f"diverged in epoch {epoch}: {what} is not finite")


class OutOfMemory(TrialFailed):
    """The machine's memory or the device's was too small for an epoch."""

    def __init__(self, error: Exception, epoch: int) -> None:
        super().__init__(f"epoch {epoch} ran out of memory{_first_line(error)}")


class Crashed(TrialFailed):
    """An epoch raised something unexpected, which is this one's ``__cause__``."""

    def __init__(self, error: Exception, epoch: int) -> None:
        super().__init__(f"epoch {epoch} raised {type(error).__name__}{_first_line(error)}")
        self.__cause__ = error


class DatabaseLost(GRUOptunaError):  # noqa: N818
    """Somebody deleted or replaced the file of the database while this process used it.

    Attributes
    ----------
    saved : pathlib.Path, optional
        A new database with everything that was in it and isn't stored elsewhere.
    study : str, optional
        The only study that could be saved; None: all of them.
    """

    def __init__(self, lost: Path, saved: Path | None = None, study: str | None = None) -> None:
        self.lost, self.saved, self.study = lost, saved, study
        what = "deleted" if not lost.exists() else "overwritten, replaced or lost its -wal file"
        held = "Everything that it held" if study is None else f'The study "{study}"'
        kept = (
            f"{held}, with what was trained since, is in {saved}. To continue "
            f"there, run the same command with --storage sqlite:///{saved}."
            if saved
            else "What was trained since is lost. Restore a backup."
        )
        super().__init__(f"{lost} was {what} while this command used it. {kept}")


class StudyFailed(GRUOptunaError):  # noqa: N818
    """No trial of the study succeeds."""


_MOST_COMPARED, _LONGEST_NAME, _MOST_LISTED = 5_000, 200, 100


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """The end of an error sentence: the nearest known name, or all of them.

    >>> did_you_mean("dropuot", ["dropout", "l1"])
    'Did you mean "dropout"?'
    >>> did_you_mean("xyz", ["l2", "l1"])
    'Known: l1, l2.'
    """
    names = sorted(known)
    # A file can bring a million names, which would be compared, and listed, for minutes.
    if near := get_close_matches(got[:_LONGEST_NAME], names[:_MOST_COMPARED], n=1):
        return f'Did you mean "{near[0]}"?'
    few = names[:_MOST_LISTED]
    more = f" and {len(names) - len(few):,} more" if len(names) > len(few) else ""
    return f"Known: {', '.join(few)}{more}." if names else "There is none."


def _first_line(error: Exception) -> str:
    """The end of an outcome: torch's messages continue with advice and stacks."""
    line = str(error).strip().partition("\n")[0]
    return f": {line}" if line else ""
