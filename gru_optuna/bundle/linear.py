"""The linear models of a bundle: what ``linear/N.json`` says of one, and its arrays."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, assert_never

from pydantic import Field, TypeAdapter, ValidationError, field_validator

from gru_optuna.baselines.convolutions import KERNELS, KernelGroup, RandomConvolutions
from gru_optuna.baselines.features import RowStatistics, RowValues, Way
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
from gru_optuna.data.texts.tokenizer import TextEncoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.baselines.sequence_ridge import SequenceFeatures
    from gru_optuna.bundle.rows import Encoder

FittedLinear: TypeAlias = TfidfModel | SequenceRidge
"""The models that a bundle can hold next to its networks."""

_MOST_GROUPS = 10_000
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


_LINEAR: TypeAdapter[_Tfidf | _Ridge]
_LINEAR = TypeAdapter(Annotated[_Tfidf | _Ridge, Field(discriminator="kind")])


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
    else:
        raise damaged(source, "it reads other rows than the networks")
    tensors = read_tensors(weights, empty.shapes(), "model", source_of_weights)
    return replace(empty, arrays={name: tensor.numpy() for name, tensor in tensors.items()})


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
