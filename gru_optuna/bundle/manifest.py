"""A bundle's JSON files, checked key by key: a bundle may come from anywhere."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import polars as pl
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)

from gru_optuna.data.readers.column_formats import StoredFormats
from gru_optuna.data.readers.time_forms import Case, Stored, TimeForm
from gru_optuna.data.views import View
from gru_optuna.errors import BundleError
from gru_optuna.hyperparameters import Normalization, Residual
from gru_optuna.study_file import Metric, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gru_optuna.study_file import Specification

FORMAT = 3
"""The newest format of a bundle's files. A version reads its own format and all earlier ones.

1. The first.
2. Series with categorical columns, or with test or validation rows in a file of their own.
   (Version 0.1.0 also wrote texts with a searched vocabulary as 2.)
3. Series, with the form of their times; tables whose numbers aren't plain, or with fields that
   stand for a missing value; views, and sequences with missing values; ensembles whose members
   don't count alike, weren't trained with one configuration, or are linear models; temperatures;
   intervals.

Others are still written as 1, which every version reads.
"""

MOST_MEMBERS = 10_000
"""The most networks of a bundle, each with its own weights."""

MOST_LINEAR = 100
"""The most linear models of a bundle."""

LONGEST = 1_000_000  # steps, more than any real row has

_LONGEST_PATTERN = 200

_HEAVIEST = 1_000
_HOTTEST = 1_000

Level = Literal["80", "95"]
Count = Annotated[int, Field(ge=1, le=LONGEST)]
Spread = Annotated[float, Field(gt=0)]


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("a name occurs twice")
    return names


Names = Annotated[list[str], Field(min_length=1), AfterValidator(_distinct)]


class StrictModel(BaseModel):
    """Refuses unknown keys, and values of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Member(StrictModel):
    """One network of a bundle."""

    weights: Annotated[str, Field(pattern=r"^weights/\d{1,4}\.safetensors$")]
    preprocessing: Annotated[str, Field(pattern=r"^preprocessing/\d{1,4}\.json$")]
    seed: int = Field(ge=0)
    epochs: int = Field(ge=1)
    validation: float | None  # the metric on validation rows; None: trained on them too
    weight: int = Field(1, ge=1, le=_HEAVIEST)  # how much it counts in the average
    # None: those of the manifest.
    trial: int | None = Field(None, ge=0)
    configuration: dict[str, Any] | None = None

    @property
    def plain(self) -> bool:
        """Whether format 1 can hold it."""
        return self.weight == 1 and self.trial is None and self.configuration is None

    @model_serializer(mode="wrap")
    def _as_in_format_1(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        later = () if not self.plain else ("weight", "trial", "configuration")
        return {key: value for key, value in content.items() if key not in later}


class LinearMember(StrictModel):
    """One linear model of a bundle."""

    weights: Annotated[str, Field(pattern=r"^weights/\d{1,4}\.safetensors$")]
    model: Annotated[str, Field(pattern=r"^linear/\d{1,4}\.json$")]
    name: str
    weight: int = Field(1, ge=1, le=_HEAVIEST)


class Intervals(StrictModel):
    """How far predictions of numbers are off; see `study.prediction_intervals`."""

    widths: dict[Level, Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)]]
    relative: bool  # to the seasonal-naive error of each series
    scales: dict[str, Annotated[float, Field(gt=0)]] = {}  # by series; 1 where it isn't named


class Manifest(StrictModel):
    """``bundle.json``."""

    format: Literal[1, 2, 3] = 1
    versions: dict[str, str]  # this package, Python and the libraries, when it was made
    made_at: str  # UTC
    study: str
    task: Task
    metric: Metric
    trial: int = Field(ge=0)
    configuration: dict[str, Any]  # the trial's hyperparameters; checked as a study file is
    refitted: bool  # on training and validation rows together
    members: Annotated[list[Member], Field(min_length=1, max_length=MOST_MEMBERS)]
    linear: Annotated[list[LinearMember], Field(max_length=MOST_LINEAR)] = []
    temperature: float = Field(1.0, gt=0, le=_HOTTEST)  # of the probabilities
    intervals: Intervals | None = None  # of the average's predictions
    metrics: dict[str, Any]  # for the model card; nothing is computed from them
    fingerprint: str  # of the data

    @model_validator(mode="after")
    def _have_their_own_weights(self) -> Manifest:
        networks = [member.weights for member in self.members]
        _distinct(networks + [member.weights for member in self.linear])
        return self

    @model_serializer(mode="wrap")
    def _as_in_format_1(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        later = {"linear": [], "temperature": 1.0, "intervals": None}
        return {key: value for key, value in content.items() if later.get(key, ...) != value}

    @property
    def plain(self) -> bool:
        """Whether format 1 can hold it, whatever it describes."""
        members = all(member.plain for member in self.members)
        return members and not self.linear and self.temperature == 1 and self.intervals is None


class _Preprocessing(StrictModel):
    formats: StoredFormats | None = None


class _Labels(_Preprocessing):
    labels: Annotated[Names, Field(min_length=2)] | None = None
    target: _Target | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> _Labels:
        if (self.labels is None) == (self.target is None):
            raise ValueError("needs either labels or a target")
        return self


class _Target(StrictModel):
    mean: float
    deviation: Spread


class _TextColumns(StrictModel):
    text: str | None


class TextPreprocessing(_Labels):
    """``preprocessing/N.json`` of a bundle for texts."""

    kind: Literal["texts"]
    columns: _TextColumns
    tokenizer: dict[str, Any]
    max_tokens: Count


class _SequenceColumns(StrictModel):
    id: str | None
    time: str | None
    features: list[str] | None
    steps: list[list[str]] | None = None


class _View(StrictModel):
    normalize: Normalization = "channel"
    differences: int = Field(0, ge=0, le=2)
    patch: int = Field(1, ge=1, le=64)
    spectrum: bool = False
    residual: Residual = "season"
    log: bool = False


class _Added(StrictModel):
    means: list[float]
    deviations: list[Spread]


class SequencePreprocessing(_Labels):
    """``preprocessing/N.json`` of a bundle for sequences."""

    kind: Literal["sequences"]
    columns: _SequenceColumns
    channels: Count
    means: list[float] | None
    deviations: list[Spread] | None
    view: _View | None = None
    added: _Added | None = None
    gaps: list[Annotated[int, Field(ge=0)]] = []

    @model_validator(mode="after")
    def _one_a_channel(self) -> SequencePreprocessing:
        columns = self.columns
        for numbers in (self.means, self.deviations, columns.features, columns.steps):
            if numbers is not None and len(numbers) != self.channels:
                raise ValueError(f"{len(numbers)} entries for {self.channels} channels")
        if self.gaps and (max(self.gaps) >= self.channels or len(set(self.gaps)) < len(self.gaps)):
            raise ValueError(f"gaps {self.gaps} of {self.channels} channels")
        view = View(**self.view.model_dump()) if self.view else View()
        if (self.means is None) != (self.deviations is None):
            raise ValueError("needs either both means and deviations, or neither")
        if view.by_row and self.means is None:
            raise ValueError("rows scaled by themselves need means and deviations, too")
        each = view.frequencies if view.spectrum else view.differences
        adding = 0 if self.means is None else self.channels * each
        adding += 2 * self.channels if view.statistics else 0
        added = [self.added.means, self.added.deviations] if self.added else [[], []]
        if any(len(numbers) != adding for numbers in added):
            raise ValueError(f"{len(added[0])} entries for {adding} added channels")
        return self


class _SeriesColumns(StrictModel):
    time: str | list[str]
    target: str
    series: str | None
    covariates: list[str]
    known: list[str]


class _Frequency(StrictModel):
    count: int = Field(ge=1, lt=2**63)
    unit: Literal["us", "M", "step"]
    day: int | None = Field(None, ge=1, le=31)
    weekdays: str | None = Field(None, pattern="^0*1[01]*$", min_length=7, max_length=7)


class _Scale(StrictModel):
    mean: float
    deviation: Spread
    error: Spread
    changes: list[Spread] = []
    curve: list[float] = []


class _Covariates(StrictModel):
    means: list[float]
    deviations: list[Spread]


class _Categories(StrictModel):
    kept: Names
    rest: bool


class _TimeForm(StrictModel):
    reads: str = Field(max_length=_LONGEST_PATTERN)
    writes: str = Field("", max_length=_LONGEST_PATTERN)
    stored: Stored = "text"
    zone: str | None = Field(None, max_length=_LONGEST_PATTERN)
    decimals: int = Field(0, ge=0, le=30)
    case: Case | None = None
    midnight_is_24: bool = False
    local: bool = False
    months: list[str] = []
    weekdays: list[str] = []
    until: str = Field("", max_length=_LONGEST_PATTERN)
    lasts: Annotated[list[int], Field(min_length=2, max_length=2)] = [0, 0]

    @model_validator(mode="after")
    def _writes_times(self) -> _TimeForm:
        # What a pattern or a zone may be is up to polars, which reports it in several ways.
        try:
            TimeForm(**self.model_dump()).write(pl.Series(values=[datetime(2024, 1, 31)]))
        except Exception as error:
            raise ValueError(f"no such form of times ({error})") from None
        return self


class SeriesPreprocessing(_Preprocessing):
    """``preprocessing/N.json`` of a bundle for series."""

    kind: Literal["series"]
    columns: _SeriesColumns
    frequency: _Frequency
    window: Count
    horizon: Count
    season: Count
    seasons: Count
    calendar: list[Literal["minute of hour", "hour of day", "day of week", "day of year"]]
    missing: Literal["interpolate", "drop", "refuse"]
    series: Annotated[dict[str, _Scale], Field(min_length=1)]
    covariates: _Covariates
    words: dict[str, _Categories] = {}
    times: list[_TimeForm] = []
    view: _View | None = None

    @model_validator(mode="after")
    def _scales_of_the_view(self) -> SeriesPreprocessing:
        view = self.view or _View()
        curve = 5 if view.residual == "yearly" else 0
        for scale in self.series.values():
            if len(scale.changes) != view.differences or len(scale.curve) != curve:
                raise ValueError(
                    f"{len(scale.changes)} changes for {view.differences} differences, and "
                    f"{len(scale.curve)} coefficients of a curve that has {curve}"
                )
        return self

    @model_validator(mode="after")
    def _one_a_column(self) -> SeriesPreprocessing:
        columns = [*self.columns.covariates, *self.columns.known]
        named = self.columns.time
        if self.times and len(self.times) != (1 if isinstance(named, str) else len(named)):
            raise ValueError(f"{len(self.times)} forms of times for the columns {named}")
        if unknown := self.words.keys() - set(columns):
            raise ValueError(f"categories of {min(unknown)}, which is not a covariate")
        needed = sum(name not in self.words for name in columns)
        for numbers in (self.covariates.means, self.covariates.deviations):
            if len(numbers) != needed:
                raise ValueError(f"{len(numbers)} entries for {needed} covariates")
        return self


_SINCE_FORMAT_3 = ("times", "formats", "view", "gaps")


def format_for(
    spec: Specification, preprocessing: Iterable[Mapping[str, Any]], *, plain: bool
) -> Literal[1, 2, 3]:
    """The oldest format that can hold such a study and its networks' preprocessing.

    `plain` says whether that is all; see `Manifest.plain`.
    """
    parts = list(preprocessing)
    if not plain:
        return 3
    if any(part.get(key) for part in parts for key in _SINCE_FORMAT_3):
        return 3
    categories = any(part.get("words") for part in parts)
    later_files = spec.kind == "series" and any(
        isinstance(part, str) for part in (spec.data.validation, spec.data.test)
    )
    return 2 if categories or later_files else 1


_PREPROCESSING: TypeAdapter[TextPreprocessing | SequencePreprocessing | SeriesPreprocessing]
_PREPROCESSING = TypeAdapter(
    Annotated[
        TextPreprocessing | SequencePreprocessing | SeriesPreprocessing, Field(discriminator="kind")
    ]
)


def damaged(source: str, what: str) -> BundleError:
    """The error for content that no exported bundle has; `source` names the file or folder."""
    return BundleError(f"{source}: {what}. Export the bundle again.")


def read_manifest(content: bytes, source: str) -> Manifest:
    """Reads ``bundle.json``; a newer format is refused before anything else is checked.

    Raises
    ------
    BundleError
        If the format is newer than this version's, or a key is wrong.
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
        raise refused(error, source) from None


def read_preprocessing(content: bytes, source: str) -> dict[str, Any]:
    """Reads ``preprocessing/N.json`` into what the encoders of ``data`` take.

    Raises
    ------
    BundleError
        If a key is wrong, or its values contradict one another.
    """
    try:
        checked = _PREPROCESSING.validate_python(read_json(content, source))
    except ValidationError as error:
        raise refused(error, source) from None
    return checked.model_dump()


def read_json(content: bytes, source: str) -> dict[str, Any]:
    """Reads a file that holds one JSON object.

    Raises
    ------
    BundleError
        If it isn't JSON, or not an object.
    """
    try:
        parsed = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise damaged(source, f"not JSON ({error})") from None
    if not isinstance(parsed, dict):
        raise damaged(source, "not a JSON object")
    return parsed


def write_json(content: Mapping[str, Any]) -> bytes:
    """One JSON object, indented so that people can read it."""
    return (json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def refused(error: ValidationError, source: str) -> BundleError:
    """The error for JSON that isn't as an exported bundle has it."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "it"
    return damaged(source, f"{place}: {first['msg']}")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"it contains {constant}")
