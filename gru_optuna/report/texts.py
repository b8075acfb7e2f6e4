"""The report's sentences, from ``templates/``: captions of figures, and findings.

They are Python format strings with three conversions more: ``{value!m}`` is a value of the metric,
``{value!v}`` that of a hyperparameter and ``{value!t}`` a duration in seconds.
"""

from __future__ import annotations

import string
import tomllib
from pathlib import Path
from typing import Any, ClassVar

from gru_optuna.formatting import format_duration, format_metric, format_value


def read_texts(name: str) -> dict[str, dict[str, Any]]:
    """The tables of a file of sentences."""
    file = Path(__file__).parent / "templates" / name
    return tomllib.loads(file.read_text(encoding="utf-8"))


def fill(text: str, **values: Any) -> str:
    """A text with its values.

    >>> fill("{value!m} after {spent!t}, {count:,} trials", value=0.98148, spent=200, count=1234)
    '0.9815 after 3 min 20 s, 1,234 trials'
    """
    return _FORMATTER.format(text, **values)


class _Formatter(string.Formatter):
    conversions: ClassVar = {"m": format_metric, "v": format_value, "t": format_duration}

    def convert_field(self, value: Any, conversion: Any) -> Any:
        if convert := self.conversions.get(conversion):
            return convert(value)
        return super().convert_field(value, conversion)


_FORMATTER = _Formatter()
