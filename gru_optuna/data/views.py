"""Views: the ways in which a trial may read the rows of a dataset.

A view is chosen by hyperparameters of the data (`VIEW_KEYS`). All views of a dataset have the
same rows, targets and parts; only what stands in a row's steps differs, and for series what a
forecast is measured from. So values of the metric, which are in the data's own units, can be
compared across views. Losses can't.

Letters: N rows, M steps of all of them, L steps of a row, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from gru_optuna.hyperparameters import VIEW_KEYS, Hyperparameters, Normalization, Residual

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from gru_optuna.study_file import Specification
    from gru_optuna.study_file.searchable import Searchable


_PATCHES_SEEN = 4  # in a spectrum, so that neighbouring spectra overlap by three quarters
_LEAST_MAGNITUDE = 1e-3  # of rows with a deviation of about 1: what is weaker is rounding alone


@dataclass(frozen=True)
class View:
    """One way of reading rows; the defaults are those of a study file that names none."""

    normalize: Normalization = "channel"
    differences: int = 0
    patch: int = 1
    spectrum: bool = False  # sequences only
    residual: Residual = "season"  # series only
    log: bool = False  # series only

    @property
    def statistics(self) -> bool:
        """Whether a row's own mean and deviation are channels, too."""
        return self.normalize == "row_stats"

    @property
    def by_row(self) -> bool:
        """Whether each row is scaled by its own mean and deviation."""
        return self.normalize in ("row", "row_stats")

    @property
    def frequencies(self) -> int:
        """How many frequencies the spectrum of a channel has at each step."""
        return _PATCHES_SEEN * self.patch // 2 + 1

    def of(self, hyperparameters: Hyperparameters) -> View:
        """The view of a trial; what the trial leaves open is as in this view."""
        values: dict[str, Any] = {key: getattr(hyperparameters, key) for key in VIEW_KEYS}
        chosen = {key: value for key, value in values.items() if value is not None}
        return _without_differences(replace(self, **chosen))

    def as_json(self) -> dict[str, Any]:
        """What differs from the defaults."""
        return {key: value for key, value in vars(self).items() if value != getattr(PLAIN, key)}


PLAIN = View()
"""The view of a study that chooses none."""


def have_comparable_losses(spec: Specification) -> bool:
    """Whether the losses of all trials have the same units; a forecast's are those of its view."""
    units = {(view.residual, view.log, view.by_row) for view in views_of(spec)}
    return spec.kind != "series" or len(units) == 1


def views_of(spec: Specification) -> Iterator[View]:
    """All views that a study's trials can have, its first choices first; of a range, only its ends.

    A study that searches none has a single view.
    """
    data = spec.data
    plain = PLAIN if data.standardize or spec.kind != "sequences" else View(normalize="none")
    choices = [_choices(getattr(data, key), getattr(plain, key)) for key in VIEW_KEYS]
    for values in product(*choices):
        yield _without_differences(View(**dict(zip(VIEW_KEYS, values, strict=True))))


def _without_differences(view: View) -> View:
    # Differences change the strength of a frequency by a factor that depends on the frequency
    # alone, so their spectrum says the same, and trials that differ in them alone share a view.
    return replace(view, differences=0) if view.spectrum else view


def _choices(value: Searchable | None, default: object) -> list[Any]:
    # Here, because training needs nothing of a study file.
    from gru_optuna.study_file.searchable import Range

    if value is None:
        return [default]
    if isinstance(value, Range):
        return sorted({value.low, value.high})
    return value if isinstance(value, list) else [value]


def differences_of(
    steps: NDArray[np.float64], starts: NDArray[np.int64], order: int
) -> list[NDArray[np.float64]]:
    """First differences (M, C), differences of these, and so on; 0 before a row has any.

    Parameters
    ----------
    steps
        (M, C), row after row.
    starts
        (N,), each row's first step.
    order
        How many.
    """
    found: list[NDArray[np.float64]] = []
    ends = np.append(starts[1:], len(steps))
    for number in range(order):
        of = found[-1] if found else steps
        changes = np.zeros_like(of)
        changes[1:] = of[1:] - of[:-1]
        for before in range(number + 1):
            places = starts + before
            changes[places[places < ends]] = 0
        found.append(changes)
    return found


def patched(
    steps: NDArray[Any], lengths: NDArray[np.int64], patch: int
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Puts this many neighbouring steps side by side, as one step with as many times the channels.

    The last step of a row is always the last of a patch. What its first patch lacks is zero.

    Source: patches of a series as tokens, Nie et al., "A Time Series is Worth 64 Words", ICLR 2023.

    Parameters
    ----------
    steps
        (M, C), row after row.
    lengths
        (N,)
    patch
        How many steps make one.

    Returns
    -------
    steps, lengths
        (M', patch * C) and (N,)
    """
    if patch == 1:
        return steps, lengths
    counts = -(-lengths // patch)
    missing = counts * patch - lengths  # in front of each row
    places = np.arange(len(steps)) + np.repeat(missing.cumsum(), lengths)
    wide = np.zeros((int(counts.sum()) * patch, steps.shape[1]), steps.dtype)
    wide[places] = steps
    return wide.reshape(len(wide) // patch, patch * steps.shape[1]), counts


def spectra(
    steps: NDArray[np.float64], lengths: NDArray[np.int64], view: View
) -> NDArray[np.float64]:
    """The logarithm of the magnitude of each frequency around each patch.

    A sound, a current or a vibration looks different at each moment of its period, and its spectrum
    doesn't. Beyond its ends, a row is zero, so no row sees another.

    Source: the short-time Fourier transform with Hann's window, Allen, "Short term spectral
    analysis, synthesis, and modification by discrete Fourier transform", IEEE Transactions on
    Acoustics, Speech, and Signal Processing 25(3), 1977.

    Parameters
    ----------
    steps
        (M, C), row after row, of a deviation of about 1.
    lengths
        (N,)
    view
        Says how long a patch is.

    Returns
    -------
    (M', C * `view.frequencies`)
        Row after row, for each patch as `patched` makes them; channel after channel.
    """
    patch, seen = view.patch, _PATCHES_SEEN * view.patch
    counts = -(-lengths // patch)
    room = counts * patch + seen - patch  # each row's, with zeros before and after it
    first = room.cumsum() - room
    padded = np.zeros((int(room.sum()), steps.shape[1]))
    before = (seen - patch) // 2 + counts * patch - lengths  # the last step ends a patch
    shift = first + before - (lengths.cumsum() - lengths)
    padded[np.arange(len(steps)) + np.repeat(shift, lengths)] = steps
    number = np.arange(int(counts.sum())) - np.repeat(counts.cumsum() - counts, counts)
    begins = np.repeat(first, counts) + number * patch
    stretches = np.lib.stride_tricks.sliding_window_view(padded, seen, axis=0)[begins]
    weights = np.hanning(seen + 2)[1:-1] / np.sqrt(seen)
    magnitudes = np.abs(np.fft.rfft(stretches * weights))  # (M', C, frequencies)
    return np.log(magnitudes + _LEAST_MAGNITUDE).reshape(len(begins), -1)
