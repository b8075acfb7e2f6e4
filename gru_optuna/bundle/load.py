"""From trained networks to a bundle, and from a bundle's files to one in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load as load_tensors

from gru_optuna import study_file
from gru_optuna.bundle.bundle import Bundle, Preprocessing, TrainedNetwork
from gru_optuna.bundle.folder import MANIFEST, SPECIFICATION, read_files
from gru_optuna.bundle.manifest import (
    format_for,
    read_json,
    read_manifest,
    read_preprocessing,
)
from gru_optuna.data.sequences.scaler import SequenceEncoder
from gru_optuna.data.series.encoder import SeriesEncoder
from gru_optuna.data.targets import answers_from_json
from gru_optuna.data.texts.tokenizer import TextEncoder
from gru_optuna.errors import BundleError, StudyFileError
from gru_optuna.search import space
from gru_optuna.training.network import Network

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gru_optuna.hyperparameters import Hyperparameters
    from gru_optuna.study_file import Specification

_HEADER_BYTES = 2**20  # of a safetensors file, more than a GRU's names need


def load_bundle(folder: str | Path) -> Bundle:
    """Reads a bundle that ``gru-optuna export`` has made, to predict with.

    Nothing in it is executed, and one that isn't exactly what was exported is refused.

    Parameters
    ----------
    folder
        The bundle's.

    Raises
    ------
    BundleError
        If it is no bundle, of a newer format, cut short, or changed.

    Examples
    --------
    >>> load_bundle("bundles/reviews").predict(["a delight"])  # doctest: +SKIP
    array(['positive'], dtype=object)
    """
    return bundle_from_files(read_files(Path(folder)), str(folder))


def bundle_from_files(content: Mapping[str, bytes], source: str) -> Bundle:
    """The bundle that these files are; `source` names it in messages.

    Raises
    ------
    BundleError
        If anything in them can't be, whatever their checksums say.
    """

    def read(name: str) -> bytes:
        if name not in content:
            raise BundleError(f"{source}: {name} is missing. Export the bundle again.")
        return content[name]

    manifest = read_manifest(read(MANIFEST), f"{source}/{MANIFEST}")
    place = f"{source}/{SPECIFICATION}"
    raw = read_json(read(SPECIFICATION), place)
    try:
        spec = study_file.parse_stored(raw, place)
        hyperparameters = _hyperparameters(raw, manifest.configuration, place)
    except (StudyFileError, KeyError, TypeError) as error:
        raise BundleError(f"{place}: no study file of ours: {error}") from None
    ways = {
        name: _preprocessing(read(name), spec, f"{source}/{name}")
        for name in dict.fromkeys(member.preprocessing for member in manifest.members)
    }
    words = any(
        bool(way.encoder.words) for way in ways.values() if isinstance(way.encoder, SeriesEncoder)
    )
    if manifest.format < (needed := format_for(spec, words=words)):
        raise BundleError(
            f"{source}: what it holds is of format {needed}, and it says {manifest.format}. "
            f"Export the bundle again."
        )
    if len({way.labels for way in ways.values()}) > 1:
        raise BundleError(f"{source}: its networks tell different labels. Export it again.")
    networks = [
        _network(read(member.weights), hyperparameters, ways[member.preprocessing],
                 f"{source}/{member.weights}")
        for member in manifest.members
    ]  # fmt: skip
    return Bundle(manifest, spec, hyperparameters, tuple(networks), content)


def _hyperparameters(
    raw: Mapping[str, Any], configuration: Mapping[str, Any], source: str
) -> Hyperparameters:
    """A trial's values, checked as those of a study file are that fixes them all."""
    fixed = dict(raw) | {"sampler": {}}
    for section, model in (("model", study_file.Model), ("search", study_file.Search)):
        fixed[section] = {k: v for k, v in configuration.items() if k in model.model_fields}
    of_data = {k: v for k, v in configuration.items() if k in study_file.DATA_HYPERPARAMETERS}
    fixed["data"] = {**raw["data"], **of_data}
    return space.hyperparameters({}, study_file.parse_stored(fixed, source))


def _preprocessing(content: bytes, spec: Specification, source: str) -> Preprocessing:
    checked = read_preprocessing(content, source)
    if checked["kind"] != spec.kind:
        raise BundleError(f"{source}: of {checked['kind']}, and the study is of {spec.kind}.")
    if (spec.task == "classification") != bool(checked.get("labels")):
        raise BundleError(f"{source}: doesn't fit a study of {spec.task}.")
    if checked["kind"] == "series":
        return Preprocessing(SeriesEncoder.from_json(checked, spec.data), None)
    checked = {key: value for key, value in checked.items() if value is not None}
    encoder: TextEncoder | SequenceEncoder
    if checked["kind"] == "sequences":
        encoder = SequenceEncoder.from_json(checked)
    else:
        try:
            encoder = TextEncoder.from_json(checked)
        except BaseException as error:
            # A panic in the tokenizers library is none of Python's exceptions.
            if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
                raise
            raise BundleError(f"{source}: the tokenizer can't be read: {error}") from None
    return Preprocessing(encoder, answers_from_json(checked))


def _network(
    content: bytes, hyperparameters: Hyperparameters, ways: Preprocessing, source: str
) -> TrainedNetwork:
    encoder = ways.encoder
    outputs = len(ways.labels) or 1
    vocabulary = channels = 0
    if isinstance(encoder, TextEncoder):
        vocabulary = encoder.vocabulary
    else:
        channels = encoder.channels
        outputs = encoder.plan.horizon if isinstance(encoder, SeriesEncoder) else outputs
    network = Network.of(hyperparameters, channels, outputs, vocabulary)
    # Before anything is made of it: the shapes follow from all that was checked.
    if len(content) > 4 * network.size() + _HEADER_BYTES:
        raise BundleError(f"{source}: {len(content)} bytes for {network.size()} numbers.")
    try:
        weights = load_tensors(content)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise BundleError(f"{source}: no safetensors file ({reason}).") from None
    shapes = network.shapes()
    if weights.keys() != shapes.keys():
        wrong = sorted(weights.keys() ^ shapes.keys())
        raise BundleError(f"{source}: not the weights of this network: {', '.join(wrong)[:200]}.")
    for name, shape in shapes.items():
        got = weights[name]
        if got.shape != shape or str(got.dtype) != "torch.float32":
            raise BundleError(
                f"{source}: {name} is {got.dtype} {tuple(got.shape)}, "
                f"and torch.float32 {shape} is needed."
            )
        if not bool(got.isfinite().all()):
            raise BundleError(f"{source}: {name} holds what is no finite number.")
    return TrainedNetwork(network, weights, ways)
