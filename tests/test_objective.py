"""A GRU in a plain Optuna study: what README shows, and what users of Optuna expect."""

from __future__ import annotations

import multiprocessing
import pickle
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
import pandas as pd
import polars as pl
import pytest
import torch
from helpers.workspaces import PLAIN, REPOSITORY, Workspace
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from gru_optuna import GRUObjective, load_bundle, seeds
from gru_optuna.data.readers.sequence_files import read_sequences
from gru_optuna.errors import Crashed, DataError, StudyError, StudyFileError
from gru_optuna.search import space
from gru_optuna.study_file.searchable import Range
from gru_optuna.training.pool import Pool
from gru_optuna.training.reference import Trainer

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

SPACE: dict[str, Any] = {
    "hidden_size": 8,
    "learning_rate": {"low": 1e-3, "high": 3e-2, "log": True},
    "optimizer": "adam",
    "decay": "constant",
    "clip_norm": 1.0,
    "initializer": "orthogonal",
    "l1": 0,
    "l2": 0,
    "dropout": FloatDistribution(0.0, 0.4),
    "batch_size": 64,
}


@pytest.fixture(scope="module")
def vowels() -> tuple[list[NDArray[np.float64]], list[str]]:
    """Nine speakers: arrays (T, 12) of 7 to 29 steps, and their labels."""
    read = read_sequences(REPOSITORY / "studies" / "data" / "japanese_vowels_train.ts")
    return read.values, read.labels


@pytest.fixture(scope="module")
def objective(vowels: tuple[list[NDArray[np.float64]], list[str]]) -> GRUObjective:
    return GRUObjective(vowels, SPACE, epochs=3)


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_the_lines_of_the_documentation_run(
    vowels: tuple[list[NDArray[np.float64]], list[str]],
) -> None:
    page = (REPOSITORY / "docs" / "python.md").read_text()
    (lines,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        if "GRUObjective" in block
    ]
    found: dict[str, Any] = {"X": vowels[0], "y": vowels[1]}
    exec(lines.replace("n_trials=20", "n_trials=2"), found)  # noqa: S102 (our own page)
    assert found["study"].best_value < np.log(9)


def test_a_trial_is_what_the_reference_computes(objective: GRUObjective) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    study.optimize(objective, n_trials=1)
    (data,) = objective.datasets
    for trial in study.trials:
        chosen = space.hyperparameters(trial.params, objective.spec)
        seed = seeds.trial_seed(objective.spec.seed, trial.number)
        reference = Trainer(objective.spec, data, chosen, seed)
        curve = [reference.train_epoch().value for _ in range(3)]
        assert list(trial.intermediate_values) == [1, 2, 3]
        assert list(trial.intermediate_values.values()) == pytest.approx(curve, rel=1e-3)
        assert trial.value == min(trial.intermediate_values.values())


def test_its_attributes_are_those_of_our_studies(objective: GRUObjective) -> None:
    study = optuna.create_study()
    study.optimize(objective, n_trials=1)
    attributes = study.trials[0].user_attrs
    assert set(attributes) == {
        "best_epoch", "best_validation_loss", "train_loss", "validation_loss",
        "clipped", "network_parameters", "seconds", "epochs", "outcome",
    }  # fmt: skip
    assert attributes["outcome"] == "trained all 3 epochs"


def test_threads_processes_and_a_second_look_find_the_same(
    objective: GRUObjective, tmp_path: Path
) -> None:
    sampler = optuna.samplers.RandomSampler
    alone = optuna.create_study(sampler=sampler(0))
    alone.optimize(objective, n_trials=6)
    params = [trial.params for trial in alone.trials]

    threads = optuna.create_study()
    for values_of_trial in params:
        threads.enqueue_trial(values_of_trial)
    threads.optimize(objective, n_trials=6, n_jobs=3)
    assert values(threads) == values(alone)

    url = f"sqlite:///{tmp_path}/plain.db"
    several = optuna.create_study(study_name="several", storage=url)
    for values_of_trial in params:
        several.enqueue_trial(values_of_trial)
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=work, args=(pickle.dumps(objective), url))
    process.start()
    several.optimize(objective, n_trials=3)
    process.join()
    assert process.exitcode == 0
    assert sorted(values(several)) == sorted(values(alone))

    assert objective(alone.best_trial) == alone.best_value
    fixed = optuna.trial.FixedTrial(params[0], number=0)
    assert objective(fixed) == alone.trials[0].value  # type: ignore[arg-type]


def work(objective: bytes, url: str) -> None:
    """Another process on the same storage."""
    torch.set_num_threads(1)
    study = optuna.load_study(study_name="several", storage=url)
    study.optimize(pickle.loads(objective), n_trials=3)  # noqa: S301 (our own)


def values(study: optuna.Study) -> list[tuple[tuple[tuple[str, Any], ...], float | None]]:
    return [(tuple(sorted(trial.params.items())), trial.value) for trial in study.trials]


def test_a_pruned_trial_ends_where_the_pruner_says(objective: GRUObjective) -> None:
    class After2(optuna.pruners.BasePruner):
        def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
            return trial.last_step == 2

    study = optuna.create_study(pruner=After2())
    study.optimize(objective, n_trials=1)
    (trial,) = study.trials
    assert trial.state == TrialState.PRUNED
    assert list(trial.intermediate_values) == [1, 2]
    assert trial.user_attrs["outcome"] == "pruned after epoch 2"


def test_a_diverged_trial_fails_and_the_study_goes_on(
    vowels: tuple[list[NDArray[np.float64]], list[str]],
) -> None:
    wild = GRUObjective(vowels, SPACE | {"learning_rate": [1e30], "clip_norm": "off"}, epochs=2)
    study = optuna.create_study()
    study.optimize(wild, n_trials=2)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 2
    assert study.trials[0].user_attrs["outcome"].startswith("diverged in epoch 1")


def test_anything_else_is_raised(objective: GRUObjective, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("of the engine")

    study = optuna.create_study()
    with monkeypatch.context() as patched:
        patched.setattr(Pool, "_measure", fails)
        with pytest.raises(Crashed, match="epoch 1 raised ZeroDivisionError: of the engine"):
            study.optimize(objective, n_trials=1)
        study.optimize(objective, n_trials=1, catch=Crashed)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL] * 2


def test_a_study_that_goes_the_other_way_is_refused(objective: GRUObjective) -> None:
    study = optuna.create_study(direction="maximize")
    with pytest.raises(StudyError, match=r'log_loss has to be minimized.*direction="minimize"'):
        study.optimize(objective, n_trials=1)


def test_the_best_trial_can_be_taken_away(objective: GRUObjective, tmp_path: Path) -> None:
    study = optuna.create_study()
    study.optimize(objective, n_trials=1)
    bundle = objective.bundle(study.best_trial)
    assert bundle.manifest.members[0].validation == study.best_value
    bundle.save(tmp_path / "bundle")
    rows = [np.ones((9, 12)), np.zeros((4, 12))]
    assert (load_bundle(tmp_path / "bundle").predict(rows) == bundle.predict(rows)).all()
    with pytest.raises(StudyError, match="trial -1 is not a complete trial"):
        objective.bundle(optuna.trial.create_trial(state=TrialState.PRUNED, value=1.0))


# --- the data ---


def fits(objective: GRUObjective) -> None:
    study = optuna.create_study(direction=objective.direction)
    study.optimize(objective, n_trials=1)
    assert np.isfinite(study.best_value)


def test_a_study_file_brings_its_settings(workspace: Workspace) -> None:
    path = workspace.folder / "studies" / "tiny.toml"
    objective = GRUObjective(path, {"dropout": 0.1}, seed=3)
    assert (objective.direction, objective.spec.training.epochs) == ("maximize", 3)
    assert (objective.spec.search.dropout, objective.spec.seed) == (0.1, 3)
    fits(objective)
    assert GRUObjective(path, metric="log_loss").direction == "minimize"


def test_a_vocabulary_is_one_size() -> None:
    rows = pl.read_csv(REPOSITORY / "studies" / "data" / "movie_snippets.csv").head(300)
    texts, labels = rows["text"].to_list(), rows["label"].to_list()
    fixed = SPACE | {"embedding_size": 8, "batch_size": 64}
    with pytest.raises(StudyFileError, match=r"vocabulary = \[40, 200\]: one study reads one voc"):
        GRUObjective((texts, labels), fixed | {"vocabulary": [40, 200]}, epochs=1)
    objective = GRUObjective((texts, labels), fixed | {"vocabulary": 40}, epochs=1)
    study = optuna.create_study(direction=objective.direction)
    study.optimize(objective, n_trials=1)
    bundle = objective.bundle(study.best_trial)
    assert bundle.hyperparameters.vocabulary == bundle.networks[0].network.vocabulary == 40
    outputs = bundle.networks[0].outputs(objective.datasets[0].validation)
    known = {row.tobytes() for row in bundle.predict_proba(texts)}
    near = np.array([np.frombuffer(row) for row in known])
    assert len(known) > 100
    for share in torch.softmax(outputs.double(), 1).numpy():
        assert np.abs(near - share).sum(1).min() < 1e-12


def test_texts_frames_files_and_arrays_are_read(
    tmp_path: Path, vowels: tuple[list[NDArray[np.float64]], list[str]]
) -> None:
    rows = pl.read_csv(REPOSITORY / "studies" / "data" / "movie_snippets.csv").head(200)
    small = SPACE | {"embedding_size": 8, "batch_size": 64}
    texts, labels = rows["text"].to_list(), rows["label"].to_list()
    options: dict[str, Any] = {"epochs": 1, "space": small}
    of_lists = GRUObjective((texts, labels), **options)
    of_frame = GRUObjective(rows, text="text", label="label", **options)
    rows.write_csv(tmp_path / "rows.csv")
    of_pandas = GRUObjective(
        pd.DataFrame({"text": texts, "label": labels}), text="text", label="label", **options
    )
    of_file = GRUObjective(tmp_path / "rows.csv", text="text", label="label", **options)
    assert of_lists.spec.kind == of_frame.spec.kind == of_file.spec.kind == "texts"
    fingerprints = {
        objective.datasets[0].fingerprint for objective in (of_lists, of_frame, of_pandas, of_file)
    }
    assert len(fingerprints) == 1
    fits(of_lists)

    cube = np.stack([row[:7, 0] for row in vowels[0]])
    numbers = GRUObjective((cube, cube[:, -1]), SPACE, epochs=1, folds=2)
    assert (numbers.spec.task, numbers.spec.metric) == ("regression", "rmse")
    assert [data.channels for data in numbers.datasets] == [1, 1]
    fits(numbers)


def test_a_series_is_forecast() -> None:
    hours = pl.read_csv(REPOSITORY / "studies" / "data" / "traffic_hourly.csv").head(600)
    columns = {"time": "datetime", "target": "traffic_volume"}
    objective = GRUObjective(hours, SPACE, **columns, horizon=6, epochs=1)
    assert (objective.spec.task, objective.spec.metric) == ("forecasting", "mae")
    fits(objective)


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (([[1.0]], [0, 1]), r"X has 1 rows, but the targets have shape \(2,\)"),
        (([[1.0], [np.inf]], [0, 1]), "X, row 1: channel 0, step 0 is inf"),
        (([[1.0], []], [0, 1]), r"X, row 1: the array has shape \(0,\)"),
        (
            ([[[1.0]], [[1.0, 2.0]]], [0, 1]),
            "X, row 1: the row has 2 channels, but the first row has 1",
        ),
        (([["a"], [1.0]], [0, 1]), "X, row 0: not an array of numbers"),
        ((np.full((2, 3), 1j), [0, 1]), "X, row 0: not an array of numbers"),
        ((np.zeros((2, 3), "datetime64[D]"), [0, 1]), "X, row 0: not an array of numbers"),
        ((pl.DataFrame({"a": [1, 2], "t": ["x y", "z"]}), [0, 1]), 'X: column "t" holds String'),
        ((np.ones((2, 3)), np.ones((2, 2))), "y is multilabel-indicator"),
        ("nowhere.csv", "nowhere.csv: no such file"),
        (object(), "frame: not a frame. Give one of polars"),
    ],
)
def test_data_that_cannot_be_used_are_named(dataset: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        GRUObjective(dataset, text="text", label="label")


def test_mistakes_in_the_space_are_answered_as_in_a_study_file(
    vowels: tuple[list[NDArray[np.float64]], list[str]],
) -> None:
    with pytest.raises(StudyFileError, match=r'GRUObjective \[search\]: .*"dropuot". Did you mean'):
        GRUObjective(vowels, {"dropuot": 0.1})
    with pytest.raises(StudyFileError, match=r'GRUObjective \[data\]: unknown key "valdation"'):
        GRUObjective(vowels, valdation=0.3)


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ({"batch_size": (16, 32)}, [16, 32]),
        ({"batch_size": CategoricalDistribution([16, 32])}, [16, 32]),
        ({"batch_size": IntDistribution(16, 64)}, Range(low=16, high=64)),
        ({"batch_size": IntDistribution(16, 64, step=16)}, Range(low=16, high=64, step=16)),
        ({"l1": FloatDistribution(1e-6, 1e-3, log=True)}, Range(low=1e-6, high=1e-3, log=True)),
        ({"l1": FloatDistribution(0.0, 1.0, step=1.0)}, Range(low=0.0, high=1.0, step=1.0)),
        ({"l1": Range(low=0, high=1)}, Range(low=0.0, high=1.0)),
        ({"l1": PLAIN.l1}, 0.0),
    ],
)
def test_every_way_to_write_a_hyperparameter(
    vowels: tuple[list[NDArray[np.float64]], list[str]], given: dict[str, Any], held: object
) -> None:
    objective = GRUObjective((vowels[0][:60], vowels[1][:60]), given)
    (name,) = given
    assert getattr(objective.spec.search, name) == held


def test_importing_the_package_stays_quick_and_silent() -> None:
    import subprocess
    import sys

    code = (
        "import sys, gru_optuna\n"
        "assert not {'torch', 'optuna', 'sklearn'} & set(sys.modules)\n"
        "assert 'GRUObjective' in dir(gru_optuna)"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_target_is_refused_with_its_row() -> None:
    texts = [f"film {n}" for n in range(20)]
    with pytest.raises(DataError, match=r"y, row 3: the target is missing \(None\)"):
        GRUObjective((texts, ["a", "b", "a", None, *["a", "b"] * 8]), {})
