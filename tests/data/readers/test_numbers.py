"""Numbers in the styles of many countries are read back exactly; what could be two is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_optuna.data.readers.column_formats import TableFormats
from gru_optuna.data.readers.numbers import Hints, UndecidedError, decide_format, parse_numbers
from gru_optuna.data.readers.tables import Table
from gru_optuna.errors import DataError

SIGNS = [
    (".", ""), (",", ""), (".", ","), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"),
    (".", "\u00a0"), (",", "\u00a0"), (",", "\u202f"), (".", "\u2009"), (".", "\u2019"),
]  # fmt: skip
AROUND = ["{}", "{} %", "{}%", "$ {}", "${}", "€{}", "{} €", "{}\u00a0EUR", "CHF {}", "R$ {}"]


def written(number: float, decimals: int, decimal: str, thousands: str) -> str:
    """A number without its sign, by Python's own formatting."""
    english = f"{abs(number):,.{decimals}f}"
    return english.translate({ord(","): thousands, ord("."): decimal})


def column(values: list[str | None], **formats: object) -> Table:
    return Table(Path("x"), pl.DataFrame({"y": values}), formats=TableFormats(**formats))  # type: ignore[arg-type]


@settings(max_examples=200)
@given(
    numbers=st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=20),
    decimals=st.sampled_from([1, 2, 4, 5]),
    signs=st.sampled_from(SIGNS),
    around=st.sampled_from(AROUND),
    minus=st.sampled_from(["-{}", "\u2212{}", "({})", "{}-"]),
)
def test_numbers_are_read_back_from_every_style(
    numbers: list[int], decimals: int, signs: tuple[str, str], around: str, minus: str
) -> None:
    values = [*(number / 10**decimals for number in numbers), 0.5]
    fields = []
    for value in values:
        body = around.format(written(value, decimals, *signs))
        fields.append(minus.format(body) if value < 0 else body)
    if minus == "({})" and any(value < 0 and round(value, decimals) == 0 for value in values):
        return
    got = column([*fields, None]).numbers("y")
    assert got[:-1].tolist() == [float(f"{value:.{decimals}f}") for value in values]
    assert np.isnan(got[-1])


@settings(max_examples=50)
@given(
    st.lists(st.integers(1000, 10**9), min_size=1, max_size=20),
    st.integers(1, 999),
    st.sampled_from([".", ",", " ", "'", "\u00a0", "\u202f"]),
)
def test_whole_numbers_with_signs_between_thousands_are_whole(
    large: list[int], small: int, sign: str
) -> None:
    fields = [f"{number:,}".replace(",", sign) for number in [*large, small]]
    assert column(fields).numbers("y").tolist() == [*large, small]


@settings(max_examples=50)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_what_python_writes_is_read_back_bit_for_bit(numbers: list[float]) -> None:
    got = column([repr(number) for number in [*numbers, 0.5]]).numbers("y")
    assert got.tolist() == [*numbers, 0.5]


def test_a_column_that_could_be_either_is_refused_with_its_first_field() -> None:
    fields = pl.Series(["1.024", "2.048"])
    with pytest.raises(UndecidedError, match=r'is "1\.024": 1\.024, or 1024\?'):
        decide_format(fields, Hints(semicolons=True))
    assert column(fields.to_list(), decimal=".").numbers("y").tolist() == [1.024, 2.048]
    assert column(fields.to_list(), thousands=".").numbers("y").tolist() == [1024, 2048]


def test_where_commas_separate_fields_a_dot_is_a_decimal_point() -> None:
    """Three decimal places are common; without a sign that dots are anything else, they stay."""
    assert column(["21.437", "20.981"]).numbers("y").tolist() == [21.437, 20.981]


@pytest.mark.parametrize(
    ("other", "value"), [("8,5", 1024.0), ("8.5", 1.024)], ids=["comma", "point"]
)
def test_another_column_of_the_file_shows_the_decimal_sign(other: str, value: float) -> None:
    frame = pl.DataFrame({"y": ["1.024", "2.048"], "x": [other, other]})
    table = Table(Path("x"), frame, semicolons=True)
    assert table.numbers("y")[0] == value


def test_a_study_decides_once_for_all_of_its_files() -> None:
    formats = TableFormats()
    train = Table(Path("train"), pl.DataFrame({"y": ["1.024", "987"]}), formats=formats)
    later = Table(Path("later"), pl.DataFrame({"y": ["1.500"]}), formats=formats)
    assert (train.numbers("y")[0], later.numbers("y")[0]) == (1024, 1500)
    stored = TableFormats.from_json(formats.as_json())
    new = Table(Path("new"), pl.DataFrame({"y": ["1.500"]}), formats=stored)
    assert new.numbers("y")[0] == 1500


def test_one_mistake_changes_nothing_about_the_others() -> None:
    table = column(["12.5", "13.5", "1,5"])
    with pytest.raises(DataError, match=r'row 3: column "y" is "1,5", not a finite number'):
        table.numbers("y")


def test_a_minus_may_be_a_dash() -> None:
    for fields in (["–1.5", "2.5", "−3"], ["–1,5", "2,5", "−3"]):
        assert column([*fields]).numbers("y").tolist() == [-1.5, 2.5, -3]


def test_francs_without_centimes_are_not_negative() -> None:
    with pytest.raises(DataError, match="not a finite number"):
        column(["7.50", "5.-", "6.20", "1.30"]).numbers("y")


def test_amounts_of_money_dont_all_have_three_decimals() -> None:
    assert column(["¥98,123", "¥101,234"]).numbers("y").tolist() == [98123, 101234]


@pytest.mark.parametrize("marker", ["?", "-", "--", "n.a.", "x", "#N/A", "missing", "k.A."])
def test_what_looks_like_a_missing_value_is_offered_as_one(marker: str) -> None:
    fields = ["1.5", marker, "2.5"]
    with pytest.raises(DataError, match=r"missing_values = \["):
        column(fields).numbers("y")
    got = column(fields, missing_values=(marker,)).numbers("y")
    assert np.isnan(got).tolist() == [False, True, False]


def test_numeric_markers_are_missing_in_typed_columns_too() -> None:
    formats = TableFormats(missing_values=("-999",))
    table = Table(Path("x"), pl.DataFrame({"y": [1.5, -999.0], "n": [-999, 7]}), formats=formats)
    assert np.isnan(table.numbers("y")).tolist() == [False, True]
    assert np.isnan(table.numbers("n")).tolist() == [True, False]


def test_two_currencies_in_a_column_are_not_one_unit() -> None:
    with pytest.raises(DataError, match=r'row 3: column "y" is "€5.00"'):
        column(["$5.50", "$6.50", "€5.00"]).numbers("y")


def test_shares_and_percentages_in_a_column_are_not_one_unit() -> None:
    with pytest.raises(DataError, match=r'row 3: column "y" is "0.5", .* in a column of percent'):
        column(["50%", "60%", "0.5"]).numbers("y")


def test_words_and_versions_are_not_numbers() -> None:
    fields = pl.Series(["a", "1.024", "b", "1.2.3"])
    written = decide_format(fields, Hints(semicolons=True))
    assert parse_numbers(fields, written)[1].to_list() == [True, False, True, True]


@pytest.mark.parametrize(
    ("trained", "later", "has"),
    [(["1.024,5", "7,25"], ["1.024", "0.5"], "points"), (["1 024.5", "7.25"], ["0,5"], "commas")],
)
def test_later_rows_with_the_other_decimal_sign_are_refused(
    trained: list[str], later: list[str], has: str
) -> None:
    formats = TableFormats()
    Table(Path("train"), pl.DataFrame({"y": trained}), formats=formats).numbers("y")
    test = Table(Path("test.csv"), pl.DataFrame({"y": later}), formats=formats)
    with pytest.raises(DataError, match=f'test.csv: column "y" has decimal {has}, but the'):
        test.numbers("y")
