"""Reads TOML that may come from anywhere."""

from __future__ import annotations

import tomllib
from typing import Any

MOST_BYTES = 1 << 20
"""The size of a TOML file, far beyond any that a person writes."""


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
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not valid TOML: {error}") from None
    except RecursionError:
        raise ValueError("not valid TOML: nested too deeply") from None
    except ValueError:  # a number; Python reads no longer ones
        raise ValueError("not valid TOML: a number has too many digits") from None
