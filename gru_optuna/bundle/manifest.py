"""What stands in a bundle's JSON files, checked key by key: nobody knows where a bundle was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from gru_optuna.errors import BundleError
from gru_optuna.study_file import Metric, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gru_optuna.study_file import Specification

FORMAT = 2
"""Of a bundle's files. A version reads its own format and those before it.

1. The first.
2. Series with columns of words, or with test or validation rows in a file of their own. (Version
   0.1.0 also wrote texts with a searched vocabulary as 2.) All others are still written as 1,
   which every version reads.
"""

_LONGEST = 1_000_000  # steps: longer than anyone's

_Count = Annotated[int, Field(ge=1, le=_LONGEST)]
_Spread = Annotated[float, Field(gt=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Member(_Part):
    """One network of a bundle."""

    weights: Annotated[str, Field(pattern=r"^weights/\d{1,4}\.safetensors$")]
    preprocessing: Annotated[str, Field(pattern=r"^preprocessing/\d{1,4}\.json$")]
    seed: int = Field(ge=0)
    epochs: int = Field(ge=1)
    validation: float | None  # the metric on validation rows; None: they were trained on


class Manifest(_Part):
    """``bundle.json``."""

    format: Literal[1, 2] = 1
    versions: dict[str, str]  # of this package, Python and the libraries that it was made with
    made_at: str  # UTC
    study: str
    task: Task
    metric: Metric
    trial: int = Field(ge=0)
    configuration: dict[str, Any]  # the trial's hyperparameters; checked as a study file is
    refitted: bool  # on training and validation rows together
    members: Annotated[list[Member], Field(min_length=1)]
    metrics: dict[str, Any]  # what was measured, for people
    fingerprint: str  # of the data


class _Labels(_Part):
    labels: Annotated[list[str], Field(min_length=2)] | None = None
    target: _Target | None = None

    @model_validator(mode="after")
    def _one_answer(self) -> _Labels:
        if (self.labels is None) == (self.target is None):
            raise ValueError("needs either labels or a target")
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise ValueError("a label stands there twice")
        return self


class _Target(_Part):
    mean: float
    deviation: _Spread


class _TextColumns(_Part):
    text: str | None


class Texts(_Labels):
    """Of a text study."""

    kind: Literal["texts"]
    columns: _TextColumns
    tokenizer: dict[str, Any]
    max_tokens: _Count


class _SequenceColumns(_Part):
    id: str | None
    time: str | None
    features: list[str] | None


class Sequences(_Labels):
    """Of a study of sequences."""

    kind: Literal["sequences"]
    columns: _SequenceColumns
    channels: _Count
    means: list[float] | None
    deviations: list[_Spread] | None

    @model_validator(mode="after")
    def _one_a_channel(self) -> Sequences:
        for numbers in (self.means, self.deviations, self.columns.features):
            if numbers is not None and len(numbers) != self.channels:
                raise ValueError(f"{len(numbers)} entries for {self.channels} channels")
        return self


class _SeriesColumns(_Part):
    time: str
    target: str
    series: str | None
    covariates: list[str]
    known: list[str]


class _Frequency(_Part):
    count: int = Field(ge=1, lt=2**63)
    unit: Literal["us", "M"]


class _Scale(_Part):
    mean: float
    deviation: _Spread
    error: _Spread


class _Covariates(_Part):
    means: list[float]
    deviations: list[_Spread]


class _Words(_Part):
    kept: Annotated[list[str], Field(min_length=1)]
    rest: bool

    @model_validator(mode="after")
    def _each_once(self) -> _Words:
        if len(set(self.kept)) < len(self.kept):
            raise ValueError("a word stands there twice")
        return self


class SeriesOfNumbers(_Part):
    """Of a forecasting study."""

    kind: Literal["series"]
    columns: _SeriesColumns
    frequency: _Frequency
    window: _Count
    horizon: _Count
    season: _Count
    seasons: _Count
    calendar: list[Literal["minute of hour", "hour of day", "day of week", "day of year"]]
    missing: Literal["interpolate", "drop", "refuse"]
    series: Annotated[dict[str, _Scale], Field(min_length=1)]
    covariates: _Covariates
    words: dict[str, _Words] = {}

    @model_validator(mode="after")
    def _one_a_column(self) -> SeriesOfNumbers:
        columns = [*self.columns.covariates, *self.columns.known]
        if unknown := self.words.keys() - set(columns):
            raise ValueError(f"words of {min(unknown)}, which is no covariate")
        needed = sum(name not in self.words for name in columns)
        for numbers in (self.covariates.means, self.covariates.deviations):
            if len(numbers) != needed:
                raise ValueError(f"{len(numbers)} entries for {needed} covariates")
        return self


def format_for(spec: Specification, *, words: bool) -> Literal[1, 2]:
    """The first format that holds such a study; `words` says whether columns of words are read."""
    later_files = spec.kind == "series" and any(
        isinstance(part, str) for part in (spec.data.validation, spec.data.test)
    )
    return 2 if words or later_files else 1


_PREPROCESSING: TypeAdapter[Texts | Sequences | SeriesOfNumbers] = TypeAdapter(
    Annotated[Texts | Sequences | SeriesOfNumbers, Field(discriminator="kind")]
)

Checked = TypeVar("Checked", bound=BaseModel)


def read_manifest(content: bytes, source: str) -> Manifest:
    """``bundle.json``; a newer format is told before anything else of it is looked at.

    Raises
    ------
    BundleError
    """
    raw = read_json(content, source)
    found = raw.get("format")
    if isinstance(found, int) and found > FORMAT:
        raise BundleError(
            f"{source}: format {found}, and this version reads up to format {FORMAT}. "
            f"Upgrade gru-optuna: pip install --upgrade gru-optuna."
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        raise _refused(error, source) from None


def read_preprocessing(content: bytes, source: str) -> dict[str, Any]:
    """What rows go through, as the encoders of ``data`` read it.

    Raises
    ------
    BundleError
    """
    try:
        checked = _PREPROCESSING.validate_python(read_json(content, source))
    except ValidationError as error:
        raise _refused(error, source) from None
    return checked.model_dump(exclude_none=False)


def read_json(content: bytes, source: str) -> dict[str, Any]:
    """One JSON object.

    Raises
    ------
    BundleError
    """
    try:
        parsed = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{source}: not JSON ({error}). Export the bundle again.") from None
    if not isinstance(parsed, dict):
        raise BundleError(f"{source}: not a JSON object. Export the bundle again.")
    return parsed


def write_json(content: Mapping[str, Any]) -> bytes:
    """One JSON object, for people too."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _refused(error: ValidationError, source: str) -> BundleError:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "it"
    return BundleError(f"{source}: {place}: {first['msg']}. No bundle of ours: export it again.")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} among its numbers")
