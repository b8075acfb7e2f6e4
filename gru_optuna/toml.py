"""Reads TOML that may come from anywhere, and writes what it has read."""

from __future__ import annotations

import json
import re
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


def write_toml(content: dict[str, Any]) -> str:
    """The text of a TOML file with this content, in sections as deep as study files have them."""
    sections = {key: value for key, value in content.items() if isinstance(value, dict)}
    blocks = [_lines({key: value for key, value in content.items() if key not in sections})]
    blocks += [f"[{_key(name)}]\n{_lines(section)}" for name, section in sections.items()]
    return "\n".join(filter(None, blocks))


def _lines(table: dict[str, Any]) -> str:
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in table.items())


def _key(key: str) -> str:
    return key if re.fullmatch(r"[\w-]+", key, re.ASCII) else _text(key)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items())} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value.isoformat()


def _text(text: str) -> str:
    # As JSON, which escapes every character that TOML doesn't allow but one.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
