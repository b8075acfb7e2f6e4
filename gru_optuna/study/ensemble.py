"""The ensemble that a confirmation has chosen: its members, and how much each of them counts.

A prediction is the weighted mean of the members' probabilities, or of their numbers. The weights
are counts: a member that was selected twice counts twice.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from gru_optuna.formatting import format_list

if TYPE_CHECKING:
    from collections.abc import Sequence


OWN_SEED = -1
"""In place of the index of a fresh seed: the trial's own, as in the search."""


@dataclass(frozen=True)
class EnsembleNetwork:
    """The network of one run; with folds, the networks of all of them."""

    number: int  # of the trial
    index: int  # of the fresh seed, or `OWN_SEED`
    weight: int = 1

    @property
    def key(self) -> tuple[int, int]:
        """What identifies the run in its study."""
        return self.number, self.index


@dataclass(frozen=True)
class EnsembleBaseline:
    """A simple model that was fitted to the same rows; with folds, one model for each of them."""

    family: str
    name: str
    settings: dict[str, Any]
    weight: int = 1


@dataclass(frozen=True)
class Ensemble:
    """The members that predict together.

    Parameters
    ----------
    networks
        Runs of the confirmation, or of the search, at least one.
    baselines
        Simple models.
    selected
        Whether the members were selected on the validation rows; otherwise they are the runs of
        the winning configuration.
    rows
        Validation rows that are independent of each other: windows count without overlap. None in
        studies that an earlier version confirmed.
    """

    networks: list[EnsembleNetwork]
    baselines: list[EnsembleBaseline] = field(default_factory=list)
    selected: bool = False
    rows: int | None = None

    @classmethod
    def average(
        cls, number: int, values: Sequence[float | None], rows: int | None = None
    ) -> Ensemble:
        """All runs of one trial that have a value, which count alike."""
        good = [index for index, value in enumerate(values) if value is not None]
        return cls([EnsembleNetwork(number, index) for index in good], rows=rows)

    def as_json(self) -> dict[str, Any]:
        """The content of the study's attribute."""
        return asdict(self)

    def __len__(self) -> int:
        """How many members there are."""
        return len(self.networks) + len(self.baselines)

    @property
    def weights(self) -> list[int]:
        """How much each member counts, networks first."""
        networks = [member.weight for member in self.networks]
        return networks + [member.weight for member in self.baselines]

    def in_words(self) -> str:
        """Such as "7 networks (60%) and ridge regression (40%)".

        >>> Ensemble.average(3, [0.9, None, 0.8]).in_words()
        '2 networks'
        """
        count, total = len(self.networks), sum(self.weights)
        networks = f"{count} network{'' if count == 1 else 's'}"
        if not self.baselines:
            return networks
        share = sum(member.weight for member in self.networks) / total
        parts = [f"{networks} ({share:.0%})"]
        parts += [f"{member.name} ({member.weight / total:.0%})" for member in self.baselines]
        return format_list(parts)
