"""The roles that columns can have: what ``inspect`` and ``init`` take as options, and guess."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from gru_optuna.data.readers.wide_format import numbered_columns
from gru_optuna.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gru_optuna.study_file import Kind

_LABELLED: tuple[Kind, ...] = ("texts", "sequences")
_FORECAST: tuple[Kind, ...] = ("series",)


def _role(about: str, kinds: tuple[Kind, ...], default: Any = None) -> Any:
    """A role that the user can give; `kinds` are the rows that can have it."""
    return field(default=default, metadata={"about": about, "kinds": kinds})


@dataclass(frozen=True)
class Roles:
    """The column with each role; None where there is none."""

    text: str | None = _role("The column of the texts.", ("texts",))
    label: str | None = _role("The column of the class labels.", _LABELLED)
    target: str | None = _role("The column of the numbers to predict.", (*_LABELLED, "series"))
    time: str | tuple[str, ...] | None = _role(
        "The column of the times, or those of their parts: year,month.", ("sequences", "series")
    )
    series: str | None = _role("The column of the names of the series.", _FORECAST)
    id: str | None = _role("The column of the ids that separate sequences.", ("sequences",))
    covariates: tuple[str, ...] = _role(
        "A column known up to the present. Repeatable.", _FORECAST, ()
    )
    known: tuple[str, ...] = _role(
        "A column also known for the steps to forecast. Repeatable.", _FORECAST, ()
    )
    horizon: int | None = _role("Steps to forecast.", _FORECAST)
    season: int | None = _role("Steps after which a series repeats itself; 1: never.", _FORECAST)
    steps: tuple[str, ...] = _role(
        "What the names of the columns that hold the steps begin with, if a row is a whole "
        'sequence: "t" for t0, t1, t2. Repeatable, for several channels.',
        ("sequences",),
        (),
    )
    group: str | None = _role(
        "The column of the groups, whose rows stay in one part together.", _LABELLED
    )
    features: tuple[str, ...] = ()  # the other numeric columns: channels, steps, or covariates

    @property
    def times(self) -> tuple[str, ...]:
        """The columns that make the times together."""
        if self.time is None:
            return ()
        return (self.time,) if isinstance(self.time, str) else self.time

    def columns(self) -> Iterator[tuple[str, str]]:
        """Each role that the user can give and its column; a role may have several.

        `steps` name no column, only what names begin with.
        """
        for role in fields(self):
            if role.name == "steps":
                continue
            value = getattr(self, role.name)
            if role.metadata and isinstance(value, str):
                yield role.name, value
            elif role.metadata and isinstance(value, tuple):
                yield from ((role.name, name) for name in value)

    def kinds(self) -> set[Kind]:
        """The kinds of rows that can have all of these roles.

        Raises
        ------
        DataError
            If there are none, naming two roles that exclude each other.
        """
        kinds: set[Kind] = {"texts", "sequences", "series"}
        taken: dict[Kind, str] = {}
        for role in fields(self):
            if not role.metadata or getattr(self, role.name) == role.default:
                continue
            allowed = role.metadata["kinds"]
            excluded = kinds.difference(allowed)
            if excluded == kinds:
                other = next(taken[kind] for kind in allowed if kind in taken)
                raise DataError(
                    f"--{role.name} is for {' or '.join(allowed)}, which can't have --{other}. "
                    f"Leave out one of them."
                )
            taken |= dict.fromkeys(excluded, role.name)
            kinds -= excluded
        return kinds

    def checked(self, names: Sequence[str], source: str) -> Roles:
        """These roles, with lists such as ``year,month`` as the columns that they name.

        Raises
        ------
        DataError
            If a column isn't there, or has two roles.
        """
        times = [part for name in self.times for part in _parts(name, names)]
        roles = replace(
            self,
            time=self.time if len(times) < 2 else tuple(times),
            covariates=tuple(part for name in self.covariates for part in _parts(name, names)),
            known=tuple(part for name in self.known for part in _parts(name, names)),
        )
        for role in ("id", "time"):
            if self.steps and getattr(self, role):
                raise DataError(
                    f"--steps is for rows that are whole sequences, which can't have --{role}. "
                    f"Leave out one of them."
                )
        numbered = numbered_columns(names)
        for stem in self.steps:
            if stem not in numbered:
                raise DataError(
                    f'{source}: no column is named "{stem}" and a number. '
                    f"{did_you_mean(stem, numbered)}"
                )
        seen: dict[str, str] = {}
        for role, name in roles.columns():
            if name not in names:
                raise DataError(f'{source}: no column "{name}". {did_you_mean(name, names)}')
            if name in seen:
                raise DataError(
                    f'{source}: column "{name}" is given as --{seen[name]} and as --{role}. '
                    f"Leave out one of them."
                )
            seen[name] = role
        return roles


NO_ROLES = Roles()
"""Every role is to be guessed."""


def _parts(name: str, names: Sequence[str]) -> list[str]:
    parts = [part.strip() for part in name.split(",")]
    return parts if name not in names and all(part in names for part in parts) else [name]


def role_options() -> Iterator[tuple[str, str, Any]]:
    """The name, the help and the default of each role that the user can give."""
    for role in fields(Roles):
        if role.metadata:
            yield role.name, role.metadata["about"], role.default
