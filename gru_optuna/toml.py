"""Reads TOML that may come from anywhere."""

from __future__ import annotations

import tomllib
from typing import Any

MOST_BYTES = 1 << 20
"""The size of a TOML file, far beyond any that a person writes."""

_MOST_LEVELS = 20  # a study file has four


def parse_toml(text: str) -> dict[str, Any]:
    """The content of a TOML file.

    Raises
    ------
    ValueError
        Saying what is wrong with it.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"longer than {MOST_BYTES >> 20} MiB")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not valid TOML: {error}") from None
    except RecursionError:
        raise ValueError("not valid TOML: nested too deeply") from None
    except ValueError:  # a number; Python reads no longer ones
        raise ValueError("not valid TOML: a number has too many digits") from None
    level: list[Any] = [content]
    for _ in range(_MOST_LEVELS):
        inner = [each.values() if isinstance(each, dict) else each for each in level]
        level = [each for values in inner for each in values if isinstance(each, dict | list)]
    if level:
        raise ValueError("nested too deeply")
    return content
