"""Bundles: what is predicted is what the trial said, and nothing else is ever loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import torch
from helpers.bundles import DATA, Model, in_json, train
from helpers.workspaces import PLAIN, REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

import gru_optuna
from gru_optuna import study_file
from gru_optuna.bundle.folder import CARD, MANIFEST, SPECIFICATION, SUMS, read_files, write_files
from gru_optuna.bundle.load import bundle_from_files
from gru_optuna.bundle.manifest import write_json
from gru_optuna.data.readers.sequence_files import read_sequences
from gru_optuna.errors import BundleError, DataError
from gru_optuna.hyperparameters import Hyperparameters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gru_optuna.bundle.bundle import Bundle

VOWELS = DATA / "japanese_vowels_test.ts"

BIG = Hyperparameters(
    hidden_size=20, layers=2, bidirectional=True, pooling="mean", learning_rate=0.01,
    optimizer="adam", decay="constant", clip_norm=None, initializer="orthogonal", l1=0.0, l2=0.0,
    dropout=0.1, batch_size=64,
)  # fmt: skip


@pytest.fixture(scope="module")
def vowels() -> Model:
    return train("japanese-vowels.toml", BIG, 3)


@pytest.fixture(scope="module")
def sentences() -> Model:
    return train("movie-snippets.toml", replace(PLAIN, max_tokens=10))


@pytest.fixture(scope="module")
def traffic() -> Model:
    return train("traffic.toml")


def rows_of_the_test() -> list[np.ndarray]:
    return read_sequences(VOWELS).values


def softmax(logits: torch.Tensor) -> np.ndarray:
    powers = np.exp(logits.double().numpy() - logits.double().numpy().max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


# --- predictions are the trial's ---


def test_probabilities_of_an_ensemble_are_the_mean_of_its_networks(vowels: Model) -> None:
    expected = sum(softmax(outputs) for outputs in vowels.outputs) / 3
    predictions = vowels.bundle.predict_proba(VOWELS)
    np.testing.assert_array_equal(predictions, expected)
    labels = [vowels.bundle.labels[place] for place in expected.argmax(axis=1)]
    assert vowels.bundle.predict(VOWELS).tolist() == labels
    assert vowels.bundle.predict_frame(VOWELS).columns == [
        "prediction", *(f"P({label})" for label in "123456789")
    ]  # fmt: skip


def test_texts_are_predicted_as_the_trial_predicted_them(sentences: Model) -> None:
    frame = pl.read_csv(DATA / "movie_snippets.csv")
    predictions = sentences.bundle.predict_proba(frame)
    assert sentences.dataset.test is not None
    # Which rows are the test's is the loader's secret; each of them is among the predictions.
    known = {row.tobytes() for row in predictions}
    expected = softmax(sentences.outputs[0])
    assert all(row.tobytes() in known for row in expected)


def test_texts_of_a_small_vocabulary_are_predicted_as_the_trial_predicted_them() -> None:
    trial = replace(PLAIN, vocabulary=300, max_tokens=20)
    model = train("movie-snippets.toml", trial, 1, "data.vocabulary=300")
    tokenizer = model.bundle.encoder.as_json()["tokenizer"]["model"]
    assert len(tokenizer["vocab"]) == 300
    assert model.bundle.hyperparameters.vocabulary == 300
    assert model.bundle.manifest.format == 1
    frame = pl.read_csv(DATA / "movie_snippets.csv")
    known = {row.tobytes() for row in model.bundle.predict_proba(frame)}
    expected = softmax(model.outputs[0])
    assert len({row.tobytes() for row in expected}) > 1000
    assert all(row.tobytes() in known for row in expected)


def test_a_bundle_of_0_1_0_whose_vocabulary_was_searched_still_predicts() -> None:
    trial = replace(PLAIN, vocabulary=300, max_tokens=20)
    model = train("movie-snippets.toml", trial, 1, "data.vocabulary=300")
    content = dict(model.bundle.files)
    spec, manifest = (json.loads(content[name]) for name in (SPECIFICATION, MANIFEST))
    spec["data"]["vocabulary"] = [300, 8000]
    manifest["format"] = 2
    content |= {SPECIFICATION: write_json(spec), MANIFEST: write_json(manifest)}
    bundle = bundle_from_files(content, "old")
    assert bundle.hyperparameters.vocabulary == 300
    texts = ["a delight", "dull and slow"]
    np.testing.assert_array_equal(bundle.predict_proba(texts), model.bundle.predict_proba(texts))


def test_a_forecast_is_in_the_datas_units_and_has_its_times(traffic: Model) -> None:
    test = traffic.dataset.test
    assert test is not None
    assert test.units is not None
    frame = pl.read_csv(DATA / "traffic_hourly.csv", infer_schema_length=None)
    expected = test.units.restore(traffic.outputs[0])
    for ahead in (0, 57, 300):  # of the last present that the test knows
        predictions = traffic.bundle.predict(frame[: len(frame) - 24 - ahead])
        np.testing.assert_array_equal(predictions["prediction"], expected[-1 - ahead])
        times = frame["datetime"][len(frame) - 24 - ahead :][:24]
        assert predictions["datetime"].to_list() == times.to_list()


@pytest.mark.parametrize(
    "view",
    [
        {"residual": "level", "differences": 1},
        {"residual": "drift", "normalize": "row_stats", "patch": 8, "log": True},
        {"residual": "last", "patch": 4, "differences": 2},
        {"residual": "none", "normalize": "row"},
    ],
)
def test_forecasts_in_any_view_are_those_of_the_trial(view: dict[str, Any]) -> None:
    model = train("traffic.toml", replace(PLAIN, **view), 1, *_choices(view))
    test, data = model.dataset.test, pl.read_csv(DATA / "traffic_hourly.csv")
    assert test is not None
    assert test.units is not None
    expected = test.units.restore(model.outputs[0])
    predictions = model.bundle.predict(data[: len(data) - 24 - 57])["prediction"]
    np.testing.assert_array_equal(predictions, expected[-1 - 57])
    assert model.bundle.manifest.format == 3
    loaded = bundle_from_files(model.bundle.files, "again")
    assert loaded.predict(data[:-24])["prediction"].to_list() == expected[-1].tolist()


@pytest.mark.parametrize(
    "view",
    [
        {"normalize": "row_stats", "differences": 2, "patch": 4},
        {"normalize": "none", "differences": 1},
        {"normalize": "row_stats", "patch": 2, "spectrum": True},
        {"normalize": "row"},
    ],
)
def test_sequences_in_any_view_are_predicted_as_the_trial_predicted_them(
    view: dict[str, Any],
) -> None:
    model = train("japanese-vowels.toml", replace(PLAIN, **view), 1, *_choices(view))
    loaded = bundle_from_files(model.bundle.files, "again")
    np.testing.assert_array_equal(loaded.predict_proba(VOWELS), softmax(model.outputs[0]))


def _choices(view: dict[str, Any]) -> list[str]:
    return [f"data.{key}={json.dumps(value)}" for key, value in view.items()]


def test_numbers_are_in_their_own_units(tmp_path: Path) -> None:
    source = np.random.default_rng(0)
    values = source.normal(size=(60, 5, 2))
    lengths = source.integers(1, 6, 60)
    targets = 1000 + 10 * values[:, 0, 0]
    np.savez(tmp_path / "x.npz", values=values, lengths=lengths, targets=targets)
    study = tmp_path / "x.toml"
    study.write_text('name = "x"\ntask = "regression"\n[data]\ntrain = "x.npz"\ntest = 0.2\n')
    model = train(study)
    np.savez(tmp_path / "new.npz", values=values, lengths=lengths)
    predictions = model.bundle.predict(tmp_path / "new.npz")
    assert predictions.shape == (60,)
    assert 950 < predictions.min() < predictions.max() < 1050
    assert model.dataset.test is not None
    assert model.dataset.test.units is not None
    expected = model.dataset.test.units.restore(model.outputs[0])
    assert set(expected[:, 0].tolist()) <= set(predictions.tolist())
    with pytest.raises(DataError, match="predicts numbers, so it has no probabilities"):
        model.bundle.predict_proba(values)


# --- and depend on nothing else ---


@settings(max_examples=15)
@given(st.data())
def test_a_prediction_depends_on_its_row_alone(vowels: Model, data: st.DataObject) -> None:
    rows = rows_of_the_test()
    together = vowels.bundle.predict_proba(rows)
    some = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=200))
    np.testing.assert_array_equal(
        vowels.bundle.predict_proba([rows[number] for number in some]), together[some]
    )


def test_texts_one_by_one_and_reversed(sentences: Model) -> None:
    texts = pl.read_csv(DATA / "movie_snippets.csv")["text"].to_list()[:300]
    together = sentences.bundle.predict_proba(texts)
    np.testing.assert_array_equal(sentences.bundle.predict_proba(texts[::-1])[::-1], together)
    for number in range(0, 300, 37):
        np.testing.assert_array_equal(
            sentences.bundle.predict_proba([texts[number]])[0], together[number]
        )


def test_a_fresh_process_says_the_same(vowels: Model, tmp_path: Path) -> None:
    vowels.bundle.save(tmp_path / "bundle")
    script = (
        "import sys, pathlib, gru_optuna\n"
        "bundle = gru_optuna.load_bundle(sys.argv[1])\n"
        "predictions = bundle.predict_proba(pathlib.Path(sys.argv[2]))\n"
        "sys.stdout.buffer.write(predictions.tobytes())\n"
    )
    predictions = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "bundle"), str(VOWELS)],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert predictions == vowels.bundle.predict_proba(VOWELS).tobytes()


# --- what can be given ---


def test_rows_come_as_lists_arrays_frames_and_files(vowels: Model, sentences: Model) -> None:
    rows = [row[:7] for row in rows_of_the_test()]
    expected = vowels.bundle.predict_proba(rows)
    np.testing.assert_array_equal(vowels.bundle.predict_proba(np.stack(rows)), expected)
    texts = ["a delight from start to end .", "dull"]
    predictions = sentences.bundle.predict(texts)
    assert set(predictions) <= {"negative", "positive"}
    for frame in (
        pl.DataFrame({"n": [1, 2], "text": texts}),
        pl.LazyFrame({"text": texts}),
        {"text": texts, "label": [None, None]},
    ):
        assert sentences.bundle.predict(frame).tolist() == predictions.tolist()


def test_what_is_lacking_is_named(
    vowels: Model, sentences: Model, traffic: Model, tmp_path: Path
) -> None:
    def refused(bundle: Bundle, data: object, match: str) -> None:
        with pytest.raises(DataError, match=match):
            bundle.predict(data)

    refused(sentences.bundle, {"texts": ["x"]}, 'no column "text". Did you mean "texts"')
    refused(sentences.bundle, "one text", r"Put it into a list: predict\(\[text\]\)")
    refused(sentences.bundle, ["good", " "], "row 1: the text is empty")
    refused(sentences.bundle, ["good", 3], "row 1: 3 is not a text")
    refused(sentences.bundle, [], "there are no rows to predict")
    refused(sentences.bundle, 3, "data of type int can't be read. .* or a list of texts")
    refused(sentences.bundle, tmp_path / "none.csv", "no such file")
    refused(vowels.bundle, [np.zeros((4, 3))], "row 0: the row has 3 channels, but training had 12")
    refused(vowels.bundle, [np.full((4, 12), np.nan)], "row 0: every value is missing")
    refused(vowels.bundle, [np.zeros((4, 12)), "x"], "row 1: not an array of numbers")
    refused(vowels.bundle, {"a": [1]}, "a file without column names")
    hours = pl.read_csv(DATA / "traffic_hourly.csv", infer_schema_length=None)
    refused(
        traffic.bundle, hours.drop("datetime", "traffic_volume"), 'the columns "datetime", "tra'
    )
    refused(traffic.bundle, hours[:500], "500 rows up to the last value of .* a forecast needs")
    refused(traffic.bundle, hours[::2], "rows are 2 hours apart, but those of training are 1 hour")
    refused(traffic.bundle, [1, 2], "Give a frame")


def test_a_forecast_begins_behind_the_last_value(traffic: Model) -> None:
    hours = pl.read_csv(DATA / "traffic_hourly.csv", infer_schema_length=None)
    empty = hours.with_columns(
        pl.when(pl.int_range(pl.len()) < len(hours) - 30).then("traffic_volume")
    )
    assert traffic.bundle.predict(empty).equals(traffic.bundle.predict(hours[:-30]))


# --- on disk ---


def test_a_bundle_is_plain_files_with_checksums(vowels: Model, tmp_path: Path) -> None:
    vowels.bundle.save(tmp_path / "bundle")
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", SUMS],  # noqa: S607
        cwd=tmp_path / "bundle", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "weights/2.safetensors: OK" in checked.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    # Three networks of one fold share what their rows go through.
    assert [p.name for p in (tmp_path / "bundle" / "preprocessing").iterdir()] == ["0.json"]
    card = (tmp_path / "bundle" / CARD).read_text()
    assert "an ensemble of 3 networks" in card
    assert "| `clip_norm` | off |" in card
    loaded = gru_optuna.load_bundle(tmp_path / "bundle")
    assert loaded.hyperparameters.configuration().items() >= BIG.configuration().items()
    assert loaded.spec == study_file.parse_stored(vowels.spec.model_dump(mode="json"), "here")
    assert loaded.manifest.versions["torch"] == torch.__version__


def test_a_bundle_is_written_whole_or_not_at_all(
    vowels: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleError, match="exists already"):
        vowels.bundle.save(tmp_path)

    def full(_descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BundleError, match="No space left on device"):
        vowels.bundle.save(tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_every_changed_byte_is_refused(sentences: Model, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    sentences.bundle.save(folder)
    drawn = np.random.default_rng(0)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for place in {0, len(whole) - 1, *drawn.integers(0, len(whole), 3).tolist()}:
            changed = bytearray(whole)
            changed[place] ^= 1
            path.write_bytes(changed)
            with pytest.raises(BundleError):
                gru_optuna.load_bundle(folder)
        path.write_bytes(whole[:-1])
        with pytest.raises(BundleError):
            gru_optuna.load_bundle(folder)
        path.unlink()
        with pytest.raises(BundleError, match="missing"):
            gru_optuna.load_bundle(folder)
        path.write_bytes(whole)
    gru_optuna.load_bundle(folder)


def test_links_and_pipes_are_no_files_of_a_bundle(sentences: Model, tmp_path: Path) -> None:
    sentences.bundle.save(tmp_path / "bundle")
    card = tmp_path / "bundle" / CARD
    card.rename(tmp_path / "elsewhere")
    card.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="not a plain file"):
        gru_optuna.load_bundle(tmp_path / "bundle")
    card.unlink()
    os.mkfifo(card)
    with pytest.raises(BundleError, match="not a plain file"):
        gru_optuna.load_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match="no such folder"):
        gru_optuna.load_bundle(tmp_path / "none")


# --- made by somebody who means harm: checksums right, contents wrong ---


def in_weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[..., None]:
    def changed(files: dict[str, bytes]) -> None:
        weights = load(files["weights/0.safetensors"])
        change(weights)
        files["weights/0.safetensors"] = save(weights)

    return changed


def lying_header(files: dict[str, bytes]) -> None:
    """A tensor of a terabyte, of which nothing follows."""
    header = json.dumps(
        {"head.bias": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}}
    ).encode()
    files["weights/0.safetensors"] = len(header).to_bytes(8, "little") + header


HOSTILE: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "newer format": (in_json(MANIFEST, format=4, more=1), "format 4, and this version reads up"),
    "path out of the folder": (
        in_json(MANIFEST, members__0__weights="../../etc/passwd"), "weights: String should match"),
    "absolute path": (
        in_json(MANIFEST, members__0__preprocessing="/etc/passwd"), "preprocessing: String should"),
    "unknown key": (in_json(MANIFEST, run="rm"), "run: Extra inputs are not permitted"),
    "no networks": (in_json(MANIFEST, members=[]), "members: List should have at least 1 item"),
    "huge network": (in_json(MANIFEST, configuration__hidden_size=10**9), "hidden_size"),
    "larger network": (in_json(MANIFEST, configuration__hidden_size=4096), "this network needs"),
    "code for a number": (in_json(MANIFEST, configuration__layers="__import__('os')"), "layers"),
    "lacking hyperparameter": (in_json(MANIFEST, configuration={}), "not a valid study file"),
    "other study": (
        in_json("specification.json", data={"train": "x.ts"}), "but the study reads sequences"),
    "bad study": (in_json("specification.json", task="mining"), "not a valid study file"),
    "tokenizer of nonsense": (
        in_json("preprocessing/0.json", tokenizer={"model": {"type": "BPE"}}), "tokenizer can't"),
    "slow pattern": (
        in_json("preprocessing/0.json", tokenizer__pre_tokenizer={
            "type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated",
            "invert": False}), "isn't one of ours"),
    "endless rows": (in_json("preprocessing/0.json", max_tokens=10**12), "max_tokens"),
    "labels doubled": (in_json("preprocessing/0.json", labels=["a", "a"]), "a name occurs twice"),
    "more labels": (in_json("preprocessing/0.json", labels=["a", "b", "c"]), "this network needs"),
    "nested": (lambda f: f.update({MANIFEST: b"[" * 10**6}), "not JSON"),
    "not a number": (lambda f: f.update({MANIFEST: b'{"format": NaN}'}), "it contains NaN"),
    "wrong dtype": (
        in_weights(lambda w: w.update({"head.bias": w["head.bias"].double()})), "torch.float64"),
    "wrong shape": (in_weights(lambda w: w.update({"head.bias": torch.zeros(7)})), r"\(7,\)"),
    "extra tensor": (in_weights(lambda w: w.update({"x": torch.zeros(1)})), "unexpected weights"),
    "lacking tensor": (in_weights(lambda w: w.pop("head.bias")), "unexpected weights: head.bias"),
    "infinite": (
        in_weights(lambda w: w["head.bias"].fill_(float("inf"))), "NaN or infinite values"),
    "lying header": (lying_header, "not a safetensors file"),
    "pickle": (lambda f: f.update({"weights/0.safetensors": b"\x80\x04cos\nsystem\n"}), "not a sa"),
    "a large file": (
        lambda f: f.update({"weights/0.safetensors": b"\0" * 20_000_000}), "too many"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_is_refused(sentences: Model, tmp_path: Path, name: str) -> None:
    change, words = HOSTILE[name]
    files = dict(sentences.bundle.files)
    change(files)
    write_files(tmp_path / "bundle", files)
    with pytest.raises(BundleError, match=words):
        gru_optuna.load_bundle(tmp_path / "bundle")


def test_sums_name_files_of_a_bundle_only(sentences: Model, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    sentences.bundle.save(folder)
    (tmp_path / "outside").write_text("secret")
    sums = (folder / SUMS).read_text()
    (folder / SUMS).write_text(f"{'0' * 64}  ../outside\n{sums}")
    with pytest.raises(BundleError, match='outside" does not name a file of a bundle'):
        read_files(folder)


@pytest.mark.parametrize("name", ["model.onnx", "weights/1.safetensors", "notes/why.txt", "x.py"])
def test_a_file_that_is_none_of_the_bundles_is_refused(
    sentences: Model, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "bundle"
    sentences.bundle.save(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("from elsewhere")
    with pytest.raises(BundleError, match=f"{name}: not a file of this bundle. Remove it"):
        gru_optuna.load_bundle(folder)


def test_what_systems_leave_in_folders_is_overlooked(sentences: Model, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    sentences.bundle.save(folder)
    for name in (".DS_Store", "weights/._0.safetensors", "Thumbs.db", ".git/config"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("a system's")
    assert gru_optuna.load_bundle(folder).files.keys() == sentences.bundle.files.keys()


def test_the_library_is_not_needed_to_read_a_bundle() -> None:
    """Loading knows no pickle: nothing in the package does."""
    for path in (REPOSITORY / "gru_optuna" / "bundle").glob("*.py"):
        assert "import pickle" not in path.read_text()


class PandasLike:
    """What pandas' frames have that is read here: columns by name, each an array to numpy."""

    def __init__(self, **columns: np.ndarray) -> None:
        self.columns = list(columns)
        self._held = columns

    def __getitem__(self, name: str) -> np.ndarray:
        return self._held[name]


def test_frames_of_pandas_are_read(sentences: Model, traffic: Model) -> None:
    texts = np.array(["a delight", "dull"], dtype=object)
    frame = PandasLike(text=texts, label=np.array([np.nan, np.nan]))
    np.testing.assert_array_equal(
        sentences.bundle.predict_proba(frame), sentences.bundle.predict_proba(texts.tolist())
    )
    with pytest.raises(DataError, match='the given rows, row 1: column "text" is empty'):
        sentences.bundle.predict(PandasLike(text=np.array(["a delight", np.nan], dtype=object)))
    hours = pl.read_csv(DATA / "traffic_hourly.csv", infer_schema_length=None)[-2000:]
    times = hours["datetime"].str.to_datetime().to_numpy().astype("datetime64[ns]")
    volumes = hours["traffic_volume"].to_numpy()
    predictions = traffic.bundle.predict(PandasLike(datetime=times, traffic_volume=volumes))
    assert (
        predictions["prediction"].to_list() == traffic.bundle.predict(hours)["prediction"].to_list()
    )
