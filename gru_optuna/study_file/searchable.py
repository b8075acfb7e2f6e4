"""Hyperparameters as a study file writes them: a value, a list of choices, or a range."""

from __future__ import annotations

import operator
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import BaseModel, ConfigDict, model_serializer
from pydantic_core import core_schema

from gru_optuna.errors import did_you_mean
from gru_optuna.hyperparameters import OFF, Value

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue


_MOST_CHOICES = 10_000  # of one hyperparameter


class Range(BaseModel):
    """All numbers from `low` to `high`, both included; evenly on a log scale if `log`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @model_serializer
    def _as_written(self) -> dict[str, Value]:
        written: dict[str, Value] = {"low": self.low, "high": self.high}
        if self.log:
            written["log"] = True
        if self.step is not None:
            written["step"] = self.step
        return written


Searchable: TypeAlias = Value | list[Value] | Range


class _Hyperparameter(ABC):
    """Annotation of a field that takes a value, a list of choices, or perhaps a range."""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        def validate(raw: object, info: core_schema.ValidationInfo) -> Searchable:
            return self.parse(raw, info.field_name or "value")

        return core_schema.with_info_plain_validator_function(validate)

    def parse(self, raw: object, name: str) -> Searchable:
        """Checks the value in the study file and returns it with exact types.

        Raises
        ------
        ValueError
            With a message that follows ``file [section.name]:``.
        """
        if isinstance(raw, Range):
            raw = raw.model_dump()
        if isinstance(raw, dict):
            return self._parse_range(raw, name)
        if not isinstance(raw, list):
            return self._parse_one(raw, name)
        if not raw:
            raise ValueError(f"{name} = [] leaves nothing to choose from. List at least one value.")
        if len(raw) > _MOST_CHOICES:
            raise ValueError(
                f"{name} lists {len(raw):,} choices, but at most {_MOST_CHOICES:,} are read. "
                f"Give a range: {name} = {{ low = …, high = … }}."
            )
        values: dict[Value, None] = {}  # in order
        for item in raw:
            value = self._parse_one(item, name)
            if value in values:
                raise ValueError(f"{name} lists {_show(value)} twice. Remove one of them.")
            values[value] = None
        return list(values)

    @abstractmethod
    def _parse_one(self, raw: object, name: str) -> Value: ...

    @abstractmethod
    def _parse_range(self, raw: dict[str, object], name: str) -> Range: ...


@dataclass(frozen=True)
class Number(_Hyperparameter):
    """Annotation of a numeric field: its bounds, whether it is whole, whether it may be "off"."""

    integer: bool = False
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    may_be_off: bool = False

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        number: dict[str, Any] = {"type": "integer" if self.integer else "number"}
        bounds = {
            "exclusiveMinimum": self.above,
            "minimum": self.at_least,
            "exclusiveMaximum": self.below,
            "maximum": self.at_most,
        }
        number |= {key: bound for key, bound in bounds.items() if bound is not None}
        one = {"anyOf": [number, {"const": OFF}]} if self.may_be_off else number
        table = {
            "type": "object",
            "additionalProperties": False,
            "required": ["low", "high"],
            "properties": {
                "low": number,
                "high": number,
                "log": {"type": "boolean", "default": False},
                "step": {"type": number["type"], "exclusiveMinimum": 0},
            },
        }
        return {"anyOf": [one, _array_of(one), table]}

    def _parse_one(self, raw: object, name: str) -> Value:
        if self.may_be_off and raw == OFF:
            return OFF
        return self._parse_number(raw, name)

    def _parse_number(self, raw: object, name: str) -> int | float:
        kind = "a whole number" if self.integer else "a number"
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            also = f' or "{OFF}"' if self.may_be_off else ""
            raise ValueError(f"{name} = {_show(raw)} is not {kind}{also}.")
        if not abs(raw) <= sys.float_info.max:  # NaN, infinity, and integers beyond every float
            raise ValueError(f"{name} = {raw} must be finite.")
        for words, bound, holds in (
            ("above", self.above, operator.gt),
            ("at least", self.at_least, operator.ge),
            ("below", self.below, operator.lt),
            ("at most", self.at_most, operator.le),
        ):
            if bound is not None and not holds(raw, bound):
                raise ValueError(f"{name} = {raw} must be {words} {bound:g}.")
        if self.integer and raw != int(raw):
            raise ValueError(f"{name} = {raw} is not {kind}. Try {name} = {round(raw)}.")
        return int(raw) if self.integer else float(raw)

    def _parse_range(self, raw: dict[str, object], name: str) -> Range:
        known = ("low", "high", "log", "step")
        for key in raw:
            if key not in known:
                raise ValueError(f'unknown key "{key}". {did_you_mean(key, known)}')
        if missing := [key for key in ("low", "high") if key not in raw]:
            raise ValueError(
                f"{' and '.join(missing)} missing. Write {name} = {{ low = …, high = … }}."
            )
        log, step = raw.get("log", False), raw.get("step")
        if not isinstance(log, bool):
            raise ValueError(f"log = {_show(log)} is not true or false.")
        # Before the bounds: "a log range needs low above 0" says more than "must be above 0".
        if log and isinstance(raw["low"], int | float) and raw["low"] <= 0:
            raise ValueError(
                f"low = {raw['low']} with log = true: a log scale has no zero and nothing below "
                f"it. Raise low, or drop log."
            )
        low = self._parse_number(raw["low"], "low")
        high = self._parse_number(raw["high"], "high")
        if low > high:
            raise ValueError(
                f"low = {low} exceeds high = {high}. Swap them, or give one value: {name} = {high}."
            )
        if step is not None:
            if log:
                raise ValueError("step and log = true exclude each other. Drop one of them.")
            step = Number(integer=self.integer, above=0)._parse_number(step, "step")
            steps = (high - low) / step
            if not steps < sys.maxsize:
                raise ValueError(f"step = {step} is too small for {low} to {high}. Drop it.")
            if abs(steps - round(steps)) > 1e-6:
                reached = low + int(steps) * step
                raise ValueError(
                    f"step = {step} from low = {low} doesn't meet high = {high}. "
                    f"Try high = {reached:g}."
                )
        return Range(low=low, high=high, log=log, step=step)


@dataclass(frozen=True)
class Option(_Hyperparameter):
    """Annotation of a field with named values."""

    names: tuple[str | bool, ...]

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        one = {"enum": list(self.names)}
        return {"anyOf": [one, _array_of(one)]}

    def _parse_range(self, raw: dict[str, object], name: str) -> Range:
        listed = ", ".join(_show(known) for known in self.names)
        raise ValueError(f"{name} has no range. List its values: {name} = [{listed}].")

    def _parse_one(self, raw: object, name: str) -> Value:
        for known in self.names:
            if type(raw) is type(known) and raw == known:
                return known
        names = [str(known).lower() for known in self.names]
        raise ValueError(f"{name} = {_show(raw)}. {did_you_mean(str(raw), names)}")


def _array_of(one: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}


def _show(raw: object) -> str:
    """A value as TOML writes it, near enough for a message."""
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, str):
        return f'"{raw}"'
    return str(raw)
