"""Bundles of unlike members: linear models beside networks, weights, temperatures."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from helpers.bundles import Model, in_json, train
from helpers.workspaces import PLAIN
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from gru_optuna import study_file
from gru_optuna.baselines.rows import RawFold, RawPart
from gru_optuna.baselines.sequence_ridge import SequenceRidge
from gru_optuna.baselines.sequences import ConvolutionRidge, RowRidge
from gru_optuna.baselines.tfidf import TfidfModel
from gru_optuna.bundle.build import MemberModel, make_bundle
from gru_optuna.bundle.folder import MANIFEST, read_files, write_files
from gru_optuna.bundle.linear import linear_as_json, read_linear
from gru_optuna.bundle.load import bundle_from_files
from gru_optuna.bundle.manifest import FORMAT, write_json
from gru_optuna.data.dataset import Split, Units
from gru_optuna.data.sequences.scaler import SequenceEncoder
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


def in_weights(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files[ITS_WEIGHTS] = save(load(files[ITS_WEIGHTS]) | changes)

    return change


# --- linear models of sequences ---


ROWS = [np.random.default_rng(n).normal(size=(8 + n, 2)).cumsum(axis=0) for n in range(40)]


def sequence_ridge(way: str, numbers: bool = False) -> SequenceRidge:
    """A regression on features of some kind, fitted to `ROWS`."""
    content = {"name": "x", "task": "regression" if numbers else "classification",
               "data": {"train": "x.npz"}}  # fmt: skip
    spec = study_file.parse(content, "x")
    random, count = np.random.default_rng(0), len(ROWS)
    none = torch.zeros(count, dtype=torch.int64)
    targets, units = torch.from_numpy(np.arange(count) % 3), None
    if numbers:
        targets = torch.from_numpy(random.normal(size=(count, 1)))
        units = Units(torch.zeros(count, 1).double(), torch.full((count, 1), 1e6).double())
    part = RawPart(ROWS, Split(torch.zeros(0, 0), none, none, targets, units))
    fold = RawFold(part, part, None, 0 if numbers else 3, count)
    family = ConvolutionRidge if "convolutions" in way else RowRidge
    settings = next(s for s in family(spec, fold).settings() if s["features"] == way)
    fitted = family(spec, fold).fit(settings | {"penalty": 0.01})
    assert isinstance(fitted, SequenceRidge)
    return fitted


WAYS = ("row", "standardised differences", "statistics", "convolutions",
        "convolutions of the standardised row")  # fmt: skip


@pytest.mark.parametrize("numbers", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_model_of_sequences_predicts_the_same_after_it_is_read(way: str, numbers: bool) -> None:
    model, labels = sequence_ridge(way, numbers), () if numbers else ("a", "b", "c")
    written = write_json(linear_as_json(model)), save(model.arrays)
    read = read_linear(*written, SequenceEncoder(2), labels, "here", "there")
    assert isinstance(read, SequenceRidge)
    assert write_json(linear_as_json(read)) == written[0]
    rows = [row.copy() for row in ROWS]
    rows[3][2:4, 1] = np.nan
    together = read(rows)
    np.testing.assert_array_equal(together, model(rows))
    # Each row by itself, whatever the others are.
    np.testing.assert_array_equal(together, np.concatenate([read([row]) for row in rows]))
    np.testing.assert_array_equal(together[::-1], read(rows[::-1]))
    assert read([]).shape == (0, 1 if numbers else 3)
    # With the features that the fit remembers, the numbers are the same, too.
    np.testing.assert_array_equal(model(ROWS), read(ROWS))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features__groups__0__channels": [2]}, "more channels than there are, 2"),
        ({"features__groups__0__dilation": 10**9}, "dilation: Input should be less"),
        ({"features__groups__0__kernel": 84}, "kernel: Input should be less than 84"),
        ({"features__groups__0__thresholds": 10**6}, "this model needs"),
        ({"features__kind": "code"}, "does not match any of the expected tags"),
        ({"temperature": None}, "not of the networks' kind"),
        ({"temperature": -1.0}, "temperature: Input should be greater"),
        ({"kind": "tfidf"}, "Field required"),
    ],
)
def test_a_hostile_model_of_sequences_is_refused(changes: dict[str, Any], words: str) -> None:
    model = sequence_ridge("convolutions")
    files = {LINEAR: write_json(linear_as_json(model))}
    in_json(LINEAR, **changes)(files)
    with pytest.raises(BundleError, match=words):
        read_linear(
            files[LINEAR], save(model.arrays), SequenceEncoder(2), ("a", "b", "c"), "here", "there"
        )


def test_a_model_of_texts_is_refused_beside_networks_of_sequences() -> None:
    written = write_json(linear_as_json(linear_model())), save(linear_model().arrays)
    with pytest.raises(BundleError, match="reads other rows than the networks"):
        read_linear(*written, SequenceEncoder(2), ("a", "b"), "here", "there")


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
    "intervals of classes": (in_json(
        MANIFEST, intervals={"widths": {"80": [1.0]}, "relative": False}), "don't fit what it pre"),
    "intervals of no width": (in_json(
        MANIFEST, intervals={"widths": {"80": [-1.0]}, "relative": False}), "greater than or equ"),
    "intervals of another level": (in_json(
        MANIFEST, intervals={"widths": {"50": [1.0]}, "relative": False}), "Input should be '80'"),
    "a configuration that is none": (
        in_json(MANIFEST, members__0__configuration={"hidden_size": "x"}), "valid study file"),
    "another kind": (in_json(LINEAR, kind="pickle"), "does not match any of the expected tags"),
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
