"""Reads study files, and reports all mistakes in them at once, each with its place."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from gru_optuna.errors import StudyFileError, did_you_mean
from gru_optuna.study_file.data_section import StudySection
from gru_optuna.study_file.sections import Specification, section_of
from gru_optuna.toml import MOST_BYTES, parse_toml

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails


def load(path: Path, overrides: Sequence[str] = ()) -> Specification:
    """Reads a study file.

    Parameters
    ----------
    path
        The TOML file.
    overrides
        ``section.key=value`` as ``--set`` gives them; the value is TOML, or a bare word.

    Raises
    ------
    StudyFileError
        Naming the file and every place in it that is wrong.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe may never end
            raise StudyFileError(f"{path} is not a regular file. Name a study file.")
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise StudyFileError(f"{path}: no such file. {_nearby(path)}") from None
    except IsADirectoryError:
        raise StudyFileError(f"{path} is a folder. {_nearby(path / '_')}") from None
    except UnicodeDecodeError as error:
        raise StudyFileError(
            f"{path}: byte {error.start} is not UTF-8. Save the file as UTF-8."
        ) from None
    except OSError as error:
        raise StudyFileError(f"{path}: {error.strerror}.") from None
    return loads(text, str(path), overrides)


def loads(text: str, source: str, overrides: Sequence[str] = ()) -> Specification:
    """Reads the text of a study file; `source` names it in messages.

    Raises
    ------
    StudyFileError
        As `load`.
    """
    return parse(read_toml(text, source, overrides), source)


def read_toml(text: str, source: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a study file, with overrides, unchecked.

    Raises
    ------
    StudyFileError
        If it isn't TOML, or an override has the wrong form.
    """
    try:
        content = parse_toml(text)
    except ValueError as error:
        raise StudyFileError(f"{source}: {error}.") from None
    for override in overrides:
        _apply(content, override)
    return content


def parse(content: Mapping[str, Any], source: str, *, stored: bool = False) -> Specification:
    """Checks the content of a study file; `source` names it in messages.

    What is `stored`, in a database or a bundle, names every key, used or not, and may hold what an
    earlier version allowed.

    Raises
    ------
    StudyFileError
        Naming every place that is wrong.
    """
    _refuse_long_numbers(content, source)
    try:
        spec = Specification.model_validate(_plain(content), context={"stored": stored})
    except ValidationError as error:
        # A union reports an error for each of its members at one place; the first says enough.
        messages: dict[tuple[int | str, ...], str] = {}
        for detail in error.errors(include_url=False):
            if detail["type"] == "default_factory_not_called":  # the task is wrong, and reported
                continue
            place = detail["loc"][:2]
            if detail["type"] == "literal_error" and place in messages:
                other = str(detail["ctx"]["expected"]).replace("'", '"')
                messages[place] = f"{messages[place].removesuffix('.')}, or {other}."
            messages.setdefault(place, _describe(detail, source))
        raise StudyFileError("\n".join(messages.values())) from None
    _refuse_long_numbers(spec.model_dump(), source)  # where whole numbers stand, 1e300 is one
    if not stored:
        _check_tries(spec, source)
    return spec


def _check_tries(spec: Specification, source: str) -> None:
    """Refuses names and values in ``[[try]]`` that no study could have."""
    whole = spec.model_dump(mode="json", exclude={"tries"})
    for number, table in enumerate(spec.tries, 1):
        content = {**whole}
        for name, value in table.items():
            section = section_of(name)
            content[section] = content[section] | {name: value}
        parse(content, f"{source} [[try]] {number}")


def _plain(content: Any) -> Any:
    """The content with Python's own numbers in place of numpy's, which Python's callers may use."""
    if isinstance(content, Mapping):
        return {key: _plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_plain(value) for value in content]
    # Not by numpy's types: commands that only look at a study need not import it.
    return content.tolist() if type(content).__module__ == "numpy" else content


def json_schema() -> dict[str, Any]:
    """The schema of a study file (JSON Schema 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Specification.model_json_schema(),
        "title": "gru-optuna study",
    }


def _refuse_long_numbers(content: object, source: str) -> None:
    """Refuses whole numbers that databases and libraries can't hold, wherever they stand."""
    if not isinstance(content, Mapping):
        return  # which is refused anyway
    for section, keys in content.items():
        for key, value in keys.items() if isinstance(keys, dict) else [("", keys)]:
            inside = value.values() if isinstance(value, dict) else value
            for number in inside if isinstance(value, list | dict) else [value]:
                if isinstance(number, int) and abs(number) >= 2**63:
                    place = f"{section}.{key}" if key else section
                    raise StudyFileError(
                        f"{source} [{place}]: a whole number of {number.bit_length()} bits, "
                        f"but at most 63 are read. Give a smaller one."
                    )


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path) or len(path) > 2:
        raise StudyFileError(f"--set {override}: write --set section.key=value.")
    try:
        value = parse_toml(f"value = {text}")["value"]
    except ValueError:
        # A bare word, for shells that eat quotes: --set search.optimizer=adam.
        value = text.strip()
    table = content
    for name in path[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise StudyFileError(f"--set {override}: {name} is a value, not a section.")
    table[path[-1]] = value


def _describe(detail: ErrorDetails, source: str) -> str:
    """One pydantic error as ``file [section.key]: what, got, try``."""
    parts = [str(part) for part in detail["loc"]]
    # After section.key, pydantic adds the union member that it tried.
    parts = parts[: 2 if parts and parts[0] in _SECTIONS else 1]
    kind, key = detail["type"], parts[-1] if parts else ""
    model: type[BaseModel] = _SECTIONS[parts[0]] if len(parts) == 2 else Specification
    if kind == "extra_forbidden":
        place = f" [{parts[0]}]" if len(parts) == 2 else ""
        return f'{source}{place}: unknown key "{key}". {_nearest_key(key, model)}'
    place = f" [{'.'.join(parts)}]" if parts else ""
    if kind == "missing":
        return f"{source}{place}: missing. {_example(parts)}"
    if kind == "literal_error":
        names = re.findall(r"'([^']*)'", str(detail["ctx"]["expected"]))
        return (
            f'{source}{place}: got "{detail["input"]}". {did_you_mean(str(detail["input"]), names)}'
        )
    if kind == "value_error":
        return f"{source}{place}: {detail['ctx']['error']}"
    if kind in ("model_type", "model_attributes_type"):
        return f"{source}{place}: is a section. Write [{key}] and its keys below."
    message = re.sub(r"^(Input|String) should (be|have) ", "", detail["msg"])
    return f"{source}{place}: got {json.dumps(detail['input'], default=str)}, needs {message}."


_SECTIONS: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in Specification.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, StudySection)
}


def _nearest_key(key: str, model: type[BaseModel]) -> str:
    for section, inner in _SECTIONS.items():
        if inner is not model and key in inner.model_fields:
            return f"It belongs under [{section}]."
    return did_you_mean(key, model.model_fields)


def _example(parts: Sequence[str]) -> str:
    return {
        ("name",): 'Write name = "my-study" at the top.',
        ("data",): 'Write [data] with train = "FILE" below it.',
        ("data", "train"): 'Write train = "FILE" below [data].',
    }.get(tuple(parts), "Add it.")


def _nearby(path: Path) -> str:
    """What else a path that isn't a file could have meant."""
    folder = path.parent
    if not folder.is_dir():
        return f"There is no folder {folder} either."
    names = [file.name for file in folder.glob("*.toml") if file.name != "pyproject.toml"]
    if not names and (folder / "studies").is_dir():
        names = [f"studies/{file.name}" for file in (folder / "studies").glob("*.toml")]
    return did_you_mean(path.name, names) if names else f"No study file (.toml) in {folder}."
