"""Bundles of unlike members: linear models beside networks, weights, temperatures."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.bundles import Model, train
from helpers.workspaces import PLAIN
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from gru_optuna.baselines.tfidf import TfidfModel
from gru_optuna.bundle.build import MemberModel, make_bundle
from gru_optuna.bundle.folder import MANIFEST, read_files, write_files
from gru_optuna.bundle.load import bundle_from_files
from gru_optuna.bundle.manifest import FORMAT
from gru_optuna.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gru_optuna.bundle.bundle import Bundle

TEXTS = ["a delight from start to end .", "dull", "a dull delight", "nothing that it knows"]
LINEAR, ITS_WEIGHTS = "linear/0.json", "weights/2.safetensors"


def linear_model() -> TfidfModel:
    """Delight is positive, and dull is negative."""
    arrays = {
        "frequencies": np.array([1.5, 2.0], np.float32),
        "weights": np.array([[-2.0, 3.0], [2.0, -3.0]], np.float32),
        "offsets": np.array([0.1, -0.1], np.float32),
    }
    return TfidfModel("words", ["delight", "dull"], [0, 1], 2, arrays)


@pytest.fixture(scope="module")
def sentences() -> Model:
    return train("movie-snippets.toml", replace(PLAIN, max_tokens=10), 2)


def bundle_of(model: Model, temperature: float = 1.0, weights: tuple[int, ...] = (1, 3)) -> Bundle:
    networks = [
        replace(network, weight=weight)
        for network, weight in zip(model.networks, weights, strict=True)
    ]
    return make_bundle(
        model.spec, 3, model.bundle.hyperparameters, networks,
        [MemberModel(linear_model(), "TF-IDF of words", 2)],
        fingerprint="", metrics={}, temperature=temperature,
    )  # fmt: skip


def test_probabilities_are_the_weighted_mean_of_all_members(sentences: Model) -> None:
    bundle = bundle_of(sentences)
    first, second = (
        replace(sentences.bundle, networks=(network,)).predict_proba(TEXTS)
        for network in sentences.bundle.networks
    )
    expected = (first + 3 * second + 2 * linear_model()(TEXTS)) / 6
    np.testing.assert_allclose(bundle.predict_proba(TEXTS), expected, rtol=1e-14)
    assert linear_model()(TEXTS)[:2].argmax(axis=1).tolist() == [1, 0]
    warm = bundle_of(sentences, 2.0).predict_proba(TEXTS)
    np.testing.assert_allclose(
        warm, np.sqrt(expected) / np.sqrt(expected).sum(1, keepdims=True), rtol=1e-14
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([*TEXTS, "dull dull", "delight ! !"]), min_size=1, max_size=60))
def test_a_rows_prediction_depends_on_that_row_alone(sentences: Model, texts: list[str]) -> None:
    bundle = bundle_of(sentences, 0.7)
    together = bundle.predict_proba(texts)
    alone = np.concatenate([bundle.predict_proba([text]) for text in texts])
    np.testing.assert_array_equal(together, alone)


def test_it_is_written_and_read_again_as_format_3(sentences: Model, tmp_path: Path) -> None:
    bundle = bundle_of(sentences, 1.5)
    bundle.save(tmp_path / "bundle")
    loaded = bundle_from_files(read_files(tmp_path / "bundle"), "here")
    assert loaded.manifest.format == FORMAT
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), bundle.predict_proba(TEXTS))
    assert loaded.labels == bundle.labels
    card = loaded.files["README.md"].decode()
    assert "an ensemble of 2 networks and TF-IDF of words" in card
    assert "counted 3 times" in card


def test_members_of_one_configuration_that_count_alike_need_no_new_format(
    sentences: Model,
) -> None:
    manifest = json.loads(sentences.bundle.files[MANIFEST])
    assert manifest["format"] == 1
    assert not {"linear", "temperature"} & manifest.keys()
    assert manifest["members"][0].keys() == {
        "weights", "preprocessing", "seed", "epochs", "validation"
    }  # fmt: skip


def in_json(name: str, **changes: Any) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        content = json.loads(files[name])
        for path, value in changes.items():
            *tables, key = path.split("__")
            table = content
            for step in tables:
                table = table[int(step) if step.isdecimal() else step]
            table[key] = value
        files[name] = json.dumps(content).encode()

    return change


def in_weights(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files[ITS_WEIGHTS] = save(load(files[ITS_WEIGHTS]) | changes)

    return change


HOSTILE: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "declared as an older format": (in_json(MANIFEST, format=2), "needs format 3"),
    "path out of the folder": (
        in_json(MANIFEST, linear__0__model="../x.json"), "model: String should match"),
    "another's weights": (
        in_json(MANIFEST, linear__0__weights="weights/0.safetensors"), "a name occurs twice"),
    "a member that counts against the others": (
        in_json(MANIFEST, members__0__weight=-1), "greater than or equal to 1"),
    "a member that outweighs all": (in_json(MANIFEST, linear__0__weight=10**9), "less than or eq"),
    "no temperature": (in_json(MANIFEST, temperature=0), "temperature: Input should be greater"),
    "a temperature without end": (in_json(MANIFEST, temperature=1e300), "temperature"),
    "a configuration that is none": (
        in_json(MANIFEST, members__0__configuration={"hidden_size": "x"}), "valid study file"),
    "another kind": (in_json(LINEAR, kind="pickle"), "kind: Input should be"),
    "a pattern of its own": (in_json(LINEAR, terms="(a+)+$"), "terms: Input should be"),
    "terms twice": (in_json(LINEAR, vocabulary=["a", "a"]), "a name occurs twice"),
    "more terms": (in_json(LINEAR, vocabulary=["a", "b", "c"]), "this model needs"),
    "a million terms": (
        in_json(LINEAR, vocabulary=[str(n) for n in range(10**6)]), "at most 200000 items"),
    "classes beyond the labels": (in_json(LINEAR, classes=[0, 2]), "not those of the networks"),
    "classes in any order": (in_json(LINEAR, classes=[1, 0]), "not in order"),
    "no classes": (in_json(LINEAR, classes=[]), "not those of the networks"),
    "wrong shape": (in_weights(offsets=np.zeros(3, np.float32)), r"offsets is .* \(3,\)"),
    "infinite": (in_weights(offsets=np.full(2, np.inf, np.float32)), "NaN or infinite"),
    "extra tensor": (in_weights(more=np.zeros(1, np.float32)), "unexpected weights: more"),
    "a large file": (lambda files: files.update({ITS_WEIGHTS: b"0" * 10**7}), "too many"),
    "a pickle": (
        lambda files: files.update({ITS_WEIGHTS: b"\x80\x04cos\nsystem\n"}), "not a safetensors"),
    "lacking": (lambda files: files.pop(LINEAR) and None, "linear/0.json is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_member_is_refused(sentences: Model, tmp_path: Path, name: str) -> None:
    change, words = HOSTILE[name]
    files = dict(bundle_of(sentences).files)
    change(files)
    write_files(tmp_path / "bundle", files)
    with pytest.raises(BundleError, match=words):
        bundle_from_files(read_files(tmp_path / "bundle"), "the bundle")
