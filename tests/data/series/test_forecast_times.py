"""Forecasts are dated as the column was: in its form, zone and precision, from file to bundle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from helpers.bundles import train

from gru_optuna.bundle.load import bundle_from_files
from gru_optuna.errors import BundleError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from gru_optuna.bundle.bundle import Bundle

ROWS, AHEAD = 70, 3


def texts(calendar: pd.DatetimeIndex, pattern: str) -> list[str]:
    return [moment.strftime(pattern) for moment in calendar]


def iso(calendar: pd.DatetimeIndex) -> list[str]:
    return [moment.isoformat() for moment in calendar]


def dates(first: str, step: str, zone: str | None = None) -> pd.DatetimeIndex:
    return pd.date_range(first, periods=ROWS + AHEAD, freq=step, tz=zone)


def naive(calendar: pd.DatetimeIndex) -> pl.Series:
    return pl.Series(values=calendar.to_numpy().astype("datetime64[us]"))


COLUMNS: dict[str, Callable[[], Mapping[str, Any]]] = {
    "years": lambda: {"year": list(range(1950, 1950 + ROWS + AHEAD))},
    "steps": lambda: {"time": list(range(1, 1 + ROWS + AHEAD))},
    "every fifth of steps before and after 0": lambda: {
        "time": [str(5 * step - 100) for step in range(ROWS + AHEAD)]
    },
    "month ends": lambda: {"time": texts(dates("2000-01-31", "ME"), "%Y-%m-%d")},
    "the 30th of each month": lambda: {
        "time": [
            (pd.Timestamp("2000-01-30") + pd.DateOffset(months=step)).strftime("%d/%m/%Y")
            for step in range(ROWS + AHEAD)
        ]
    },
    "months": lambda: {"time": texts(dates("2000-01-01", "MS"), "%Y-%m")},
    "names of months": lambda: {"time": texts(dates("2000-01-01", "MS"), "%b %-d %Y")},
    "quarters": lambda: {"time": [f"{m.year} Q{m.quarter}" for m in dates("1990-01-01", "QS")]},
    "compact hours": lambda: {
        "time": [int(text) for text in texts(dates("2023-01-01", "h"), "%Y%m%d%H")]
    },
    "trading days": lambda: {"time": texts(dates("2024-01-01", "B"), "%Y-%m-%d")},
    "last weekdays of months": lambda: {"time": texts(dates("2020-01-31", "BME"), "%m/%d/%Y")},
    "hours with offsets": lambda: {"time": iso(dates("2023-10-27", "h", "Europe/Berlin"))},
    "midnights with offsets": lambda: {"time": iso(dates("2024-01-19", "D", "Europe/Berlin"))},
    "months with offsets": lambda: {"time": iso(dates("2019-01-01", "MS", "America/New_York"))},
    "UTC": lambda: {"time": texts(dates("2023-10-27", "15min"), "%Y-%m-%dT%H:%MZ")},
    "a year and a quarter": lambda: {
        "year": [moment.year for moment in dates("1959-01-01", "QS")],
        "quarter": [moment.quarter for moment in dates("1959-01-01", "QS")],
    },
    "a year and the name of a month": lambda: {
        "year": [moment.year for moment in dates("1949-01-01", "MS")],
        "month": texts(dates("1949-01-01", "MS"), "%B"),
    },
    "a year and a week": lambda: {
        "Jahr": [moment.isocalendar()[0] for moment in dates("2019-01-07", "W-MON")],
        "KW": [moment.isocalendar()[1] for moment in dates("2019-01-07", "W-MON")],
    },
    "year, month, day and hour": lambda: {
        name: getattr(dates("2024-02-27", "h"), name).to_list()
        for name in ("year", "month", "day", "hour")
    },
    "a date and an hour": lambda: {
        "date": texts(dates("2024-02-27", "h"), "%d.%m.%Y"),
        "hour": dates("2024-02-27", "h").hour.to_list(),
    },
    "a date and a time of day": lambda: {
        "date": texts(dates("2024-02-27", "h"), "%Y-%m-%d"),
        "time": texts(dates("2024-02-27", "h"), "%H:%M"),
    },
    "stored dates": lambda: {"time": naive(dates("2024-01-01", "D")).cast(pl.Date)},
    "stored times in a zone": lambda: {
        "time": naive(dates("2024-01-19", "D")).dt.replace_time_zone("Europe/Berlin")
    },
}


def fitted(folder: Path, columns: Mapping[str, Any]) -> tuple[Bundle, pl.DataFrame]:
    """A bundle trained on all rows but the last, and these rows."""
    frame = pl.DataFrame(columns).head(ROWS)
    values = np.random.default_rng(0).normal(size=len(frame))
    rows = frame.with_columns(y=pl.Series(values=values))
    typed = any(column.dtype.is_temporal() for column in frame)
    write = rows.write_parquet if typed else rows.write_csv
    name = "rows.parquet" if typed else "rows.csv"
    write(folder / name)
    time = json.dumps(frame.columns if frame.width > 1 else frame.columns[0])
    (folder / "study.toml").write_text(
        f'name = "x"\ntask = "forecasting"\n[data]\ntrain = "{name}"\ntime = {time}\n'
        f'target = "y"\nhorizon = {AHEAD}\nwindow = 4\ntest = 12\nvalidation = 12\nseason = 1\n'
    )
    return train(folder / "study.toml").bundle, rows


@pytest.mark.parametrize("name", COLUMNS)
def test_forecasts_are_dated_as_the_rows_were(tmp_path: Path, name: str) -> None:
    columns = pl.DataFrame(COLUMNS[name]())
    bundle, rows = fitted(tmp_path, columns.to_dict())
    again = bundle_from_files(bundle.files, "again")  # what the files say is enough
    from_file = bundle.predict_frame(next(tmp_path.glob("rows.*")))
    few = again.predict_frame(rows.tail(8))
    expected = columns.tail(AHEAD)
    for frame in (from_file.cast(dict(columns.schema)), few):
        assert frame.select(columns.columns).rows() == expected.rows()


def test_steps_are_followed_by_steps(tmp_path: Path) -> None:
    bundle, rows = fitted(tmp_path, {"time": list(range(1, 1 + ROWS))})
    assert bundle.encoder.plan.calendar == ()  # type: ignore[union-attr]
    # 1990 to 1998 would be years, and three of them can't decide again.
    later = rows.tail(9).with_columns(time=pl.Series(values=range(1990, 1999)))
    assert bundle.predict_frame(later)["time"].to_list() == [1999, 2000, 2001]
    with pytest.raises(DataError, match="the rows are 2 steps apart, but those of training are 1"):
        bundle.predict_frame(rows.tail(18)[::2])
    dated = rows.tail(9).with_columns(time=pl.lit("2024-01-31"))
    with pytest.raises(DataError, match='"2024-01-31", not a whole number, but the times of the'):
        bundle.predict_frame(dated)
    with pytest.raises(DataError, match="line 4: the time 4 follows 2, but most rows are 1 step"):
        fitted(tmp_path, {"time": [1, 2, 4, *range(104, 101 + ROWS)]})


def test_stored_times_may_follow_texts(tmp_path: Path) -> None:
    bundle, rows = fitted(tmp_path, {"time": texts(dates("2024-01-01", "D"), "%d/%m/%Y")})
    stored = rows.with_columns(pl.col("time").str.to_datetime("%d/%m/%Y"))
    assert bundle.predict_frame(stored)["time"].dtype == pl.Datetime("us")
    # Three days of January: day and month could change places, but training knows.
    few = bundle.predict_frame(rows.filter(pl.col("time").str.ends_with("/02/2024")).head(9))
    assert few["time"].to_list() == ["10/02/2024", "11/02/2024", "12/02/2024"]
    zoned = stored.with_columns(pl.col("time").dt.replace_time_zone("Europe/Berlin"))
    with pytest.raises(DataError, match="the times have offsets from UTC, but those of training"):
        bundle.predict_frame(zoned)


def test_the_hour_that_clocks_show_twice_is_explained(tmp_path: Path) -> None:
    calendar = dates("2023-10-28", "h", "Europe/Berlin").tz_localize(None)
    with pytest.raises(DataError) as refused:
        fitted(tmp_path, {"time": texts(calendar, "%Y-%m-%d %H:%M")})
    message = str(refused.value)
    assert "line 29: the time 2023-10-29 02:00:00 follows 2023-10-29 02:00:00. It looks" in message
    assert "2023-10-29T02:00:00+02:00 and then 2023-10-29T02:00:00+01:00." in message


def test_parts_that_make_no_time_are_refused(tmp_path: Path) -> None:
    parts = {"month": [1 + step % 12 for step in range(ROWS)], "hour": [0] * ROWS}
    with pytest.raises(DataError, match="seem to hold month, hour, which make no time"):
        fitted(tmp_path, parts)
    wrong = {"year": [2000] * ROWS, "month": [1, 13] * (ROWS // 2)}
    with pytest.raises(
        DataError, match=r'line 3: columns "year" and "month": the time is "2000-13"'
    ):
        fitted(tmp_path, wrong)


@pytest.mark.parametrize(
    "form",
    [
        {"reads": "%d-%m-%Y", "writes": "%Q!"},
        {"reads": "%d-%m-%Y", "writes": "%Y", "zone": "Mars/Base"},
        {"reads": "%d-%m-%Y", "writes": "%Y", "zone": "+99:99"},
        {"reads": "epoch years"},
        {"reads": "typed", "stored": "us", "zone": "../../etc/localtime"},
        {"reads": "%d-%m-%Y", "writes": "%d/%m/%Y", "stored": "integer"},
    ],
)
def test_a_bundle_whose_times_cannot_be_written_is_refused(
    model: Bundle, form: dict[str, str]
) -> None:
    files = dict(model.files)
    content = json.loads(files["preprocessing/0.json"]) | {"times": [form]}
    with pytest.raises(BundleError, match="no such form of times"):
        bundle_from_files(files | {"preprocessing/0.json": json.dumps(content).encode()}, "changed")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return fitted(
        tmp_path_factory.mktemp("x"), {"time": texts(dates("2024-01-01", "D"), "%d/%m/%Y")}
    )[0]
