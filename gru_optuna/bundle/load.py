"""Reads a bundle's files into a `Bundle` in memory, and checks all of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gru_optuna import study_file
from gru_optuna.bundle.bundle import Bundle, LinearModel, Preprocessing, TrainedNetwork
from gru_optuna.bundle.folder import MANIFEST, SPECIFICATION, read_files
from gru_optuna.bundle.linear import read_linear
from gru_optuna.bundle.manifest import (
    damaged,
    format_for,
    read_json,
    read_manifest,
    read_preprocessing,
)
from gru_optuna.bundle.tensors import read_tensors
from gru_optuna.data.sequences.scaler import SequenceEncoder
from gru_optuna.data.series.encoder import SeriesEncoder
from gru_optuna.data.targets import outputs_from_json
from gru_optuna.data.texts.tokenizer import TextEncoder
from gru_optuna.errors import BundleError, StudyError, StudyFileError
from gru_optuna.search import space
from gru_optuna.training.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification


def load_bundle(folder: str | Path) -> Bundle:
    """Reads a bundle that ``gru-optuna export`` has written.

    Loading executes nothing, and refuses a bundle that isn't exactly what was exported.

    Parameters
    ----------
    folder
        The bundle's folder.

    Raises
    ------
    BundleError
        If it is not a bundle, has a newer format, or was changed or cut short.

    Examples
    --------
    >>> load_bundle("bundles/reviews").predict(["a delight"])  # doctest: +SKIP
    array(['positive'], dtype=object)
    """
    return bundle_from_files(read_files(Path(folder)), str(folder))


def bundle_from_files(content: Mapping[str, bytes], source: str) -> Bundle:
    """Makes a bundle of its files; `source` names it in messages.

    Raises
    ------
    BundleError
        If anything in the files is impossible, even where their checksums match.
    """

    def read(name: str) -> bytes:
        if name not in content:
            raise damaged(source, f"{name} is missing")
        return content[name]

    manifest = read_manifest(read(MANIFEST), f"{source}/{MANIFEST}")
    place = f"{source}/{SPECIFICATION}"
    raw = read_json(read(SPECIFICATION), place)
    try:
        spec = study_file.parse_stored(raw, place)
        hyperparameters = _hyperparameters(raw, manifest.configuration, place)
        own = [
            hyperparameters
            if member.configuration is None
            else _hyperparameters(raw, member.configuration, place)
            for member in manifest.members
        ]
    except (StudyFileError, KeyError, TypeError) as error:
        raise BundleError(f"{place}: not a valid study file: {error}") from None
    preprocessing = {
        name: _preprocessing(read(name), spec, f"{source}/{name}")
        for name in dict.fromkeys(member.preprocessing for member in manifest.members)
    }
    encoders = [used.encoder for used in preprocessing.values()]
    described = [used.as_json() for used in encoders if isinstance(used, SeriesEncoder)]
    described += [used.formats.in_json() for used in encoders]
    if manifest.format < (needed := format_for(spec, described, plain=manifest.plain)):
        declared = f"it declares format {manifest.format}"
        raise damaged(source, f"its content needs format {needed}, but {declared}")
    if len({used.labels for used in preprocessing.values()}) > 1:
        raise damaged(source, "its networks predict different labels")
    networks = [
        _network(read(member.weights), trained, preprocessing[member.preprocessing],
                 f"{source}/{member.weights}", member.weight)
        for member, trained in zip(manifest.members, own, strict=True)
    ]  # fmt: skip
    rows, outputs = networks[0].preprocessing, networks[0].network.outputs
    if manifest.intervals is not None and (
        rows.labels
        or (manifest.intervals.relative and not isinstance(rows.encoder, SeriesEncoder))
        or any(len(widths) != outputs for widths in manifest.intervals.widths.values())
    ):
        raise damaged(source, "its intervals don't fit what it predicts")
    linear = [
        LinearModel(
            read_linear(read(member.model), read(member.weights), rows.encoder, rows.labels,
                        f"{source}/{member.model}", f"{source}/{member.weights}"),
            member.weight,
        )
        for member in manifest.linear
    ]  # fmt: skip
    return Bundle(manifest, spec, hyperparameters, tuple(networks), tuple(linear), content)


def _hyperparameters(
    raw: Mapping[str, Any], configuration: Mapping[str, Any], source: str
) -> Hyperparameters:
    """A trial's values, checked like those of a study file that fixes all of them."""
    fixed = dict(raw) | {"sampler": {}}
    for section, model in (("model", study_file.Model), ("search", study_file.Search)):
        fixed[section] = {k: v for k, v in configuration.items() if k in model.model_fields}
    of_data = {k: v for k, v in configuration.items() if k in study_file.DATA_HYPERPARAMETERS}
    fixed["data"] = {**raw["data"], **of_data}
    try:
        return space.hyperparameters({}, study_file.parse_stored(fixed, source))
    except StudyError:
        what = "not a valid study file: the configuration lacks a hyperparameter"
        raise damaged(source, what) from None


def _preprocessing(content: bytes, spec: Specification, source: str) -> Preprocessing:
    checked = read_preprocessing(content, source)
    if checked["kind"] != spec.kind:
        raise damaged(source, f"it prepares {checked['kind']}, but the study reads {spec.kind}")
    if (spec.task == "classification") != bool(checked.get("labels")):
        raise damaged(source, f"its targets do not fit a {spec.task} study")
    if checked["kind"] == "series":
        return Preprocessing(SeriesEncoder.from_json(checked, spec.data), None)
    encoder: TextEncoder | SequenceEncoder
    if checked["kind"] == "sequences":
        encoder = SequenceEncoder.from_json(checked)
    else:
        try:
            encoder = TextEncoder.from_json(checked)
        except BaseException as error:
            # A panic in the tokenizers library is not a subclass of Exception.
            if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
                raise
            raise damaged(source, f"the tokenizer can't be read ({error})") from None
    return Preprocessing(encoder, outputs_from_json(checked))


def _network(
    content: bytes,
    hyperparameters: Hyperparameters,
    preprocessing: Preprocessing,
    source: str,
    count: int,
) -> TrainedNetwork:
    encoder = preprocessing.encoder
    outputs = len(preprocessing.labels) or 1
    vocabulary = channels = 0
    if isinstance(encoder, TextEncoder):
        vocabulary = encoder.vocabulary
    else:
        channels = encoder.inputs
        outputs = encoder.plan.horizon if isinstance(encoder, SeriesEncoder) else outputs
    network = Network.of(hyperparameters, channels, outputs, vocabulary)
    weights = read_tensors(content, network.shapes(), "network", source)
    return TrainedNetwork(network, weights, preprocessing, hyperparameters.max_tokens, count)
