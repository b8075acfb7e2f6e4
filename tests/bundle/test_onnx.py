"""ONNX: another runtime says what the bundle says, whatever the batch and the lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from helpers.bundles import Model, train
from helpers.workspaces import PLAIN

import gru_optuna
from gru_optuna.bundle.build import make_bundle
from gru_optuna.bundle.folder import ONNX
from gru_optuna.bundle.onnx import to_onnx, with_onnx

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.data.dataset import Batch

onnxruntime = pytest.importorskip("onnxruntime")

KINDS = {
    "sequences, one layer": ("japanese-vowels.toml", PLAIN, 1),
    "sequences, both directions, ensemble": (
        "japanese-vowels.toml", replace(PLAIN, layers=2, bidirectional=True, pooling="mean"), 2),
    "texts, cut, both directions": (
        "movie-snippets.toml", replace(PLAIN, bidirectional=True, max_tokens=12), 1),
    "texts, mean": ("movie-snippets.toml", replace(PLAIN, pooling="mean"), 1),
    "sequences, maximum": ("japanese-vowels.toml", replace(PLAIN, pooling="max"), 1),
    "texts, mean and maximum": (
        "movie-snippets.toml", replace(PLAIN, bidirectional=True, pooling="mean_max"), 1),
    "series": ("traffic.toml", replace(PLAIN, layers=2), 1),
}  # fmt: skip


def run_onnx(content: bytes, batch: Batch) -> np.ndarray:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (predictions,) = session.run(
        None, {"values": batch.values.numpy(), "lengths": batch.lengths.numpy()}
    )
    return np.asarray(predictions)


def expected(model: Model) -> np.ndarray:
    outputs = torch.stack(model.outputs)
    return (outputs.softmax(-1) if model.bundle.labels else outputs).mean(0).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_says_the_same_on_real_data(kind: str) -> None:
    study, trial, networks = KINDS[kind]
    model = train(study, trial, networks)
    content, test = to_onnx(model.bundle), model.dataset.test
    assert test is not None
    whole = run_onnx(content, test.batch())
    np.testing.assert_allclose(whole, expected(model), rtol=1e-4, atol=1e-5)
    # Any number of rows, of any length; what stands behind a row's end is not read.
    for rows in (torch.arange(1), torch.tensor([5, 3, 200]), torch.arange(40, 57)):
        some = test.batch(rows)
        behind = torch.arange(some.values.shape[1]) >= some.lengths.unsqueeze(1)
        some.values[behind] = 1
        np.testing.assert_allclose(
            run_onnx(content, some), whole[rows.numpy()], rtol=1e-4, atol=1e-5
        )


def test_networks_may_count_differently() -> None:
    model = train("japanese-vowels.toml", PLAIN, 2)
    assert model.dataset.test is not None
    networks = [
        replace(network, weight=n) for network, n in zip(model.networks, (3, 1), strict=True)
    ]
    bundle = make_bundle(model.spec, 3, PLAIN, networks, fingerprint="", metrics={})
    first, second = (outputs.softmax(-1).numpy() for outputs in model.outputs)
    np.testing.assert_allclose(
        run_onnx(to_onnx(bundle), model.dataset.test.batch()),
        (3 * first + second) / 4, rtol=1e-4,
    )  # fmt: skip


def test_probabilities_are_at_the_temperature_of_the_bundle() -> None:
    model = train("japanese-vowels.toml", PLAIN, 2)
    assert model.dataset.test is not None
    batch = model.dataset.test.batch()
    plain = run_onnx(to_onnx(model.bundle), batch)
    bundle = make_bundle(
        model.spec, 3, PLAIN, model.networks, fingerprint="", metrics={}, temperature=0.5
    )
    squares = plain**2
    np.testing.assert_allclose(
        run_onnx(to_onnx(bundle), batch), squares / squares.sum(1, keepdims=True), rtol=1e-4
    )


def test_it_is_a_file_of_the_bundle(tmp_path: Path) -> None:
    model = train("japanese-vowels.toml")
    with_onnx(model.bundle).save(tmp_path / "bundle")
    loaded = gru_optuna.load_bundle(tmp_path / "bundle")
    session = onnxruntime.InferenceSession(loaded.files[ONNX])
    labels = session.get_modelmeta().custom_metadata_map["labels"].split("\n")
    assert tuple(labels) == loaded.labels
