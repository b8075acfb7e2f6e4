"""Views: what each shows of a row, that rows stay strangers, and that forecasts come back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
import torch
from helpers.series_rows import daily, load, refusal, study, targets_of, write
from helpers.workspaces import PLAIN as TRIAL
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_optuna import study_file
from gru_optuna.data.load import load_dataset
from gru_optuna.data.sequences.scaler import SequenceEncoder, channels_with_gaps
from gru_optuna.data.series.encoder import SeriesEncoder
from gru_optuna.data.series.series import read_series
from gru_optuna.data.views import (
    View,
    differences_of,
    have_comparable_losses,
    patched,
    spectra,
    views_of,
)
from gru_optuna.hyperparameters import Normalization, Residual

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gru_optuna.data.dataset import Dataset

COMMON: dict[str, st.SearchStrategy[Any]] = {
    "differences": st.integers(0, 2),
    "patch": st.sampled_from([1, 2, 4, 8, 16]),
}
SEQUENCE_VIEWS = st.builds(
    View,
    normalize=st.sampled_from(get_args(Normalization)),
    spectrum=st.booleans(),
    **COMMON,
)
SERIES_VIEWS = st.builds(
    View,
    normalize=st.sampled_from(["channel", "row", "row_stats"]),
    residual=st.sampled_from(get_args(Residual)),
    log=st.booleans(),
    **COMMON,
)


def rows_of(seed: int, count: int, channels: int, gaps: bool = False) -> list[NDArray[np.float64]]:
    """Random walks of 1 to 40 steps at different levels, some of them constant."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        row = random.normal(size=(int(random.integers(1, 41)), channels)).cumsum(axis=0)
        row = random.normal() * 100 + row * (number % 5)
        if gaps:
            row[random.random(row.shape) < 0.3] = np.nan
        rows.append(row)
    return rows


def encoder_for(rows: list[NDArray[np.float64]], view: View) -> SequenceEncoder:
    gaps = channels_with_gaps(rows)
    return SequenceEncoder(rows[0].shape[1], view=view, gaps=gaps).fitted(rows)


def encode(encoder: SequenceEncoder, rows: list[NDArray[np.float64]]) -> list[torch.Tensor]:
    steps, lengths = encoder.encode(rows, lambda row: f"row {row}")
    return list(steps.split(lengths.tolist()))


# --- sequences ---


@given(seed=st.integers(0, 2**16), lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_differences_are_those_of_each_row_alone(seed: int, lengths: list[int]) -> None:
    random = np.random.default_rng(seed)
    rows = [random.normal(size=(length, 2)) for length in lengths]
    starts = np.cumsum(lengths) - lengths
    first, second = differences_of(np.concatenate(rows), starts, 2)
    for row, start in zip(rows, starts, strict=True):
        for found, order in ((first, 1), (second, 2)):
            expected = np.zeros_like(row)
            expected[order:] = np.diff(row, order, axis=0)
            np.testing.assert_array_equal(found[start : start + len(row)], expected)


@given(
    seed=st.integers(0, 2**16),
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    patch=st.integers(1, 5),
)
def test_a_patch_is_its_steps_side_by_side_and_the_last_ends_with_the_row(
    seed: int, lengths: list[int], patch: int
) -> None:
    random = np.random.default_rng(seed)
    rows = [random.normal(size=(length, 3)) for length in lengths]
    steps, counts = patched(np.concatenate(rows), np.array(lengths), patch)
    for row, found in zip(rows, np.split(steps, counts.cumsum()[:-1]), strict=True):
        padded = np.concatenate([np.zeros((-len(row) % patch, 3)), row])
        np.testing.assert_array_equal(found, padded.reshape(-1, patch * 3))


@given(
    seed=st.integers(0, 2**16),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    patch=st.integers(1, 5),
)
def test_a_spectrum_is_that_of_the_four_patches_around_a_patch(
    seed: int, lengths: list[int], patch: int
) -> None:
    random = np.random.default_rng(seed)
    rows = [random.normal(size=(length, 2)) for length in lengths]
    view = View(patch=patch, spectrum=True)
    found = iter(spectra(np.concatenate(rows), np.array(lengths), view))
    window = np.hanning(4 * patch + 2)[1:-1, None]
    for row in rows:
        count = -(-len(row) // patch)
        around = np.zeros((4 * patch + count * patch, 2))
        begin = 3 * patch // 2 + count * patch - len(row)
        around[begin : begin + len(row)] = row
        for start in range(0, count * patch, patch):
            waves = np.fft.rfft(around[start : start + 4 * patch] * window, axis=0)
            expected = np.log(np.abs(waves) / np.sqrt(4 * patch) + 1e-3)
            np.testing.assert_allclose(next(found), expected.T.ravel(), rtol=1e-9)


def test_a_spectrum_forgets_when_a_period_began_and_knows_its_length() -> None:
    encoder = SequenceEncoder(1, view=View(normalize="none", patch=4, spectrum=True))
    rows = [
        np.sin(2 * np.pi * (np.arange(64) + shift) / period)[:, None]
        for period, shift in ((8, 0), (8, 3), (4, 0))
    ]
    one, shifted, faster = (row[2:-2] for row in encode(encoder, rows))  # whole stretches
    strong = slice(1, 4)  # the others are what the window's ends let through
    torch.testing.assert_close(one[:, strong], shifted[:, strong], rtol=0, atol=0.1)
    # Of 16 steps, two and four periods.
    assert one.argmax(1).tolist() == [2] * len(one)
    assert faster.argmax(1).tolist() == [4] * len(faster)


@settings(max_examples=60)
@given(view=SEQUENCE_VIEWS, seed=st.integers(0, 2**16), gaps=st.booleans())
def test_a_row_is_encoded_alike_alone_and_among_others(view: View, seed: int, gaps: bool) -> None:
    rows = rows_of(seed, 7, 2, gaps)
    encoder = encoder_for(rows, view)
    together = encode(encoder, rows)
    for row, expected in zip(rows, together, strict=True):
        (alone,) = encode(encoder, [row])
        assert alone.equal(expected)
        assert alone.shape == (-(-len(row) // view.patch), encoder.inputs)
        assert alone.isfinite().all()
    again = SequenceEncoder.from_json(encoder.as_json())
    assert all(one.equal(two) for one, two in zip(encode(again, rows), together, strict=True))


@settings(max_examples=30)
@given(seed=st.integers(0, 2**16), factor=st.floats(0.5, 100), level=st.floats(-1e3, 1e3))
def test_rows_scaled_by_themselves_forget_level_and_size_unless_these_are_channels(
    seed: int, factor: float, level: float
) -> None:
    random = np.random.default_rng(seed)
    rows = [random.normal(size=(int(random.integers(5, 20)), 2)) for _ in range(6)]
    moved = rows[0] * factor + level
    by_row = encoder_for(rows, View(normalize="row"))
    (one,), (other,) = encode(by_row, [rows[0]]), encode(by_row, [moved])
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    with_statistics = encoder_for(rows, View(normalize="row_stats"))
    (one,), (other,) = encode(with_statistics, [rows[0]]), encode(with_statistics, [moved])
    torch.testing.assert_close(one[:, :2], other[:, :2], rtol=1e-4, atol=1e-4)
    # The level (2 channels) and the logarithm of the size (2), the same at every step.
    assert (one[:, 2:] == one[:1, 2:]).all()
    added_means, added_deviations = with_statistics.added or pytest.fail("nothing was added")
    sizes = one[0, 4:].double() * torch.tensor(added_deviations[2:]) + torch.tensor(added_means[2:])
    np.testing.assert_allclose(sizes.exp(), rows[0].std(axis=0), rtol=1e-4)


def test_missing_values_repeat_the_last_and_channels_say_where_and_for_how_long() -> None:
    nan = np.nan
    row = np.array([[nan, 1.0], [4.0, 2.0], [nan, 3.0], [nan, 4.0], [6.0, 5.0]])
    encoder = encoder_for([row], View(normalize="none"))
    (steps,) = encode(encoder, [row])
    assert encoder.gaps == (0,)
    assert steps[:, 0].tolist() == [4.0, 4.0, 4.0, 4.0, 6.0]
    assert steps[:, 1].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert steps[:, 2].tolist() == [1.0, 0.0, 1.0, 1.0, 0.0]
    np.testing.assert_allclose(steps[:, 3].exp() - 1, [1.0, 0.0, 1.0, 2.0, 0.0], atol=1e-6)


def test_gaps_that_training_never_had_are_filled_all_the_same() -> None:
    rows = rows_of(1, 5, 2)
    encoder = encoder_for(rows, View())
    gap = rows[0].copy()
    gap[:, 1] = np.nan  # no value at all: the channel is at its mean
    (steps,) = encode(encoder, [gap])
    assert (steps[:, 1] == 0).all()


# --- series ---


def trial(view: View) -> Any:
    return replace(TRIAL, **vars(view))


def write_series(folder: Path, days: int = 20, known: bool = True) -> None:
    values = [value + 20 + hour / 50 for hour, value in enumerate(daily(days))]
    columns: dict[str, Any] = {"y": values}
    if known:
        columns["w"] = np.random.default_rng(3).normal(size=len(values)).round(4).tolist()
    write(folder, columns)


def all_views(folder: Path, **data: Any) -> Dataset:
    every = {
        "normalize": ["channel", "row", "row_stats"],
        "differences": [0, 1, 2],
        "patch": [1, 2, 4, 8, 16],
        "residual": [each for each in get_args(Residual) if each != "yearly"],
        "log": [False, True],
    }
    return load(folder, window=30, horizon=5, test=40, validation=40, **every, **data)


@pytest.fixture(scope="module")
def hourly(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    folder = tmp_path_factory.mktemp("hourly")
    write_series(folder)
    return folder, all_views(folder, known=["w"], season=24)


@settings(max_examples=40)
@given(view=SERIES_VIEWS.filter(lambda view: view.residual != "yearly"))
def test_targets_of_every_view_restore_to_the_series(
    hourly: tuple[Path, Dataset], view: View
) -> None:
    _, data = hourly
    plain, seen = data.seen_by(trial(View())), data.seen_by(trial(view))
    assert seen.view == view
    for part in ("validation", "test"):
        expected, found = targets_of(getattr(plain, part)), targets_of(getattr(seen, part))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert len(seen.train) == len(plain.train)
    channels, longest = seen.channels, seen.longest
    assert data.views is not None
    assert data.views.shape(view) == (channels, longest)


@settings(max_examples=40)
@given(view=SERIES_VIEWS.filter(lambda view: view.residual != "yearly"), place=st.integers(0, 35))
def test_a_window_is_what_a_forecast_from_its_last_step_reads(
    hourly: tuple[Path, Dataset], view: View, place: int
) -> None:
    """Whatever a window shows, it shows without the rows behind it."""
    folder, data = hourly
    seen = data.seen_by(trial(view))
    spec = study(window=30, horizon=5, test=40, validation=40, known=["w"], season=24)
    encoder = SeriesEncoder.from_json(seen.preprocessing, spec.data)
    from gru_optuna.data.readers.tables import read_table

    (series,) = read_series([read_table(folder / "series.csv")], spec.data).series
    assert seen.test is not None
    # The first test window's last step lies just before the 40 test rows.
    origin = len(series) - 40 - 1 + place
    cut = replace(
        series,
        target=np.append(series.target[: origin + 1], np.full(5, np.nan)),
        past=series.past[: origin + 6],
        known=series.known[: origin + 6],
    )
    present = encoder.present(cut, "the rows")
    row = seen.test.rows(torch.tensor([place]))
    assert row.batch().values[0].equal(present.values)
    assert row.units is not None
    assert row.units.offset.equal(present.units.offset)
    assert row.units.scale.equal(present.units.scale)


def test_forecasts_are_measured_from_what_the_documentation_says(tmp_path: Path) -> None:
    write_series(tmp_path, known=False)
    data = all_views(tmp_path, season=24)
    assert data.test is not None
    y = targets_of(data.test)  # one window at each step
    from gru_optuna.data.readers.tables import read_table

    values = read_table(tmp_path / "series.csv").numbers("y")
    origin, ahead, s = len(values) - 40 - 1, np.arange(1, 6), 24
    assert y[0, 0] == pytest.approx(values[origin + 1], abs=1e-4)
    past = [values[origin + ahead - s * back] for back in range(1, 5)]
    stretch = [
        values[origin - s * back - s + 1 : origin - s * back + 1].mean() for back in range(5)
    ]
    expected = {
        "last": np.full(5, values[origin]),
        "season": np.median(past, axis=0),
        "level": np.median(past, axis=0) + stretch[0] - np.mean(stretch[1:]),
        "drift": values[origin + ahead - s] + values[origin] - values[origin - s],
    }
    for residual, numbers in expected.items():
        seen = data.seen_by(trial(View(residual=residual)))  # type: ignore[arg-type]
        assert seen.test is not None
        assert seen.test.units is not None
        np.testing.assert_allclose(seen.test.units.offset[0], numbers, rtol=1e-9)
    seen = data.seen_by(trial(View(residual="none", normalize="row")))
    assert seen.test is not None
    assert seen.test.units is not None
    window = values[origin - 29 : origin + 1]
    np.testing.assert_allclose(seen.test.units.offset[0], np.full(5, window.mean()), rtol=1e-9)


def test_the_curve_of_the_year_is_found_again(tmp_path: Path) -> None:
    from datetime import timedelta

    days = np.arange(4 * 365)
    values = 10 + 8 * np.sin(2 * np.pi * (days + 40) / 365.25)
    noise = np.random.default_rng(5).normal(size=len(days)) * 0.5
    write(tmp_path, {"y": (values + noise).round(4).tolist()}, step=timedelta(days=1))
    data = load(tmp_path, window=10, horizon=4, season=1, residual="yearly", test=100)
    assert data.test is not None
    assert data.test.units is not None
    offsets = data.test.units.offset[:, 0].numpy()
    np.testing.assert_allclose(offsets, values[-100:-3], atol=0.3)


@settings(max_examples=25)
@given(view=SERIES_VIEWS.filter(lambda view: view.residual != "yearly"), changed=st.integers(1, 70))
def test_training_rows_of_a_view_know_nothing_of_later_rows(
    tmp_path: Path, view: View, changed: int
) -> None:
    write_series(tmp_path, days=12, known=False)
    chosen = {key: value for key, value in vars(view).items() if value != getattr(View(), key)}
    before = load(tmp_path, window=30, horizon=5, test=40, validation=40, season=24, **chosen)
    text = (tmp_path / "series.csv").read_text().splitlines()
    time, _ = text[-changed].split(",")
    text[-changed] = f"{time},77.5"
    (tmp_path / "series.csv").write_text("\n".join(text) + "\n")
    after = load(tmp_path, window=30, horizon=5, test=40, validation=40, season=24, **chosen)
    assert after.train.batch().values.equal(before.train.batch().values)
    assert after.train.targets.equal(before.train.targets)


# --- what can't be ---


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"log": True}, 'log needs positive values, but "y" is -'),
        ({"residual": ["last", "yearly"]}, 'residual = "yearly" needs a year of training rows'),
    ],
)
def test_a_view_that_the_series_cannot_have_is_refused(
    tmp_path: Path, data: dict[str, Any], message: str
) -> None:
    write(tmp_path, {"y": daily(20)})
    assert message in refusal(tmp_path, **data)


def test_views_are_shared_and_the_least_recently_used_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path)
    data = all_views(tmp_path, known=["w"], season=24)
    by_row, relative = trial(View(normalize="row")), trial(View(residual="last"))
    first = data.seen_by(by_row)
    assert data.seen_by(by_row) is first
    monkeypatch.setenv("GRU_OPTUNA_MEMORY", "1MiB")
    data.seen_by(relative)
    assert data.seen_by(by_row) is not first
    torch.testing.assert_close(data.seen_by(by_row).train.steps, first.train.steps)


def test_a_study_without_views_has_one_dataset(tmp_path: Path) -> None:
    write_series(tmp_path)
    data = load_dataset(study(), tmp_path)
    assert data.views is None
    assert data.seen_by(TRIAL) is data


# --- the views of a study ---

SERIES = {"train": "x.csv", "time": "t", "target": "y", "horizon": 2, "season": 7}


def specification(task: str = "forecasting", **data: Any) -> study_file.Specification:
    where = SERIES if task == "forecasting" else {"train": "x.npz"}
    content = {"name": "x", "task": task, "data": {**where, **data}}
    return study_file.parse(content, source="x.toml")


@pytest.mark.parametrize(
    ("data", "comparable"),
    [
        ({}, True),
        ({"differences": [0, 1], "patch": [1, 2]}, True),
        ({"residual": ["season", "last"]}, False),
        ({"log": [False, True]}, False),
        ({"normalize": ["channel", "row"]}, False),
        ({"normalize": ["row", "row_stats"]}, True),
    ],
)
def test_losses_of_series_are_comparable_if_their_units_are_those_of_all_views(
    data: dict[str, Any], comparable: bool
) -> None:
    assert have_comparable_losses(specification(**data)) == comparable


def test_losses_of_classes_are_comparable_in_all_views() -> None:
    assert have_comparable_losses(specification("classification", normalize=["channel", "row"]))


def test_a_study_has_the_views_that_its_file_allows_the_first_choices_first() -> None:
    assert list(views_of(specification())) == [View()]
    spec = specification(normalize=["row", "channel"], differences=1)
    assert list(views_of(spec)) == [View(normalize="row", differences=1), View(differences=1)]
    ends = specification("classification", patch={"low": 2, "high": 9})
    assert [view.patch for view in views_of(ends)] == [2, 9]
    spectra = specification("classification", spectrum=True, differences=[0, 1])
    assert list(views_of(spectra)) == [View(spectrum=True)] * 2
    alike = specification("classification", patch={"low": 2, "high": 2})
    assert [view.patch for view in views_of(alike)] == [2]


def test_sequences_that_are_not_standardized_are_read_as_they_are() -> None:
    plain = specification("classification", standardize=False)
    assert list(views_of(plain)) == [View(normalize="none")]


def test_what_a_trial_leaves_open_is_as_in_the_studys_view() -> None:
    view = View(normalize="none", patch=3)
    assert view.of(TRIAL) == view
    assert view.of(replace(TRIAL, patch=1, differences=2)) == replace(view, patch=1, differences=2)
    assert view.as_json() == {"normalize": "none", "patch": 3}
    assert View().as_json() == {}
