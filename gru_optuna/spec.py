"""The study file: one TOML, one typed object.

`load` reads and checks the whole file and reports every mistake at once, each with its place.
``python -m gru_optuna.spec`` prints the JSON schema that editors complete study files with.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gru_optuna.errors import StudyFileError, did_you_mean
from gru_optuna.hyperparameters import DECAY_PARAMETERS, Number, Option, Range, Searchable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic_core import ErrorDetails

Metric = Literal["accuracy", "balanced_accuracy", "macro_f1", "log_loss"]
MINIMIZED: frozenset[Metric] = frozenset({"log_loss"})

# Letters of any script, digits and . _ - : a name is also a folder and a word on the command line.
_NAME = re.compile(r"\w[\w.-]*")
_NAME_BYTES = 100  # a file name holds 255, and ours add to it


class _Section(BaseModel):
    # Strict: true is no number of epochs, and "40" neither.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Data(_Section):
    """``[data]``: files, relative to the study file."""

    train: str = Field(min_length=1, description="File of the training rows (.ts).")
    test: str | None = Field(None, min_length=1, description="File of the test rows, if any.")
    validation: Annotated[float, Field(gt=0, lt=1)] | Annotated[str, Field(min_length=1)] = Field(
        0.2, description="Fraction of the training rows (stratified), or a file."
    )
    standardize: bool = Field(
        True, description="Give every channel mean 0 and deviation 1, as seen in training."
    )


class Model(_Section):
    """``[model]``: the structure of the network."""

    hidden_size: Annotated[Searchable, Number(integer=True, at_least=1, at_most=4096)] = [
        32,
        64,
        128,
    ]
    layers: Annotated[Searchable, Number(integer=True, at_least=1, at_most=16)] = 1
    bidirectional: Annotated[Searchable, Option((False, True))] = False
    pooling: Annotated[Searchable, Option(("last", "mean"))] = "last"


class Search(_Section):
    """``[search]``: how the network is trained. A key left out is searched as shown here."""

    learning_rate: Annotated[Searchable, Number(above=0)] = Range(low=1e-4, high=1e-1, log=True)
    optimizer: Annotated[Searchable, Option(("adam", "rmsprop"))] = ["adam", "rmsprop"]
    decay: Annotated[Searchable, Option(("constant", "time", "step", "exponential", "cosine"))] = [
        "constant",
        "time",
        "step",
        "exponential",
        "cosine",
    ]
    decay_rate: Annotated[Searchable, Number(at_least=0)] = Range(low=1e-2, high=1.0, log=True)
    decay_drop: Annotated[Searchable, Number(above=0, at_most=1)] = Range(low=0.1, high=0.9)
    decay_every: Annotated[Searchable, Number(integer=True, at_least=1)] = Range(low=2, high=20)
    decay_gamma: Annotated[Searchable, Number(above=0, at_most=1)] = Range(low=0.8, high=0.999)
    decay_floor: Annotated[Searchable, Number(at_least=0, at_most=1)] = Range(
        low=1e-3, high=0.5, log=True
    )
    clip_norm: Annotated[Searchable, Number(above=0, may_be_off=True)] = Range(
        low=0.1, high=10.0, log=True
    )
    initializer: Annotated[
        Searchable,
        Option(
            (
                "normal",
                "xavier_uniform",
                "xavier_normal",
                "he_uniform",
                "he_normal",
                "orthogonal",
            )
        ),
    ] = ["normal", "xavier_uniform", "xavier_normal", "he_normal", "orthogonal"]
    l1: Annotated[Searchable, Number(at_least=0)] = Range(low=1e-8, high=1e-3, log=True)
    l2: Annotated[Searchable, Number(at_least=0)] = Range(low=1e-8, high=1e-2, log=True)
    dropout: Annotated[Searchable, Number(at_least=0, below=1)] = Range(low=0.0, high=0.6)
    batch_size: Annotated[Searchable, Number(integer=True, at_least=1)] = [16, 32, 64, 128]


class Training(_Section):
    """``[training]``: how long one trial trains."""

    epochs: int = Field(40, ge=1, le=100_000)
    patience: Annotated[int, Field(ge=1)] | Literal["off"] = Field(
        5, description="Epochs without a better validation metric before a trial stops."
    )


class Budget(_Section):
    """``[budget]``: how long the study searches. May be raised at any time."""

    trials: int | None = Field(None, ge=1, description="Trials in all, over every restart.")
    hours: float | None = Field(None, gt=0, description="Hours of tuning in all.")

    @model_validator(mode="before")
    @classmethod
    def _has_an_end(cls, content: Any) -> Any:
        return content or {"trials": 100}


class Sampler(_Section):
    """``[sampler]``: who proposes the next trial; names and options are Optuna's."""

    name: Literal["tpe", "gp", "random", "grid", "qmc", "cmaes"] = "tpe"
    n_startup_trials: int = Field(10, ge=0, description="Random trials before tpe or gp model.")


class Pruner(_Section):
    """``[pruner]``: who ends a trial early; names and options are Optuna's."""

    name: Literal["asha", "hyperband", "median", "percentile", "none"] = "asha"
    min_resource: int | None = Field(
        None, ge=1, description="asha, hyperband: epochs before the first cut (6 % if left out)."
    )
    reduction_factor: int | None = Field(
        None, ge=2, description="asha, hyperband: one in this many goes on (4 and 3)."
    )
    percentile: float = Field(25.0, gt=0, lt=100, description="percentile: the share that goes on.")
    n_startup_trials: int = Field(5, ge=0, description="median, percentile: trials left alone.")
    n_warmup_steps: int = Field(0, ge=0, description="median, percentile: epochs left alone.")


class Specification(_Section):
    """A whole study file."""

    name: str = Field(description="The study's name in the database, the report and commands.")
    task: Literal["classification"] = "classification"
    metric: Metric = "accuracy"
    seed: int = Field(0, ge=0, lt=2**31)
    data: Data
    model: Model = Model()
    search: Search = Search()
    training: Training = Training()
    budget: Budget = Budget()
    sampler: Sampler = Sampler()
    pruner: Pruner = Pruner()

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if len(name.encode()) > _NAME_BYTES:
            raise ValueError(f"name is longer than {_NAME_BYTES} bytes. Shorten it.")
        if not _NAME.fullmatch(name):
            raise ValueError(
                f'name = "{name}" also names a folder. '
                f"Use letters, digits, dots, dashes and underscores, and begin with a letter "
                f"or digit."
            )
        return name

    @model_validator(mode="after")
    def _grid_needs_lists(self) -> Specification:
        if self.sampler.name == "grid":
            for key, value in self.searchable():
                if isinstance(value, Range):
                    raise ValueError(
                        f"[search.{key}] is a range, and sampler grid needs lists. "
                        f"Write {key} = [{value.low}, …, {value.high}], or take another sampler."
                    )
        return self

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """Which way the metric improves."""
        return "minimize" if self.metric in MINIMIZED else "maximize"

    def searchable(self) -> Iterator[tuple[str, Searchable]]:
        """All hyperparameters by name that can matter, fixed ones too.

        A decay's parameters are left out where that decay isn't among the choices.
        """
        decays = self.search.decay if isinstance(self.search.decay, list) else [self.search.decay]
        idle = {
            name
            for decay, names in DECAY_PARAMETERS.items()
            if decay not in decays
            for name in names
        }
        for section in (self.model, self.search):
            for name in type(section).model_fields:
                if name not in idle:
                    yield name, getattr(section, name)


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
        text = path.read_text(encoding="utf-8-sig")
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
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise StudyFileError(f"{path}: not valid TOML: {error}.") from None
    for override in overrides:
        _apply(content, override)
    return parse(content, source=str(path))


def parse(content: Mapping[str, Any], source: str) -> Specification:
    """Checks a study file's content; `source` names it in messages.

    Raises
    ------
    StudyFileError
    """
    try:
        return Specification.model_validate(content)
    except ValidationError as error:
        # A union reports each of its members at one place; the first one says enough.
        messages: dict[tuple[int | str, ...], str] = {}
        for detail in error.errors(include_url=False):
            place = detail["loc"][:2]
            if detail["type"] == "literal_error" and place in messages:
                other = str(detail["ctx"]["expected"]).replace("'", '"')
                messages[place] = f"{messages[place].removesuffix('.')}, or {other}."
            messages.setdefault(place, _describe(detail, source))
        raise StudyFileError("\n".join(messages.values())) from None


def json_schema() -> dict[str, Any]:
    """The schema of a study file (JSON Schema 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Specification.model_json_schema(),
        "title": "gru-optuna study",
    }


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise StudyFileError(f"--set {override}: write --set section.key=value.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
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
    # Behind section.key, pydantic adds the union member it tried.
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
    if isinstance(field.annotation, type) and issubclass(field.annotation, _Section)
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
    """What else could have been meant by a path that isn't a file."""
    folder = path.parent
    if not folder.is_dir():
        return f"There is no folder {folder} either."
    names = [file.name for file in folder.glob("*.toml") if file.name != "pyproject.toml"]
    if not names and (folder / "studies").is_dir():
        names = [f"studies/{file.name}" for file in (folder / "studies").glob("*.toml")]
    return did_you_mean(path.name, names) if names else f"No study file (.toml) in {folder}."


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))  # noqa: T201
