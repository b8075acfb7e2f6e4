"""The linear models of a bundle: what ``linear/N.json`` says of one, and its arrays."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, assert_never

from pydantic import Field, TypeAdapter, ValidationError, field_validator, model_validator

from gru_optuna.baselines.convolutions import KERNELS, KernelGroup, RandomConvolutions
from gru_optuna.baselines.features import RowStatistics, RowValues, Way
from gru_optuna.baselines.lag_ridge import Base, LagReading, LagRidgeModel, Level
from gru_optuna.baselines.sequence_ridge import SequenceRidge
from gru_optuna.baselines.tfidf import MOST_TERMS, Terms, TfidfModel
from gru_optuna.bundle.manifest import (
    LONGEST,
    Count,
    Names,
    Spread,
    StrictModel,
    damaged,
    read_json,
    refused,
)
from gru_optuna.bundle.tensors import read_tensors
from gru_optuna.data.sequences.scaler import SequenceEncoder
from gru_optuna.data.series.encoder import SeriesEncoder
from gru_optuna.data.texts.tokenizer import TextEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.baselines.sequence_ridge import SequenceFeatures
    from gru_optuna.bundle.rows import Encoder

FittedLinear: TypeAlias = TfidfModel | SequenceRidge | LagRidgeModel
"""The models that a bundle can hold next to its networks."""

_MOST_GROUPS = 10_000
_LARGEST_LOG = 700.0  # of a number that is finite
_MOST_WAVES = 100  # of a calendar; there are a few cycles of four
_WIDEST = 2**17  # steps between two weights of a kernel


class _Tfidf(StrictModel):
    kind: Literal["tfidf"] = "tfidf"
    terms: Terms
    vocabulary: Annotated[Names, Field(max_length=MOST_TERMS)]
    classes: list[Annotated[int, Field(ge=0)]]  # of the labels; none where numbers are predicted
    mean: float
    deviation: Spread

    @field_validator("classes")
    @classmethod
    def _in_order(cls, classes: list[int]) -> list[int]:
        if classes != sorted(set(classes)):
            raise ValueError("not in order")
        return classes


class _Values(StrictModel):
    kind: Literal["values"] = "values"
    way: Way
    steps: int = Field(ge=2, le=LONGEST)
    alike: bool


class _Statistics(StrictModel):
    kind: Literal["statistics"] = "statistics"
    longest: Count


class _Kernels(StrictModel):
    dilation: int = Field(ge=1, le=_WIDEST)
    kernel: int = Field(ge=0, lt=KERNELS)
    channels: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1, max_length=KERNELS)]
    thresholds: Count


class _Convolutions(StrictModel):
    kind: Literal["convolutions"] = "convolutions"
    standardised: bool
    groups: Annotated[list[_Kernels], Field(min_length=1, max_length=_MOST_GROUPS)]


class _Ridge(StrictModel):
    kind: Literal["ridge"] = "ridge"
    features: Annotated[_Values | _Statistics | _Convolutions, Field(discriminator="kind")]
    temperature: Spread | None  # None where numbers are predicted


class _Level(StrictModel):
    first: int = Field(ge=-(2**62), le=2**62)
    mean: float
    deviation: Spread
    least: float
    most: float
    usual: Annotated[list[float], Field(max_length=_MOST_WAVES)]


class _Lags(StrictModel):
    kind: Literal["lags"] = "lags"
    lags: int = Field(ge=1, le=LONGEST)
    base: Base
    log: bool
    seasons: int = Field(ge=1, le=LONGEST)
    phases: bool
    named: bool
    levels: dict[str, _Level]

    @model_validator(mode="after")
    def _logarithms_of_positive_numbers(self) -> _Lags:
        levels = self.levels.values() if self.log else ()
        if any(level.least <= 0 or level.most > _LARGEST_LOG for level in levels):
            raise ValueError("logarithms of numbers that aren't positive, or too large")
        return self


_LINEAR: TypeAdapter[_Tfidf | _Ridge | _Lags]
_LINEAR = TypeAdapter(Annotated[_Tfidf | _Ridge | _Lags, Field(discriminator="kind")])


def linear_as_json(model: FittedLinear) -> dict[str, Any]:
    """The content of ``linear/N.json``."""
    if isinstance(model, TfidfModel):
        return _Tfidf(
            terms=model.terms,
            vocabulary=model.vocabulary,
            classes=model.classes,
            mean=model.mean,
            deviation=model.deviation,
        ).model_dump()
    if isinstance(model, LagRidgeModel):
        read = model.reading
        return _Lags(
            lags=read.lags,
            base=read.base,
            log=read.log,
            seasons=read.seasons,
            phases=read.phases,
            named=read.named,
            levels={
                name: _Level(**asdict(level) | {"usual": list(level.usual)})
                for name, level in read.levels.items()
            },
        ).model_dump()
    return _Ridge(features=_described(model.features), temperature=model.temperature).model_dump()


def _described(features: SequenceFeatures) -> _Values | _Statistics | _Convolutions:
    match features:
        case RowValues():
            return _Values(**asdict(features))
        case RowStatistics():
            return _Statistics(**asdict(features))
        case RandomConvolutions():
            groups = [
                _Kernels(**asdict(group) | {"channels": list(group.channels)})
                for group in features.groups
            ]
            return _Convolutions(standardised=features.standardised, groups=groups)
        case _:
            assert_never(features)


def read_linear(
    content: bytes,
    weights: bytes,
    encoder: Encoder,
    labels: Sequence[str],
    source: str,
    source_of_weights: str,
) -> FittedLinear:
    """Reads a linear model.

    Parameters
    ----------
    content
        ``linear/N.json``.
    weights
        Its safetensors file.
    encoder, labels
        Those of the networks, for the same rows.
    source, source_of_weights
        The two files, for messages.

    Raises
    ------
    BundleError
        If a file isn't as an exported bundle has it, or the model doesn't fit the networks.
    """
    try:
        read = _LINEAR.validate_python(read_json(content, source))
    except ValidationError as error:
        raise refused(error, source) from None
    empty: FittedLinear
    if isinstance(read, _Tfidf) and isinstance(encoder, TextEncoder):
        if bool(labels) != bool(read.classes) or (labels and read.classes[-1] >= len(labels)):
            raise damaged(source, "its classes are not those of the networks")
        empty = TfidfModel(
            read.terms, read.vocabulary, read.classes, len(labels) or 1, {}, read.mean,
            read.deviation,
        )  # fmt: skip
    elif isinstance(read, _Ridge) and isinstance(encoder, SequenceEncoder):
        if bool(labels) != (read.temperature is not None):
            raise damaged(source, "its predictions are not of the networks' kind")
        features = _made(read.features)
        if isinstance(features, RandomConvolutions) and encoder.channels <= max(
            channel for group in features.groups for channel in group.channels
        ):
            raise damaged(source, f"it reads more channels than there are, {encoder.channels}")
        empty = SequenceRidge(features, encoder.channels, len(labels) or 1, read.temperature, {})
    elif isinstance(read, _Lags) and isinstance(encoder, SeriesEncoder):
        empty = LagRidgeModel(_reading(read, encoder, source), {})
    else:
        raise damaged(source, "it reads other rows than the networks")
    tensors = read_tensors(weights, empty.shapes(), "model", source_of_weights)
    return replace(empty, arrays={name: tensor.numpy() for name, tensor in tensors.items()})


def _reading(read: _Lags, encoder: SeriesEncoder, source: str) -> LagReading:
    if list(read.levels) != list(encoder.scales):
        raise damaged(source, "its series are not those of the networks")
    waves = 1 + 4 * len(encoder.plan.calendar) if read.base == "calendar" else 0
    if any(len(level.usual) != waves for level in read.levels.values()):
        raise damaged(source, "its calendar is not that of the networks")
    levels = {
        name: Level(**level.model_dump() | {"usual": tuple(level.usual)})
        for name, level in read.levels.items()
    }
    return LagReading(
        encoder.plan, levels, read.lags, read.base, read.log, read.seasons, read.phases, read.named
    )


def _made(features: _Values | _Statistics | _Convolutions) -> SequenceFeatures:
    match features:
        case _Values():
            return RowValues(features.way, features.steps, features.alike)
        case _Statistics():
            return RowStatistics(features.longest)
        case _Convolutions():
            groups = [
                KernelGroup(each.dilation, each.kernel, tuple(each.channels), each.thresholds)
                for each in features.groups
            ]
            return RandomConvolutions(features.standardised, tuple(groups))
        case _:
            assert_never(features)
