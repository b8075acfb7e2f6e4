"""How the fields of columns are written: decided over whole columns, then kept.

A study stores what its columns decided, and a bundle too, because a file of three new rows can't
decide it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gru_optuna.study_file import Data

DecimalSign: TypeAlias = Literal[".", ","]
ThousandsSign: TypeAlias = Literal["", ".", ",", " ", "'"]

_THOUSANDS = {".": "dots", ",": "commas", " ": "spaces", "'": "apostrophes"}


class ColumnFormat(BaseModel):
    """How one column is written; as it stands in bundles, without its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    decimal: DecimalSign = "."
    thousands: ThousandsSign = ""  # a space stands for every kind of space
    percent: bool = False  # 12% is 12
    currency: Annotated[str, Field(max_length=8)] = ""  # before or after each number
    parentheses: bool = False  # (12) is -12
    minus_after: bool = False  # 12- is -12

    def __str__(self) -> str:
        parts = ["decimal commas"] if self.decimal == "," else []
        if self.thousands:
            parts.append(f"{_THOUSANDS[self.thousands]} between thousands")
        if self.percent:
            parts.append("percentages")
        if self.currency:
            parts.append(f"amounts in {self.currency}")
        if self.parentheses:
            parts.append("parentheses around negative numbers")
        if self.minus_after:
            parts.append("a minus after negative numbers")
        return ", ".join(parts) or "plain numbers"


PLAIN = ColumnFormat()
"""Numbers with a decimal point and nothing else."""


@dataclass
class TableFormats:
    """The formats of the columns of a study's tables, which share them.

    The first table that a column is read from decides. Columns in plain format are left out of
    what is stored, so that earlier versions can read it.
    """

    decimal: DecimalSign | None = None  # as the study file says; None: found out
    thousands: ThousandsSign | None = None
    missing_values: tuple[str, ...] = ()  # fields that stand for a missing value, in any column
    columns: dict[str, ColumnFormat] = field(default_factory=dict)
    header: bool = True  # whether a line names the columns
    trained: bool = False  # whether training decided: then a column that isn't named is plain

    @classmethod
    def of(cls, data: Data) -> TableFormats:
        """The formats that the study file sets for all columns."""
        return cls(data.decimal, data.thousands, tuple(data.missing_values))

    def undecided(self) -> TableFormats:
        """What the user has set for all columns, for tables that decide the rest themselves."""
        return TableFormats(self.decimal, self.thousands, self.missing_values)

    def as_json(self) -> dict[str, Any]:
        """The formats for reading later rows in the same way; empty if all columns are plain."""
        columns = {
            name: written
            for name, column in sorted(self.columns.items())
            if (written := column.model_dump(mode="json", exclude_defaults=True))
        }
        content: dict[str, Any] = {"columns": columns} if columns else {}
        if self.missing_values:
            content["missing_values"] = list(self.missing_values)
        if not self.header:
            content["header"] = False
        return content

    def in_json(self) -> dict[str, Any]:
        """The record under its key, or nothing where everything is plain."""
        content = self.as_json()
        return {"formats": content} if content else {}

    @classmethod
    def from_json(cls, content: Mapping[str, Any] | None) -> TableFormats:
        """The formats that `as_json` wrote when the networks were trained."""
        stored = StoredFormats.model_validate(content or {})
        return cls(
            missing_values=tuple(stored.missing_values),
            columns=dict(stored.columns),
            header=stored.header,
            trained=True,
        )

    def __str__(self) -> str:
        parts = [
            f'"{name}" as {column}'
            for name, column in sorted(self.columns.items())
            if column != PLAIN
        ]
        if self.missing_values:
            parts.append(f"{', '.join(map(repr, self.missing_values))} as missing")
        if not self.header:
            parts.append("the first line as data")
        return "; ".join(parts) or "all numbers as plain numbers"


FOUND_OUT = TableFormats()
"""Nothing is known; each table decides for itself. Copied by `undecided`, never filled."""


class StoredFormats(BaseModel):
    """What `TableFormats.as_json` writes, checked key by key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    columns: dict[str, ColumnFormat] = {}
    missing_values: list[str] = []
    header: bool = True
