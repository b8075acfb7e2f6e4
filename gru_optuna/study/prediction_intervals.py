"""Intervals around the numbers that a study's winner predicts, from its errors on validation rows.

Split conformal prediction (Papadopoulos et al. 2002; Lei et al. 2018): of n + 1 errors that come
in any order with the same probability, the last is no larger than the k-th smallest of the others
with probability k / (n + 1). Validation rows are the best available, but not quite such rows:
the winner was chosen on them, windows of a series overlap, and its future may be unlike its past.
So the share of the test values that the intervals held is measured, too.

One series may be harder to forecast than another, so errors are measured in times of their own
series' usual error before their quantiles are taken (normalised conformal prediction; Papadopoulos
et al. 2011).

Letters: N rows, O outputs, which for series are the steps ahead.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from math import ceil
from typing import TYPE_CHECKING, Any

from gru_optuna.attributes import PREDICTION_INTERVALS
from gru_optuna.study.records import checked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from optuna import Study
    from torch import Tensor

    from gru_optuna.data.dataset import Split

LEVELS = (80, 95)
"""How many of a hundred values an interval should hold."""

_PRIOR_WINDOWS = 5
"""How many windows the mean of all series counts for in the usual error of each."""

ENOUGH_ROWS = 50
"""Test rows from which on the share that the intervals held says something."""


@dataclass(frozen=True)
class PredictionIntervals:
    """How far predictions of the averaged networks are off.

    Parameters
    ----------
    number
        The winner's trial.
    rows
        Validation rows whose errors were measured; windows, for series.
    widths
        For each level, half the interval's width for each output; None where there are too few
        rows for the level.
    relative
        Whether widths are in mean errors of the seasonal-naive forecast in training, since one
        series may be a thousand times as large as another. Otherwise they are in the data's units.
    held
        For each level, the share of the test values that lie within the interval; None without
        test rows.
    test_rows
        Test rows on which that share was measured.
    scales
        How much wider the intervals of each series are, by its name; 1 for one that isn't named.
    """

    number: int
    rows: int
    widths: dict[str, list[float | None]]
    held: dict[str, float] | None = None
    test_rows: int = 0
    relative: bool = True
    scales: dict[str, float] = field(default_factory=dict)

    @classmethod
    def measure(
        cls,
        number: int,
        validation: Sequence[tuple[Tensor, Split]],
        test: tuple[Tensor, Split] | None,
        series: Sequence[str] = (),
    ) -> PredictionIntervals:
        """Measures the intervals of the networks' averaged predictions.

        Parameters
        ----------
        number
            The winner's trial.
        validation, test
            The outputs (N, O) of the averaged networks and the rows; for validation, of each fold.
        series
            The names of the series, by the numbers that the rows have as their groups.
        """
        import numpy as np  # here: `best` and `status` only read

        naive = [split.units.naive for _, split in validation if split.units is not None]
        # A series has no such error until it has had two seasons. If none has one, widths are in
        # the data's units.
        relative = all(each is not None and bool(each.isfinite().any()) for each in naive)
        errors = np.concatenate([_errors(*predicted, relative) for predicted in validation])
        factors = np.ones(len(series))
        if relative and len(series) > 1:
            owners = np.concatenate([_owners(split) for _, split in validation])
            factors = _factors(errors, owners, len(series))
            errors = errors / factors[owners][:, None]
        widths = {str(level): _widths(errors, level) for level in LEVELS}
        scales = dict(zip(series, factors.tolist(), strict=True))
        scales = {name: factor for name, factor in scales.items() if factor != 1}
        if test is None:
            return cls(number, len(errors), widths, relative=relative, scales=scales)
        off = _errors(*test, relative)
        if scales:
            off = off / factors[_owners(test[1])][:, None]
        known = ~np.isnan(off)
        held = {
            level: float((off <= np.array(each))[known].mean())
            for level, each in widths.items()
            if None not in each and known.any()
        }
        return cls(number, len(errors), widths, held, len(off), relative, scales)

    def as_json(self) -> dict[str, Any]:
        """The content of the study's attribute."""
        return asdict(self)

    @property
    def levels(self) -> list[str]:
        """The levels for which there are enough rows."""
        return [level for level, widths in self.widths.items() if None not in widths]

    def in_words(self) -> str | None:
        """How many test values the intervals held; None without test rows."""
        if not self.held:
            return None
        few = "" if self.test_rows >= ENOUGH_ROWS else f" (only {self.test_rows} rows)"
        first, *others = self.held.items()
        shares = [f"The {first[0]}% intervals contain {first[1]:.0%} of the test values{few}"]
        shares += [f"the {level}% intervals {share:.0%}" for level, share in others]
        return f"{', and '.join(shares)}."


def read_intervals(study: Study, number: int) -> PredictionIntervals | None:
    """The intervals of a study whose confirmed winner is this trial; None if none were measured."""
    content: Mapping[str, Any] | None = study.user_attrs.get(PREDICTION_INTERVALS)
    if content is None or content["number"] != number:
        return None
    return checked(PredictionIntervals, content)


def _errors(outputs: Tensor, split: Split, relative: bool) -> NDArray[np.float64]:
    """(N, O) how far predictions are off, in the units of widths; NaN where that is unknown."""
    import numpy as np

    units = split.units
    assert units is not None, "numbers have units"
    off = (units.restore(outputs) - units.restore(split.targets)).abs()
    if not relative or units.naive is None:
        return np.asarray(off)
    # The error of a constant series is measured as it is.
    return np.asarray(off / units.naive.where(units.naive != 0, 1.0))


def _owners(split: Split) -> NDArray[np.int64]:
    """The number (N,) of each row's series."""
    assert split.groups is not None, "rows of several series say which they are of"
    owners: NDArray[np.int64] = split.groups.cpu().numpy()
    return owners


def _factors(
    errors: NDArray[np.float64], owners: NDArray[np.int64], series: int
) -> NDArray[np.float64]:
    """The mean error (S,) of each series in times of the usual one, drawn towards 1 by few windows.

    Windows are counted without overlap.
    """
    import numpy as np

    outputs = errors.shape[1]
    known = np.bincount(owners, (~np.isnan(errors)).sum(axis=1), series)
    sums = np.bincount(owners, np.nansum(errors, axis=1), series)
    means = np.divide(sums, known, out=np.full(series, np.nan), where=known > 0)
    usual = np.nanmedian(means) if known.any() else 0.0
    if usual == 0:
        return np.ones(series)
    windows = known / outputs**2
    found: NDArray[np.float64] = (windows * np.nan_to_num(means) / usual + _PRIOR_WINDOWS) / (
        windows + _PRIOR_WINDOWS
    )
    return found


def _widths(errors: NDArray[np.float64], level: int) -> list[float | None]:
    """For each output, the smallest error that this percentage of errors shouldn't exceed."""
    import numpy as np

    found: list[float | None] = []
    for column in errors.T:
        known = np.sort(column[~np.isnan(column)])
        place = ceil((len(known) + 1) * level / 100)
        found.append(float(known[place - 1]) if place <= len(known) else None)
    return found
