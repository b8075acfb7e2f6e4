"""The ``[data]`` section of a study file, and what all sections share."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_serializer,
)

from gru_optuna.hyperparameters import VIEW_KEYS, Normalization, Residual
from gru_optuna.study_file.searchable import Number, Option, Range, Searchable

_Name = Annotated[str, Field(min_length=1)]
_Part = Annotated[float, Field(gt=0, lt=1)] | Annotated[int, Field(ge=1)] | _Name
_Share = Annotated[Searchable, Number(at_least=0, at_most=1)]
_Vocabulary = Annotated[
    Searchable,
    Number(integer=True, at_least=3),
    WithJsonSchema({"type": "integer", "minimum": 3}),
]


class StudySection(BaseModel):
    """A section: it refuses unknown keys, and its values can't be changed."""

    # Strict: neither true nor "40" is a number of epochs.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    newer: ClassVar[tuple[str, ...]] = ()
    """Keys that version 0.1.0 doesn't know, and whose defaults change nothing."""

    @model_serializer(mode="wrap")
    def _without_newer_keys(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Version 0.1.0 refuses keys that it doesn't know, so only studies that need them have them.
        content: dict[str, Any] = serialize(self)
        return {key: value for key, value in content.items() if not self.is_idle(key)}

    def is_idle(self, key: str) -> bool:
        """Whether the key is newer than version 0.1.0 and isn't used."""
        if key not in self.newer:
            return False
        default = type(self).model_fields[key].get_default(call_default_factory=True)
        return bool(getattr(self, key) == default)


def is_stored(info: ValidationInfo) -> bool:
    """Whether a specification is read that was stored, with every key."""
    return bool(info.context and info.context["stored"])


class Data(StudySection):
    """``[data]``: files, relative to the study file, and what their columns mean."""

    newer = ("missing_values", "decimal", "thousands", "steps", *VIEW_KEYS)

    train: str = Field(
        min_length=1, description="File of the training rows: .csv .tsv .jsonl .parquet .npz .ts"
    )
    test: _Part | None = Field(
        None,
        description="File of the test rows, or fraction of the training rows; forecasting: file "
        "of the rows that follow, or the last rows of each series, as a number or a fraction.",
    )
    validation: _Part = Field(
        0.2,
        description="File, or fraction of the training rows (stratified); forecasting: file of "
        "the rows that follow, or the last training rows of each series, as a number or a "
        "fraction.",
    )
    folds: int | None = Field(
        None,
        ge=2,
        description="k-fold cross-validation instead of one validation part; forecasting: this "
        "many parts, one after another, each validated after training on all rows before it.",
    )
    standardize: bool = Field(
        True, description="Give every channel mean 0 and deviation 1, as seen in training."
    )
    normalize: Annotated[Searchable, Option(get_args(Normalization))] | None = Field(
        None,
        description="How numbers are scaled. channel: by each channel's mean and deviation in "
        "training; row: by those of the row itself; row_stats: like row, and these two are "
        "channels as well; none.",
    )
    differences: Annotated[Searchable, Number(integer=True, at_least=0, at_most=2)] | None = Field(
        None, description="1: changes from step to step as channels; 2: changes of these, too."
    )
    patch: Annotated[Searchable, Number(integer=True, at_least=1, at_most=64)] | None = Field(
        None, description="Number of neighbouring steps that are read as one."
    )
    spectrum: Annotated[Searchable, Option((False, True))] | None = Field(
        None,
        description="Instead of its values, read the spectrum of the four patches around each "
        "patch: how strong each frequency is there, as logarithms. It has no differences.",
    )
    residual: Annotated[Searchable, Option(get_args(Residual))] | None = Field(
        None,
        description="What a forecast is measured from. season: the median of past seasons; level: "
        "the same, moved to the present level; drift: the last season, and the change since; "
        "last: the last value; yearly: a smooth curve over the year; none: the mean.",
    )
    log: Annotated[Searchable, Option((False, True))] | None = Field(
        None, description="Read and predict the logarithms of the target, which is positive."
    )
    # texts
    text: _Name | None = Field(None, description="Column of texts.")
    tokenizer: Literal["bpe", "word", "char"] = Field(
        "bpe",
        description="bpe: pieces of words, learned from the training rows; word; char. "
        "bpe and char suit scripts without spaces too.",
    )
    vocabulary: _Vocabulary | None = Field(
        None, description="Number of tokens at most, the most frequent ones; else from the data."
    )
    max_tokens: Annotated[Searchable, Number(integer=True, at_least=1)] | None = Field(
        None, description="Longer texts are cut; else from the data."
    )
    deduplicate: bool = Field(
        True, description="Keep equal texts once, so that none is in both training and test rows."
    )
    # targets
    label: _Name | None = Field(None, description="Column of classes.")
    target: _Name | None = Field(None, description="Column of numbers to predict.")
    class_weights: Literal["balanced", "none"] = Field(
        "none", description="balanced: rare classes count as much in the loss as frequent ones."
    )
    group: _Name | None = Field(
        None,
        description="Column of rows that stay in one part together, such as a person's.",
    )
    # sequences in long form, one step a row
    id: str | None = Field(None, description="Column that identifies the sequence.")
    features: list[_Name] = Field([], description="Columns of a step; else all that remain.")
    # sequences in wide form, one a row
    steps: str | Annotated[list[str], Field(min_length=1)] | None = Field(
        None,
        description="What the names of the columns that hold the steps begin with, if a row is a "
        'whole sequence: "t" for t0, t1, t2; for several channels, a list such as ["x", "y"].',
    )
    time: str | Annotated[list[str], Field(min_length=2)] | None = Field(
        None,
        description="Column of times, in ascending order; forecasting: or the columns of their "
        'parts, such as ["year", "month"].',
    )
    # series
    series: str | None = Field(None, description="Column that identifies the series.")
    covariates: list[_Name] = Field(
        [], description="Columns known up to the present: numbers or categories."
    )
    known: list[_Name] = Field(
        [], description="Columns also known for the steps to predict: numbers or categories."
    )
    window: int | None = Field(None, ge=1, description="Steps that a forecast looks back on.")
    horizon: int | None = Field(None, ge=1, description="Steps to predict, all at once.")
    season: int | None = Field(
        None, ge=1, description="Steps after which the series resembles itself; 1: never."
    )
    gap: int = Field(0, ge=0, description="Rows left out between the targets of two parts.")
    stride: int | None = Field(
        None, ge=1, description="Steps from one training window to the next; else from the data."
    )
    missing: Literal["interpolate", "drop", "refuse"] = Field(
        "interpolate",
        description="interpolate: fill gaps; drop: leave out windows that touch a gap; refuse: "
        "stop at the first missing value.",
    )
    missing_values: list[_Name] = Field(
        [], description='Fields that stand for a missing value, in any column, such as "-999".'
    )
    decimal: Literal[".", ","] | None = Field(
        None, description="Decimal sign of numbers in text files; else from the data."
    )
    thousands: Literal["", ".", ",", " ", "'"] | None = Field(
        None, description='Sign between thousands in text files, "" for none; else from the data.'
    )
    calendar: bool = Field(True, description="Add hour, weekday and day of the year as channels.")

    @property
    def times(self) -> tuple[str, ...]:
        """The columns that make the times together; none if the rows have no times."""
        if self.time is None:
            return ()
        return (self.time,) if isinstance(self.time, str) else tuple(self.time)

    @property
    def stems(self) -> tuple[str, ...]:
        """What the names of each channel's columns begin with; none if a row is no sequence."""
        if self.steps is None:
            return ()
        return (self.steps,) if isinstance(self.steps, str) else tuple(self.steps)

    @field_validator("vocabulary")
    @classmethod
    def _is_one_size(cls, vocabulary: Searchable, info: ValidationInfo) -> Searchable:
        # Version 0.1.0 could search it; the studies and bundles that it stored still open.
        if isinstance(vocabulary, list | Range) and not is_stored(info):
            got = vocabulary if isinstance(vocabulary, list) else "{ low, high }"
            raise ValueError(
                f"vocabulary = {got}: one study reads one vocabulary. "
                f"Give a single size, or tune one study for each."
            )
        return vocabulary

    @property
    def rolling(self) -> bool:
        """Whether folds are stretches of `validation` steps of a series.

        Then only the last one's network is tested and exported: it has seen all rows before the
        test but the last stretch, as a network without folds has.
        """
        return self.folds is not None and isinstance(self.validation, int)
