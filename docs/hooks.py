"""Hooks of MkDocs: the reference of a study file's keys, written from the models at each build."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gru_optuna.study_file import json_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MARK = "<!-- every key -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs with the text of each page."""
    return markdown.replace(MARK, describe_keys()) if MARK in markdown else markdown


def describe_keys() -> str:
    """A table for the top level of a study file, and one for each section."""
    schema = json_schema()
    sections, top = {}, {}
    for key, field in schema["properties"].items():
        name = str(field.get("$ref", "")).rpartition("/")[2]
        if name:
            sections[key] = schema["$defs"][name]
        else:
            top[key] = field
    parts = ["## Top level", *_table(top, schema.get("required", ()))]
    for key, section in sections.items():
        about = str(section.get("description", "")).partition(":")[2].strip()
        parts += [f"## `[{key}]`", f"{about[:1].upper()}{about[1:]}"]
        parts += _table(section["properties"], section.get("required", ()))
    return "\n\n".join(parts)


def _table(fields: Mapping[str, Any], required: Any) -> Iterator[str]:
    lines = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    for key, field in fields.items():
        default = "needed" if key in required else _code(field.get("default"))
        about = str(field.get("description", "")).replace("|", "\\|")
        lines.append(f"| `{key}` | {_takes(field)} | {default} | {about} |")
    yield "\n".join(lines)


def _takes(field: Mapping[str, Any]) -> str:
    """What a key takes, in words."""
    if "anyOf" in field:
        members = [each for each in field["anyOf"] if each.get("type") != "null"]
        kinds = [
            "a list of these" if each.get("items") in members else _takes(each) for each in members
        ]
        return " or ".join(dict.fromkeys(kinds))
    if "enum" in field:
        return ", ".join(map(_code, field["enum"]))
    if "const" in field:
        return _code(field["const"])
    kind = field.get("type")
    if kind == "array":
        inside = _takes(field["items"]) if isinstance(field.get("items"), dict) else ""
        return f"a list of {inside.removeprefix('a ')}s" if inside else "a list"
    if kind == "object":
        return "a range" if "low" in field.get("properties", {}) else "a table"
    name = {
        "integer": "a whole number", "number": "a number", "string": "a text",
        "boolean": "`true` or `false`",
    }.get(str(kind), "a value")  # fmt: skip
    bounds = [
        f"{words} {field[key]:,}"
        for key, words in (
            ("minimum", "from"), ("exclusiveMinimum", "above"),
            ("maximum", "to"), ("exclusiveMaximum", "below"),
        )
        if key in field
    ]  # fmt: skip
    return " ".join([name, *bounds])


def _code(value: Any) -> str:
    if value is None:
        return "none"
    return "`" + json.dumps(value, ensure_ascii=False).replace("|", "\\|") + "`"
