"""A workspace from nothing: what is in it, what it drafts, and that it leaves nothing half-made."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.workspaces import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import gru_optuna
from gru_optuna import study_file
from gru_optuna.cli import app
from gru_optuna.data.load import load_dataset, load_folds
from gru_optuna.errors import DataError, UserError
from gru_optuna.formatting import visible
from gru_optuna.inspection.roles import Roles
from gru_optuna.scaffold import new_workspace
from gru_optuna.scaffold.draft import draft_study
from gru_optuna.scaffold.new_workspace import make_workspace
from gru_optuna.search.default_sizes import choose_default_sizes

if TYPE_CHECKING:
    from typing import Any

DATA = REPOSITORY / "studies" / "data"


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


ROOMS = {
    f"{room}/{name}"
    for room in ("studies", "storage", "dashboards")
    for name in ("README.md", ".gitignore")
} | {"studies/study.schema.json", "dashboards/optuna-dashboard.toml"}


def drafted(path: Path, task: Any = None) -> dict[str, Any]:
    """A draft's content, after a look that it is a study file."""
    text = draft_study(path, task).toml
    content = tomllib.loads(text)
    study_file.parse(content, source="draft")
    return content


def reviews(folder: Path, lines: list[str], header: str = "label,review") -> Path:
    path = folder / "reviews.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


# --- drafts ---


def test_a_draft_for_sentences() -> None:
    content = drafted(DATA / "movie_snippets.csv")
    assert content["task"] == "classification"
    assert content["metric"] == "accuracy"
    data = content["data"]
    assert (data["train"], data["text"], data["label"]) == (
        "data/movie_snippets.csv", "text", "label",
    )  # fmt: skip
    assert (data["tokenizer"], data["max_tokens"], data["test"]) == ("word", 48, 0.2)
    search = content["search"]
    assert search["embedding_initializer"] == ["uniform", "ppmi"]
    assert search["label_smoothing"] == [0.0, 0.1]
    assert search["word_dropout"] == {"low": 0.0, "high": 0.3}
    assert content["budget"] == {"trials": 30}


def test_a_draft_for_a_series() -> None:
    content = drafted(DATA / "traffic_hourly.csv", "forecasting")
    data = content["data"]
    assert (content["task"], content["metric"]) == ("forecasting", "mae")
    assert (data["time"], data["target"]) == ("datetime", "traffic_volume")
    assert (data["horizon"], data["season"], data["test"]) == (24, 168, 3504)
    assert data["window"] >= 48
    assert "covariates" not in data
    text = draft_study(DATA / "traffic_hourly.csv").toml
    assert '# covariates = ["clouds_all", "rain_1h", "temp", "weather_main"]' in text


def test_a_draft_for_recordings_finds_the_test_beside() -> None:
    data = drafted(DATA / "japanese_vowels_train.ts")["data"]
    assert data["train"] == "data/japanese_vowels_train.ts"
    assert data["test"] == "data/japanese_vowels_test.ts"


def test_a_draft_for_recordings_with_numbers(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n * n % 7},1:{n / 3}\n" for n in range(60))
    for name in ("Fat_TRAIN.ts", "Fat_TEST.ts"):
        (tmp_path / name).write_text(f"@targetLabel true\n@data\n{rows}", encoding="utf-8")
    content = drafted(tmp_path / "Fat_TRAIN.ts")
    assert (content["task"], content["metric"]) == ("regression", "rmse")
    assert content["data"]["test"] == "data/Fat_TEST.ts"


def test_a_draft_for_an_array_file_with_test_rows(tmp_path: Path) -> None:
    rows, classes = np.random.default_rng(0).normal(size=(80, 5, 2)), np.arange(80) % 2
    path = tmp_path / "digits.npz"
    np.savez(path, x_train=rows, y_train=classes, x_test=rows[:30] + 9, y_test=classes[:30])
    made = make_workspace(tmp_path / "ws", path)
    spec = study_file.load(made.study)
    assert (spec.task, spec.data.test) == ("classification", "data/digits.npz")
    dataset = load_dataset(spec, made.study.parent)
    assert dataset.test is not None
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (64, 16, 30)


@pytest.mark.parametrize(
    ("name", "answer"),
    [("x.tsf", "the format of the Monash archive"), ("x.arff", "Weka's format")],
)
def test_other_formats_are_recognised(tmp_path: Path, name: str, answer: str) -> None:
    (tmp_path / name).write_text("@relation x\n@data\n")
    with pytest.raises(DataError, match=answer):
        draft_study(tmp_path / name)


def test_a_test_file_without_labels_is_no_test_file(tmp_path: Path) -> None:
    lines = [f"some words of text number {n},{'ab'[n % 2]}" for n in range(60)]
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text("\n".join(["text,label", *lines]))
    test.write_text("text\nno label here\n")
    assert drafted(train)["data"]["test"] == 0.2
    test.write_text("text,label\nhere is one,a\n")
    assert drafted(train)["data"]["test"] == "data/test.csv"


@pytest.mark.parametrize(
    ("sentence", "tokenizer"),
    [
        ("这家店的第{}个菜好吃", "char"),
        ("这家店的第{}个菜" * 20, "bpe"),
        ("a fine dish no {}", "word"),
    ],
)
def test_the_tokenizer_suits_the_script(tmp_path: Path, sentence: str, tokenizer: str) -> None:
    lines = [f"{n % 2},{sentence.replace('{}', str(n))}" for n in range(100)]
    data = drafted(reviews(tmp_path, lines))["data"]
    assert (data["tokenizer"], data["text"], data["label"]) == (tokenizer, "review", "label")


@pytest.mark.parametrize(
    ("classes", "metric"),
    [("ab", "accuracy"), ("aaaab", "balanced_accuracy"), ("aaaaabc", "macro_f1")],
)
def test_the_metric_suits_the_balance(tmp_path: Path, classes: str, metric: str) -> None:
    lines = [f"{classes[n % len(classes)]},some words of text number {n}" for n in range(210)]
    content = drafted(reviews(tmp_path, lines))
    assert content["metric"] == metric
    assert ("class_weights" in content["data"]) == (metric != "accuracy")


def test_texts_with_a_number_are_regressed(tmp_path: Path) -> None:
    lines = [f"{n / 7},some words of text number {n}" for n in range(60)]
    content = drafted(reviews(tmp_path, lines, "price,review"))
    assert (content["task"], content["metric"]) == ("regression", "rmse")
    assert content["data"]["target"] == "price"
    assert "label_smoothing" not in content["search"]


def test_long_form_names_its_columns(tmp_path: Path) -> None:
    lines = [
        f"{walk},{step},{walk * step / 7},{'ab'[walk % 2]}"
        for walk in range(30)
        for step in range(5)
    ]
    data = drafted(reviews(tmp_path, lines, "walk_id,step,x,label"))["data"]
    assert (data["id"], data["time"], data["features"], data["label"]) == (
        "walk_id", "step", ["x"], "label",
    )  # fmt: skip


def test_columns_with_any_name_are_quoted(tmp_path: Path) -> None:
    name = 'say "text" \\ 文本'
    lines = [f"{'ab'[n % 2]},some words of text number {n}" for n in range(60)]
    header = '"label, really","say ""text"" \\ 文本"'
    data = drafted(reviews(tmp_path, lines, header))["data"]
    assert (data["text"], data["label"]) == (name, "label, really")


def test_names_in_a_draft_end_no_comment(tmp_path: Path) -> None:
    column = "te\x1b[2Jxt\u202e\x7f"
    path = tmp_path / "x\nseed = 7777 #\r.csv"
    rows = "".join(
        f"a {word} film with number {n},{word}\n" for n in range(80) for word in ("good", "bad")
    )
    path.write_text(f'"{column}",label\n{rows}')
    drafted = draft_study(path)
    content = tomllib.loads(drafted.toml)
    assert content["data"]["text"] == column
    assert content["data"]["train"] == f"data/{path.name}"
    assert (content["seed"], content["budget"]["trials"]) == (0, 30)
    assert visible(drafted.toml) == drafted.toml


def test_several_series_are_split_by_fractions(tmp_path: Path) -> None:
    start = datetime(2024, 1, 1)
    lines = [
        f"{start + timedelta(days=day)},{shop},{day / 3},{day % 2}"
        for shop in ("north", "south")
        for day in range(300)
    ]
    data = drafted(reviews(tmp_path, lines, "date,shop,sales,holiday"))["data"]
    assert (data["series"], data["test"], data["validation"]) == ("shop", 0.2, 0.1)
    assert data["known"] == ["holiday"]
    assert "covariates" not in data
    assert (data["horizon"], data["season"]) == (7, 7)


def test_roles_that_are_given_stand_in_the_draft(tmp_path: Path) -> None:
    start = datetime(2024, 1, 1)
    lines = [
        f"{start + timedelta(days=n)},{n % 5},{n % 3}.5,{n % 2},{n % 7}.25" for n in range(300)
    ]
    path = reviews(tmp_path, lines, "when,a,b,c,d")
    arguments = [
        "init", str(tmp_path / "ws"), "--data", str(path), "--time", "when", "--target", "d",
        "--covariates", "a", "--covariates", "b", "--known", "c", "--horizon", "5", "--season", "3",
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    data = study_file.load(tmp_path / "ws" / "studies" / "reviews.toml").data
    assert (data.time, data.target, data.covariates, data.known, data.horizon, data.season) == (
        "when", "d", ["a", "b"], ["c"], 5, 3,
    )  # fmt: skip


def test_rows_of_a_group_stay_together_if_their_column_is_given(tmp_path: Path) -> None:
    lines = [f"{'ab'[n % 2]},some words of text number {n},{n % 30}" for n in range(120)]
    path = reviews(tmp_path, lines, "label,review,writer")
    assert "group" not in tomllib.loads(draft_study(path).toml)["data"]
    draft = draft_study(path, roles=Roles(group="writer"))
    assert tomllib.loads(draft.toml)["data"]["group"] == "writer"


WITH_LABELS = [f"{'ab'[n % 2]},words of text {n}" for n in range(60)]


@pytest.mark.parametrize(
    ("lines", "header", "answer"),
    [
        (["1,2", "2,3", "3,1"] * 9, "a,b", "neither texts, nor sequences, nor a series in time"),
        ([f"a,words of text {n}" for n in range(60)], "label,text", 'only one class in "label"'),
        ([*WITH_LABELS, "c,just one"], "label,text", "1 class has fewer than 10 rows"),
        ([*WITH_LABELS, ",some words"], "label,text", '1 row has no "label", the first at'),
        ([*WITH_LABELS, "a,"], "label,text", '1 row has no "text", the first at'),
        (["2024-01-01,1.5", "2024-01-02,2.5"] * 30, "date,y", "repeat an earlier time"),
        (["2024-01-03,1.5", "2024-01-02,2.5", "2024-01-04,9"], "date,y", "earlier than the row"),
        (["2024-01-01,1.5", "2024-01-02,2.5", "2024-01-04,9"], "date,y", "3 steps are too few"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_with_its_place(
    tmp_path: Path, lines: list[str], header: str, answer: str
) -> None:
    path = reviews(tmp_path, lines, header)
    with pytest.raises(DataError) as caught:
        draft_study(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert answer in str(caught.value)


def test_a_task_that_the_data_cannot_have_is_refused() -> None:
    with pytest.raises(DataError, match="no data for forecasting"):
        draft_study(DATA / "movie_snippets.csv", "forecasting")
    with pytest.raises(DataError, match="that is classification, not forecasting"):
        draft_study(DATA / "japanese_vowels_train.ts", "forecasting")


def test_more_data_means_smaller_networks_and_fewer_epochs() -> None:
    efforts = [
        choose_default_sizes("texts", rows, steps=40, channels=None)
        for rows in (200, 7_000, 40_000, 1_000_000)
    ]
    assert [max(effort.sizes) for effort in efforts] == [128, 64, 16, 16]
    assert (efforts[0].epochs, efforts[0].patience) == (15, 4)
    assert all(effort.epochs >= 4 for effort in efforts)
    assert all(effort.minutes < 5 for effort in efforts[:3])


@settings(max_examples=12)
@given(common=st.integers(12, 160), rare=st.integers(5, 40))
def test_few_rows_are_validated_in_folds_and_all_classes_are_in_each(
    tmp_path_factory: pytest.TempPathFactory, common: int, rare: int
) -> None:
    kinds = ["common"] * common + ["rare"] * rare
    path = reviews(
        tmp_path_factory.mktemp("few"),
        [f"{kind},word{n} and word{n % 7} are here" for n, kind in enumerate(kinds)],
    )
    data = study_file.parse(tomllib.loads(draft_study(path).toml), "x").data  # it is checked
    if data.folds is None:
        assert 0.8 * 0.2 * len(kinds) >= 30 or 0.8 * min(common, rare) < 4
    else:
        assert 3 <= data.folds <= min(5, 0.8 * min(common, rare) + 1)


def test_small_data_trains_long_and_patiently() -> None:
    """As the best epochs of sequences and windows are late, and an epoch of few rows is cheap."""
    sequences = choose_default_sizes("sequences", 200, steps=40, channels=2)
    windows = choose_default_sizes("windows", 200, steps=40, channels=2)
    assert (sequences.epochs, sequences.patience) == (150, 40)
    assert (windows.epochs, windows.patience) == (80, 15)
    large = choose_default_sizes("sequences", 20_000, steps=100, channels=2)
    assert large.epochs < 40
    assert 3 <= large.patience <= large.epochs / 3


# --- what stands in the way ---


def series_rows(steps: int, step: timedelta, season: int = 7, name: str = "") -> list[str]:
    start = datetime(2020, 1, 1)
    values = [10 + n % season + n * 37 % 11 / 10 for n in range(steps)]
    return [f"{start + step * n}{name},{value:.2f}" for n, value in enumerate(values)]


@settings(max_examples=15)
@given(steps=st.integers(8, 120), days=st.sampled_from([1, 7]), season=st.integers(2, 12))
def test_a_draft_for_a_short_series_trains(
    tmp_path_factory: pytest.TempPathFactory, steps: int, days: int, season: int
) -> None:
    rows = series_rows(steps, timedelta(days=days), season)
    path = reviews(tmp_path_factory.mktemp("short"), rows, "time,y")
    draft = draft_study(path)
    content = tomllib.loads(draft.toml)
    content["data"]["train"] = str(path)
    folds = load_folds(study_file.parse(content, source="draft"), path.parent)
    assert folds[0].test is not None
    assert draft.sizes is not None
    validation = sum(len(fold.validation) for fold in folds)
    assert (len(folds[0].train), validation, len(folds[0].test)) == (
        draft.sizes.training, draft.sizes.validation, draft.sizes.test,
    )  # fmt: skip


def test_one_short_series_among_long_ones_gets_a_shorter_horizon(tmp_path: Path) -> None:
    rows = series_rows(300, timedelta(days=1), name=",a")
    path = reviews(tmp_path, [*rows, *series_rows(25, timedelta(days=1), name=",b")], "time,s,y")
    draft = draft_study(path)
    assert draft.inspection.guess.roles.series == "s"
    assert tomllib.loads(draft.toml)["data"]["horizon"] < 7
    path = reviews(tmp_path, [*rows, *series_rows(3, timedelta(days=1), name=",b")], "time,s,y")
    with pytest.raises(DataError, match=r'series "b".* Or leave the series out\.'):
        draft_study(path)


def test_more_is_kept_for_validation_before_a_horizon_becomes_a_single_step(
    tmp_path: Path,
) -> None:
    rows = series_rows(155, timedelta(days=30), name=",a")
    path = reviews(tmp_path, [*rows, *series_rows(30, timedelta(days=30), name=",b")], "time,s,y")
    drafted = tomllib.loads(draft_study(path).toml)["data"]
    assert (drafted["horizon"], drafted["validation"]) == (3, 0.2)


def test_what_tune_refuses_is_refused_by_init_in_the_same_words(tmp_path: Path) -> None:
    start, shifts = datetime(2024, 1, 1), [0, 3, 1, 7, 2, 11, 5]
    times = [start + timedelta(hours=n, minutes=shifts[n % 7]) for n in range(300)]
    path = reviews(tmp_path, [f"{time},{n % 9}.5" for n, time in enumerate(times)], "time,y")
    with pytest.raises(DataError) as refused:
        draft_study(path)
    spec = study_file.parse(
        {
            "name": "x",
            "task": "forecasting",
            "data": {"train": path.name, "time": "time", "target": "y", "horizon": 3},
        },
        source="x",
    )
    with pytest.raises(DataError) as by_tune:
        load_dataset(spec, tmp_path)
    assert str(refused.value) == str(by_tune.value)


def test_small_parts_are_said_to_be_small(tmp_path: Path) -> None:
    few = make_workspace(tmp_path / "a", reviews(tmp_path, WITH_LABELS, "label,text"))
    assert few.sizes == "38 rows for training, 48 for validation in 5 folds, 12 for the test"
    assert [finding.message for finding in few.findings if finding.about == "few"] == [
        "the test part has 12 rows, so its values are mostly chance: add rows"
    ]
    months = [f"{2000 + n // 12}-{n % 12 + 1:02},{n % 12}.5" for n in range(72)]
    few = make_workspace(tmp_path / "b", reviews(tmp_path, months, "month,y"))
    (message, _) = (finding.message for finding in few.findings if finding.about == "few")
    assert message.startswith("the validation part has ")
    assert "windows, which overlap in" in message
    many = make_workspace(tmp_path / "c", DATA / "traffic_hourly.csv")
    assert not [finding for finding in many.findings if finding.about == "few"]


def test_a_column_without_a_name_can_be_the_time(tmp_path: Path) -> None:
    made = make_workspace(
        tmp_path / "ws", reviews(tmp_path, series_rows(200, timedelta(days=1)), ",y")
    )
    assert study_file.load(made.study).data.time == ""


# --- seasons ---


@pytest.mark.parametrize(
    ("minutes", "period", "season"),
    [
        (15, 96, 96),  # a day, though the last hour is closer to the next step
        (60, 24, 24), (60, 168, 168), (1440, 7, 7),
        (1440, 30, 30),  # no cycle of the calendar
    ],
)  # fmt: skip
def test_the_season_that_leaves_the_smallest_error_is_drafted(
    tmp_path: Path, minutes: int, period: int, season: int
) -> None:
    generator = np.random.default_rng(0)
    steps = np.arange(8 * period)
    values = 5 * np.sin(2 * np.pi * steps / period) + generator.normal(size=len(steps))
    values += generator.normal(size=period)[steps % period]  # its own shape
    times = [datetime(2024, 1, 1) + timedelta(minutes=minutes * int(n)) for n in steps]
    rows = [f"{time},{value:.3f}" for time, value in zip(times, values, strict=True)]
    data = tomllib.loads(draft_study(reviews(tmp_path, rows, "time,y")).toml)["data"]
    assert data["season"] == season


def test_of_seasons_that_err_alike_the_shorter_is_drafted(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    times = [datetime(2024, 1, 1) + timedelta(hours=n) for n in range(24 * 7 * 5)]
    rows = [f"{time},{np.sin(time.hour / 4) + generator.normal() / 9:.3f}" for time in times]
    draft = draft_study(reviews(tmp_path, rows, "time,y"))
    assert tomllib.loads(draft.toml)["data"]["season"] == 24


def test_years_have_the_cycle_that_their_values_show(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    values = [50 + 40 * np.sin(2 * np.pi * n / 11) + generator.normal() for n in range(200)]
    rows = [f"{1800 + n},{value:.2f}" for n, value in enumerate(values)]
    path = reviews(tmp_path, rows, "year,sunspots")
    draft = draft_study(path)
    data = tomllib.loads(draft.toml)["data"]
    assert (data["season"], data["horizon"]) == (11, 3)
    clock = draft.inspection.files[0].clock
    assert clock is not None
    assert clock.cycle is not None
    assert clock.cycle.name == "about 11 years"


def test_noise_has_no_season(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    times = [datetime(2024, 1, 1) + timedelta(days=n) for n in range(400)]
    rows = [f"{time},{generator.normal():.3f}" for time in times]
    draft = draft_study(reviews(tmp_path, rows, "time,y"))
    assert tomllib.loads(draft.toml)["data"]["season"] == 1
    assert "no season was found" in draft.toml


# --- workspaces ---


def test_a_workspace_for_data(tmp_path: Path) -> None:
    made = make_workspace(tmp_path / "ws", DATA / "movie_snippets.csv")
    assert files_of(tmp_path / "ws") == ROOMS | {
        "studies/movie_snippets.toml",
        "studies/data/movie_snippets.csv",
    }
    assert made.study == tmp_path / "ws" / "studies" / "movie_snippets.toml"
    assert study_file.load(made.study).data.train == "data/movie_snippets.csv"
    copy = tmp_path / "ws" / "studies" / "data" / "movie_snippets.csv"
    assert copy.read_bytes() == (DATA / "movie_snippets.csv").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["ws"]


def test_without_data_there_is_the_demo(tmp_path: Path) -> None:
    made = make_workspace(tmp_path / "ws")
    assert files_of(tmp_path / "ws") == ROOMS | {
        "studies/japanese-vowels.toml",
        "studies/data/README.md",
        "studies/data/japanese_vowels_test.ts",
        "studies/data/japanese_vowels_train.ts",
    }
    study_file.load(made.study)


def test_an_empty_folder_is_filled_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    made = make_workspace(Path())
    assert made.study == Path("studies/japanese-vowels.toml")
    assert made.study.is_file()
    assert tmp_path.stat().st_ino == before


def test_git_keeps_what_people_wrote_and_nothing_generated(tmp_path: Path) -> None:
    folder = tmp_path / "ws"
    make_workspace(folder)
    (folder / "storage" / "gru_optuna.db").write_bytes(b"")
    (folder / "dashboards" / "x").mkdir()
    (folder / "dashboards" / "x" / "index.html").write_bytes(b"")
    git = shutil.which("git")
    assert git is not None
    subprocess.run([git, "init", "--quiet", str(folder)], check=True)
    subprocess.run([git, "-C", str(folder), "add", "."], check=True)
    listed = subprocess.run(
        [git, "-C", str(folder), "ls-files"], check=True, capture_output=True, text=True
    ).stdout.split()
    assert set(listed) >= ROOMS
    assert not {"storage/gru_optuna.db", "dashboards/x/index.html"} & set(listed)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("full", "the folder is not empty (notes.txt). Name a new or an empty one."),
        ("full/notes.txt", "is a file. Name a folder."),
    ],
)
def test_a_folder_that_cannot_be_used_is_left_alone(tmp_path: Path, name: str, answer: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(UserError) as caught:
        make_workspace(tmp_path / name)
    assert answer in str(caught.value)
    assert files_of(tmp_path) == {"full/notes.txt"}


def test_parent_folders_are_made_and_removed_again_if_the_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        make_workspace(tmp_path / "new" / "er" / "ws", tmp_path / "none.csv")
    assert list(tmp_path.iterdir()) == []
    made = make_workspace(tmp_path / "new" / "er" / "ws")
    assert made.study.is_file()


def test_nothing_stays_of_a_workspace_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    with pytest.raises(DataError):
        make_workspace(tmp_path / "ws", tmp_path / "none.csv")
    monkeypatch.setattr(new_workspace.shutil, "copyfile", disk_full)
    with pytest.raises(UserError, match="No space left on device"):
        make_workspace(tmp_path / "ws", DATA / "movie_snippets.csv")
    assert list(tmp_path.iterdir()) == []


# --- the command ---


def test_the_command_says_what_was_made_and_what_is_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["init", "my ws", "--data", str(DATA / "traffic_hourly.csv")]
    result = CliRunner().invoke(app, [*command, "--task", "forecasting"])
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        'my ws/studies/traffic_hourly.toml: forecasting: "datetime" holds times, "traffic_volume" '
        "a number for each\n"
        "target: traffic_volume (also possible: clouds_all, rain_1h, temp)\n"
        "2,309 windows for training, 346 for validation, 3,481 for the test\n"
    )
    assert result.stderr.splitlines() == [
        '! column "snow_1h" has a single value, so nothing can be learned from it',
        "next    cd 'my ws' && gru-optuna tune studies/traffic_hourly.toml",
    ]
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 2
    assert again.stderr.startswith("my ws: the folder is not empty (dashboards and 2 more).")


# --- from data to a report ---


@pytest.mark.parametrize(
    "data", ["japanese_vowels_train.ts", "movie_snippets.csv", "traffic_hourly.csv"]
)
def test_a_drafted_study_runs_as_it_is(tmp_path: Path, data: str) -> None:
    made = make_workspace(tmp_path / "ws", DATA / data)
    result = gru_optuna.tune(
        made.study,
        trials=1,
        storage=f"sqlite:///{tmp_path}/study.db",
        overrides=["training.epochs=1", "confirmation.seeds=1"],
        report=tmp_path / "report",
    )
    assert result.best is not None
    assert result.best.test is not None
