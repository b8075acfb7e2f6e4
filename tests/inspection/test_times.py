"""Columns of times, of their parts, and those that only seem to hold some."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from gru_optuna.errors import DataError
from gru_optuna.inspection.inspect import inspect
from gru_optuna.inspection.roles import Roles
from gru_optuna.scaffold.draft import draft_study

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gru_optuna.inspection.inspect import Inspection

MONTHS = "January February March April May June July August September October November December"
ROWS = 144


def inspected(folder: Path, columns: Mapping[str, Any], **given: Any) -> Inspection:
    values = np.random.default_rng(0).normal(size=len(next(iter(columns.values()))))
    path = folder / "rows.csv"
    pl.DataFrame({**columns, "demand": values}).write_csv(path)
    return inspect([path], Roles(**given))


def years() -> list[int]:
    return [1949 + month // 12 for month in range(ROWS)]


@pytest.mark.parametrize(
    ("columns", "step"),
    [
        ({"year": years(), "month": MONTHS.split() * 12}, "1 month"),
        ({"jahr": years(), "Monat": [1 + month % 12 for month in range(ROWS)]}, "1 month"),
        ({"Year": [1949 + i // 4 for i in range(ROWS)], "qtr": [1, 2, 3, 4] * 36}, "1 quarter"),
        ({"hour": list(range(24)) * 6, "date": [f"2024-01-{1 + i // 24:02}" for i in range(ROWS)]},
         "1 hour"),
        ({"date": [20240101 + i // 24 for i in range(ROWS)], "time": [100 * (i % 24) for i in
         range(ROWS)]}, "1 hour"),
        ({"date": [f"2024-01-{1 + i // 24:02}" for i in range(ROWS)], "<TIME>": [10000 * (i % 24)
         for i in range(ROWS)]}, "1 hour"),
        ({"YEAR": [2020 + (i + 300) // 366 for i in range(ROWS)], "DOY": [1 + (i + 300) % 366 for i
         in range(ROWS)]}, "1 day"),
    ],
)  # fmt: skip
def test_columns_of_parts_make_one_time(tmp_path: Path, columns: dict[str, Any], step: str) -> None:
    found = inspected(tmp_path, columns)
    assert set(found.guess.roles.times) == set(columns)
    assert found.guess.roles.target == "demand"
    assert found.files[0].clock is not None
    assert found.files[0].clock.step == step
    assert not [finding for finding in found.findings if finding.blocks]


def test_a_draft_names_the_columns_of_a_time(tmp_path: Path) -> None:
    inspected(tmp_path, {"year": years(), "month": MONTHS.split() * 12})
    assert 'time = ["year", "month"] # 1949-01-01' in draft_study(tmp_path / "rows.csv").toml
    given = draft_study(tmp_path / "rows.csv", roles=Roles(time="year,month"))
    assert 'time = ["year", "month"] #' in given.toml


def test_a_column_that_is_whole_is_preferred_to_parts(tmp_path: Path) -> None:
    times = [datetime(2024, 1, 1) + timedelta(hours=hour) for hour in range(ROWS)]
    parts = {
        "year": [time.year for time in times],
        "month": [time.month for time in times],
        "day": [time.day for time in times],
        "hour": [time.hour for time in times],
    }
    found = inspected(tmp_path, {**parts, "observed_at": times})
    assert found.guess.roles.times == ("observed_at",)


def test_digits_of_a_calendar_are_times_whatever_their_column_is_called(tmp_path: Path) -> None:
    hours = [f"202301{1 + hour // 24:02}{hour % 24:02}" for hour in range(ROWS)]
    found = inspected(tmp_path, {"MESS": hours})
    assert found.guess.roles.times == ("MESS",)
    assert found.files[0].clock is not None
    assert found.files[0].clock.step == "1 hour"


def test_years_in_a_column_without_a_name_are_times(tmp_path: Path) -> None:
    """As pandas writes the index of a yearly series; numbers of rows are none."""
    found = inspected(tmp_path, {"": range(1850, 1950)})
    assert found.guess.roles.times == ("",)
    assert found.files[0].clock is not None
    assert str(found.files[0].clock.step) == "1 year"
    for numbers in (range(100), range(1, 101), [1900] * 50 + [1901] * 50, range(2050, 2150)):
        found = inspected(tmp_path, {"": numbers})
        assert found.guess.rows is None
        assert "neither a number nor a time" not in found.guess.reason


def test_a_time_that_is_not_understood_is_no_text_and_no_id(tmp_path: Path) -> None:
    for fields in (
        [f"the {day} day of the year" for day in range(ROWS)],
        [f"T{day}" for day in range(ROWS)],
    ):
        inspected(tmp_path, {"date": fields})
        with pytest.raises(DataError, match=f'line 2: column "date" is "{fields[0]}", not a time'):
            draft_study(tmp_path / "rows.csv")


def test_numbers_that_are_named_after_time_are_explained(tmp_path: Path) -> None:
    inspected(tmp_path, {"time": [day / 7 for day in range(ROWS)]})
    with pytest.raises(DataError, match=r'line 2: column "time" is "0.0", not a time'):
        draft_study(tmp_path / "rows.csv")


def test_the_hour_that_clocks_show_twice_is_no_double_row(tmp_path: Path) -> None:
    """Neither advice to keep one row of each, nor where rows are days."""
    hours = [datetime(2023, 10, 26) + timedelta(hours=hour) for hour in range(ROWS)]
    hours.insert(75, hours[74])  # 2023-10-29 02:00
    (finding,) = [f for f in inspected(tmp_path, {"time": hours}).findings if f.blocks]
    assert "clocks go back and show an hour twice, as in Europe/Berlin" in finding.message
    days = [datetime(2023, 10, 1) + timedelta(days=day) for day in range(ROWS)]
    days.insert(35, days[34])  # 2023-11-05, when Havana's clocks go back at one
    (finding,) = [f for f in inspected(tmp_path, {"time": days}).findings if f.blocks]
    assert "keep one row for each time" in finding.message
