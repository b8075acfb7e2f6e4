"""Which column is what: by names in several languages, by what columns hold, or by asking."""

from __future__ import annotations

import json
import math
import random
import tomllib
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gru_optuna.cli import app
from gru_optuna.errors import DataError
from gru_optuna.inspection.inspect import inspect
from gru_optuna.inspection.role_words import name_speaks
from gru_optuna.inspection.roles import Roles
from gru_optuna.scaffold.draft import draft_study

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.inspection.guess import Guess
    from gru_optuna.inspection.role_words import Subject

DAYS = [date(2024, 1, 1) + timedelta(days=day) for day in range(60)]


def guess(folder: Path, header: str, rows: list[str], **given: object) -> Guess:
    path = folder / "x.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return inspect([path], Roles(**given)).guess  # type: ignore[arg-type]


def daily(*columns: str) -> list[str]:
    """A row for each day; `columns` are formats of the row's number n."""
    return [
        ",".join(
            [str(day), *(column.format(n=n, r=n * 37 % 101 / 7, b=n % 2) for column in columns)]
        )
        for n, day in enumerate(DAYS)
    ]


def sentences(*columns: str) -> list[str]:
    return [
        f"these are the words of {n}," + ",".join(c.format(n=n, c="abc"[n % 3]) for c in columns)
        for n in range(90)
    ]


# --- names ---


@pytest.mark.parametrize(
    ("name", "subject", "strength"),
    [
        ("id", "id", 2), ("store_id", "id", 2), ("storeId", "id", 2), ("customerid", "id", 1),
        ("humid", "id", 0), ("humidity", "id", 0), ("solid", "id", 0), ("Kunden-Nr", "id", 1),
        ("Kunde Nr", "id", 2), ("товар", "id", 2), ("商品番号", "id", 1), ("상품 번호", "id", 2),
        ("main_id", "id", 1), ("Close/Last", "target", 2), ("units_sold", "target", 2),
        ("sales", "target", 2), ("Umsatz", "target", 2), ("Verbrauch (kWh)", "target", 1),
        ("précio", "target", 2), ("日销量", "target", 1), ("wholesaler", "target", 0),
        ("spaceship", "target", 0), ("loader", "target", 0), ("sales2", "target", 2),
        ("Kategorie", "label", 2), ("catégories", "label", 2), ("classes", "label", 2),
        ("subclassed", "label", 0), ("ラベル", "label", 2), ("метка", "label", 2),
        ("temp", "time", 0), ("timestamps", "time", 2),
        ("Feiertag", "known", 2), ("is_holiday", "known", 1), ("eventually", "known", 0),
    ],
)  # fmt: skip
def test_names_match_by_whole_words(name: str, subject: Subject, strength: int) -> None:
    assert name_speaks(name, subject) == strength


@given(st.text("bcdfghjkmnpqrstvwxz", min_size=3, max_size=8))
def test_letters_around_a_word_make_another_word(letters: str) -> None:
    assert name_speaks(f"{letters}_id", "id") == 1
    assert name_speaks(f"{letters}Id", "id") == 1
    assert name_speaks(f"q{letters}idq", "id") == 0


# --- what is predicted ---


@pytest.mark.parametrize(
    ("header", "columns", "target", "others"),
    [
        ("date,temp,mw", ("{r}", "{n}.5"), "mw", ("temp",)),
        ("Datum,Temperatur,Verbrauch", ("{r}", "{n}.5"), "Verbrauch", ("Temperatur",)),
        ("fecha,demanda,clima", ("{r}", "{n}.5"), "demanda", ("clima",)),
        ("date,label,KSI", ("{b}", "{r}"), "KSI", ("label",)),
        ("date,open,y", ("{b}", "{r}"), "y", ("open",)),
        ("date,n,level", ("{n}", "{r}"), "level", ()),
        ("date,flat,level", ("7", "{r}"), "level", ()),
        ("date,month,level", ("{n}.5", "{r}"), "level", ()),
        ("date,sales,volume,other", ("{r}", "{r}", "{r}"), "sales", ("volume", "other")),
        ("date,open", ("{b}",), "open", ()),
        ("date,Close/Last,Volume,Open", ("{r}", "{r}", "{r}"), "Close/Last", ("Volume", "Open")),
        ("date,unit price,units_sold", ("{r}", "{n}.5"), "unit price", ("units_sold",)),
        ("date,temp,store sales", ("{r}", "{n}.5"), "store sales", ("temp",)),
        ("date,temp,store nr", ("{r}", "{n}.5"), "temp", ()),
    ],
)
def test_the_target_of_a_series(
    tmp_path: Path, header: str, columns: tuple[str, ...], target: str, others: tuple[str, ...]
) -> None:
    found = guess(tmp_path, header, daily(*columns))
    assert (found.task, found.roles.target, found.alternatives, found.undecided) == (
        "forecasting", target, others, False,
    )  # fmt: skip


def test_where_nothing_speaks_for_one_column_none_is_guessed(tmp_path: Path) -> None:
    rows = daily("{r}", "{n}.5")
    found = guess(tmp_path, "date,temp,wind", rows)
    assert (found.undecided, found.roles.target) == (True, None)
    assert found.alternatives == ("temp", "wind")
    arguments = ["init", str(tmp_path / "ws"), "--data", str(tmp_path / "x.csv")]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert '"date" holds times, and temp and wind could each be the target' in refused.stderr
    assert not (tmp_path / "ws").exists()
    made = CliRunner().invoke(app, [*arguments, "--target", "wind"])
    assert made.exit_code == 0, made.output


def test_a_column_that_is_the_same_throughout_each_series_is_not_predicted(tmp_path: Path) -> None:
    rows = [
        f"{day},{item},{item}.99,{n * 37 % 101}" for n, day in enumerate(DAYS) for item in "123"
    ]
    found = guess(tmp_path, "date,item_id,price,bought", rows)
    assert (found.roles.target, found.roles.series) == ("bought", "item_id")


def test_y_is_an_axis_beside_x_and_z(tmp_path: Path) -> None:
    rows = daily("{r}", "{n}.5", "{r}1")
    assert guess(tmp_path, "date,x,y,z", rows).undecided
    assert guess(tmp_path, "date,x,y,w", rows).roles.target == "y"


def test_the_choice_is_printed_with_the_other_columns(tmp_path: Path) -> None:
    guess(tmp_path, "date,temp,mw", daily("{r}", "{n}.5"))
    path = str(tmp_path / "x.csv")
    for command in (["inspect", path], ["init", str(tmp_path / "ws"), "--data", path]):
        result = CliRunner().invoke(app, command)
        assert "target: mw (also possible: temp)" in result.stdout.splitlines()


def test_two_unnamed_columns_of_words_are_asked_about(tmp_path: Path) -> None:
    found = guess(tmp_path, "text,colour,shape", sentences("{c}", "{c}x"))
    assert (found.undecided, found.alternatives) == (True, ("colour", "shape"))
    found = guess(tmp_path, "text,colour,size", sentences("{c}", "3"))
    assert found.roles.label == "colour"


@pytest.mark.parametrize("label", ["intent {}", "{}", "a rather long name of the intent number {}"])
def test_many_classes_are_classes(tmp_path: Path, label: str) -> None:
    rows = [f"these are the words of {n},{label.format(n % 80)}" for n in range(480)]
    found = guess(tmp_path, "text,intent", rows)
    assert (found.task, found.roles.label, found.roles.text) == (
        "classification", "intent", "text",
    )  # fmt: skip


def test_comments_beside_a_series_are_not_what_is_learned_from(tmp_path: Path) -> None:
    found = guess(tmp_path, "date,mw,note", daily("{r}", "all is well on day {n}"))
    assert (found.task, found.roles.target) == ("forecasting", "mw")


@pytest.mark.parametrize(
    "names",
    [
        "JAN,FEB,MAR,APR,MAY,JUN", "2019,2020,2021,2022,2023,2024",
        "Jan 20,Feb 20,Mrz 20,Apr 20,Mai 20,Jun 20", "2020Q1,2020Q2,2020Q3,2020Q4,X,Y",
        "2020-01,2020-02,2020-03,2020-04,2020-05,2020-06", "X1990,X1991,X1992,X1993,mean,max",
    ],
)  # fmt: skip
def test_a_table_with_a_column_for_each_month_is_explained(tmp_path: Path, names: str) -> None:
    rows = [f"{1950 + n}," + ",".join(f"{n * (k + 1) % 7}.25" for k in range(6)) for n in range(40)]
    found = guess(tmp_path, f"region,{names}", rows)
    assert (found.task, found.undecided) == (None, True)
    assert found.reason.startswith("a wide table: ")
    assert "frame.melt(id_vars=['region'" in found.reason


MONTHS = [(year, month) for year in range(2018, 2024) for month in range(1, 13)]
NAMES = ("January", "February", "March", "April", "May", "June", "July", "August", "September",
         "October", "November", "December")  # fmt: skip


@pytest.mark.parametrize(
    ("header", "rows", "step"),
    [
        ("year,month,y", [f"{y},{m}" for y, m in MONTHS], "1 month"),
        ("Jahr,Monat,y", [f"{y},{m}" for y, m in MONTHS], "1 month"),
        ("year,month,y", [f"{y},{NAMES[m - 1]}" for y, m in MONTHS], "1 month"),
        ("month,year,y", [f"{NAMES[m - 1][:3]},{y}" for y, m in MONTHS], "1 month"),
        ("year,quarter,y", [f"{y},{q}" for y in range(1990, 2010) for q in range(1, 5)],
         "1 quarter"),
        ("date,hour,y", [f"{d},{h}" for d in DAYS[:5] for h in range(24)], "1 hour"),
        ("year,month,day,y", [f"{d.year},{d.month},{d.day}" for d in DAYS], "1 day"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("several", [False, True])
def test_columns_of_the_parts_of_a_time_make_it(
    tmp_path: Path, header: str, rows: list[str], step: str, several: bool
) -> None:
    *parts, _ = header.split(",")
    table = [f"{row},{n * 37 % 101 / 7}" for n, row in enumerate(rows)]
    if several:
        header, table = f"{header},shop", [f"{row},{shop}" for shop in "ab" for row in table]
    found = guess(tmp_path, header, table)
    order = ("date", "year", "Jahr", "month", "Monat", "quarter", "day", "hour")
    assert found.roles.times == tuple(sorted(parts, key=order.index))
    assert (found.roles.target, found.roles.series) == ("y", "shop" if several else None)
    clock = inspect([tmp_path / "x.csv"]).files[0].clock
    assert clock is not None
    assert (clock.step, clock.doubled, clock.missing) == (step, 0, 0)
    draft = draft_study(tmp_path / "x.csv")
    assert tomllib.loads(draft.toml)["data"]["time"] == list(found.roles.times)
    by_hand = guess(tmp_path, header, table, time=",".join(parts))
    assert by_hand.roles.times == tuple(parts)


@pytest.mark.parametrize("name", ["MESS_DATUM", "fecha", "Zeit", "время", "日期", "timestamp"])
def test_numbers_are_times_where_the_name_says_so(tmp_path: Path, name: str) -> None:
    rows = [f"{day:%Y%m%d}00,{n * 37 % 101 / 7}" for n, day in enumerate(DAYS)]
    found = guess(tmp_path, f"{name},level", rows)
    assert (found.task, found.roles.time) == ("forecasting", name)


# --- roles that are given ---


@pytest.mark.parametrize("name", ["time", "week", "t", "date_block_num", "Zyklus"])
def test_a_column_may_number_the_steps_of_a_series(tmp_path: Path, name: str) -> None:
    rows = [f"{step},{step * 37 % 101 / 7}" for step in range(1, 146)]
    found = guess(tmp_path, f"{name},load", rows)
    assert (found.task, found.roles.time, found.roles.target) == ("forecasting", name, "load")
    assert found.reason == f'"{name}" numbers the steps, "load" a number for each'


def test_a_column_may_number_the_steps_of_each_series(tmp_path: Path) -> None:
    rows = [f"{week},{store},{week * 37 % 101 / 7}" for store in "abc" for week in range(1, 60)]
    found = guess(tmp_path, "week,store_id,sales", rows)
    assert (found.roles.time, found.roles.series) == ("week", "store_id")
    # The names of these series say nothing; it helps to be told.
    found = guess(tmp_path, "time,pen,weight", [row.replace("a", "1") for row in rows[:59] * 2])
    assert found.task is None
    assert '"time" numbers the steps of several series, name their column: --series' in found.reason


@pytest.mark.parametrize("name", ["firm", "Firma", "entreprise", "household"])
def test_numbered_firms_are_series(tmp_path: Path, name: str) -> None:
    rows = [
        f"{firm},{year},{firm * year % 97}.5" for firm in (1, 2, 3) for year in range(1950, 1980)
    ]
    found = guess(tmp_path, f"{name},year,capital", rows)
    assert (found.roles.time, found.roles.series, found.roles.target) == ("year", name, "capital")


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("time,status,age", "{r},{b},{n}"),  # until something happened to each patient
        ("index,width,height", "{n},{r},{r}"),
        ("hour,load,wind", "{b},{r},{r}"),
    ],
)
def test_other_numbers_are_no_steps_of_a_series(tmp_path: Path, header: str, row: str) -> None:
    rows = [row.format(n=n, r=n * 37 % 101, b=n % 2) for n in range(60)]
    assert guess(tmp_path, header, rows).task is None


def test_a_series_column_that_is_given_rules_out_sequences(tmp_path: Path) -> None:
    rows = [
        f"{day},{shop},{n * 37 % 101 / 7},{'north' if shop < 2 else 'south'}"
        for shop in range(4)
        for n, day in enumerate(DAYS)
    ]
    header = "date,store_id,sales,label"
    assert guess(tmp_path, header, rows).rows == "sequences"
    found = guess(tmp_path, header, rows, series="store_id")
    assert (found.task, found.roles.series, found.roles.target) == (
        "forecasting", "store_id", "sales",
    )  # fmt: skip
    assert guess(tmp_path, header, rows, horizon=7).rows == "series"


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"text": "note", "series": "a"}, "--series is for series, which can't have --text"),
        ({"id": "a", "horizon": 3}, "--horizon is for series, which can't have --id"),
        ({"target": "a", "covariates": ("a",)}, '"a" is given as --target and as --covariates'),
        ({"known": ("b,c",)}, 'no column "b,c"'),
    ],
)
def test_roles_that_exclude_each_other_are_refused(
    tmp_path: Path, roles: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        guess(tmp_path, "date,a,b,note", daily("{r}", "{n}.5", "all is well on day {n}"), **roles)


def test_a_list_of_columns_may_be_one_value(tmp_path: Path) -> None:
    rows = daily("{r}", "{r}1", "{b}")
    found = guess(tmp_path, "date,mw,a,b", rows, covariates=("a,b",))
    assert found.roles.covariates == ("a", "b")


# --- columns that can't be read as what they seem to hold ---


@pytest.mark.parametrize("name", ["start_date", "Jour", "fecha_hora", "Kalenderwoche", "Periodo"])
def test_a_column_named_after_times_is_never_a_text_or_an_id(tmp_path: Path, name: str) -> None:
    rows = [f"on the day {n:03},{n * 37 % 101 / 7}" for n in range(60)]
    (tmp_path / "x.csv").write_text("\n".join([f"{name},y", *rows]), encoding="utf-8")
    with pytest.raises(DataError, match=f'line 2: column "{name}" is "on the day 000", not a time'):
        draft_study(tmp_path / "x.csv")


@pytest.mark.parametrize("unit", ["K", " kW", " °C", "m/s"])
def test_numbers_with_units_are_no_classes_of_a_series(tmp_path: Path, unit: str) -> None:
    found = guess(tmp_path, "day,power", daily(f"{{r:.3f}}{unit}"))
    assert (found.task, found.roles.target) == ("forecasting", "power")
    with pytest.raises(DataError, match="Write only the number, in the same unit"):
        draft_study(tmp_path / "x.csv")
    found = guess(tmp_path, "day,load,speed", daily("{r:.3f}", f"{{r:.3f}}{unit}"))
    draft = draft_study(tmp_path / "x.csv")
    assert "speed" not in tomllib.loads(draft.toml)["data"].get("covariates", [])
    assert any("speed" in finding.message for finding in draft.inspection.findings)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        ("0x{n:04X}", "Write it as a decimal number"),
        ("{n} 3/8", "Write it as a decimal number"),
        ("<{n}.5", "Write a number for what is below or above the limit"),
        ("{r:.2f}M", "Write only the number, in the same unit"),
        ("01:{n:02}:30", "Write it as a decimal number"),
        ("'{r:.2f}", "Correct it"),
        ("{n}.-", "Write only the number"),
        ("٣٫{n}", "Write it with the digits 0 to 9"),
    ],
)
def test_numbers_in_forms_that_are_not_read_are_no_classes(
    tmp_path: Path, number: str, advice: str
) -> None:
    guess(tmp_path, "day,power", daily(number))
    with pytest.raises(DataError, match=f"line 2: column .power. is .*{advice}"):
        draft_study(tmp_path / "x.csv")
    guess(tmp_path, "day,load,power", daily("{r}", number))
    draft = draft_study(tmp_path / "x.csv")
    assert "power" not in tomllib.loads(draft.toml)["data"].get("covariates", [])


@pytest.mark.parametrize(
    "code", ["/Date(16{n:03}0531200000)/", "{n:08x}-9dad-11d1-80b4-00c04fd430c8"]
)
def test_one_word_that_is_mostly_digits_is_no_text(tmp_path: Path, code: str) -> None:
    rows = [f"{code.format(n=n)},{n * 37 % 101 / 7}" for n in range(90)]
    found = guess(tmp_path, "created,load", rows)
    assert found.task is None
    assert (
        f'line 2: column "created" is "{rows[0].partition(",")[0]}", which is neither'
        in found.reason
    )


@pytest.mark.parametrize("names", [["Mon", "Tue", "Wed"], ["January", "February", "March"]])
def test_a_part_of_a_time_alone_is_named(tmp_path: Path, names: list[str]) -> None:
    rows = [f"{names[n % 3]},{n * 37 % 101 / 7}" for n in range(90)]
    found = guess(tmp_path, "Day,load", rows)
    assert '"Day" is only a part of a time: add its date or its year' in found.reason


def test_texts_of_one_word_are_read_by_their_signs(tmp_path: Path) -> None:
    rows = [
        f"{''.join('ACGT'[n * k * k % 4] for k in range(3, 60))}G{n:b},{'ab'[n % 2]}"
        for n in range(90)
    ]
    rows = [row.replace("0", "A").replace("1", "C") for row in rows]
    guess(tmp_path, "sequence,class", rows)
    assert 'tokenizer = "char"' in draft_study(tmp_path / "x.csv").toml


def test_many_numbers_in_a_field_are_no_text(tmp_path: Path) -> None:
    rows = [f"{n % 7}," + " ".join(str(n * k % 256) for k in range(9)) for n in range(90)]
    assert guess(tmp_path, "emotion,pixels", rows).task is None


def test_other_texts_that_are_not_read_are_named(tmp_path: Path) -> None:
    rows = [f"a title of {n},and these are the words of {n},{'ab'[n % 2]}" for n in range(90)]
    found = guess(tmp_path, "title,body,label", rows)
    assert found.roles.text == "body"
    inspection = inspect([tmp_path / "x.csv"])
    assert any("title" in each.message and "too" in each.message for each in inspection.findings)


def test_a_column_that_counts_within_each_sequence_orders_its_steps(tmp_path: Path) -> None:
    rows = [f"{k},{step},{step * k % 7}.5,{'ab'[k % 2]}" for k in range(20) for step in range(9)]
    assert guess(tmp_path, "subject,epoch,level,stage", rows).roles.time == "epoch"


def test_lists_in_a_column_of_a_series_are_named_and_left_out(tmp_path: Path) -> None:
    frame = pl.DataFrame({"day": DAYS, "load": [n * 37 % 101 / 7 for n in range(len(DAYS))]})
    frame.with_columns(vector=pl.concat_list("load", "load")).write_parquet(tmp_path / "x.parquet")
    draft = draft_study(tmp_path / "x.parquet")
    assert draft.inspection.guess.roles.target == "load"
    assert any("List" in finding.message for finding in draft.inspection.findings)


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("measured", [3, 9])
def test_a_mark_for_what_was_not_measured_makes_no_categories(
    tmp_path: Path, decimal: str, measured: int
) -> None:
    """However many rows have it: panels have no sun in half of the hours."""
    rows = [
        f"{day};{n}{decimal}5;" + (f"{n * 37 % 1009 / 7:.2f}" if n % 10 < measured else "-")
        for n, day in enumerate(pd.date_range("2020-01-01", periods=400).strftime("%Y-%m-%d"))
    ]
    guess(tmp_path, "day;load;sun", [row.replace(".", decimal) for row in rows])
    draft = draft_study(tmp_path / "x.csv")
    assert tomllib.loads(draft.toml)["data"]["missing_values"] == ["-"]
    assert 'covariates = ["sun"]' in draft.toml


def test_months_with_a_letter_next_to_a_year_are_no_series(tmp_path: Path) -> None:
    rows = [f"CU,{2005 + n // 12},M{n % 12 + 1:02},{n * 37 % 101}" for n in range(60)]
    found = guess(tmp_path, "Series ID,Year,Period,Value", rows)
    assert (found.roles.time, found.roles.series) == (("Year", "Period"), None)
    assert found.roles.target == "Value"


@pytest.mark.parametrize("clock", ["{h:02}:00:00", "{h:02}.00.00", "{h}:00"])
def test_a_time_of_day_next_to_its_date_is_no_mistake(tmp_path: Path, clock: str) -> None:
    rows = [
        f"{date(2024, 1, 1 + n // 24):%d/%m/%Y};{clock.format(h=n % 24)};{n * 37 % 101}"
        for n in range(200)
    ]
    found = guess(tmp_path, "Date;Time;load", rows)
    assert found.roles.time == ("Date", "Time")
    draft = draft_study(tmp_path / "x.csv")
    assert not [each for each in draft.inspection.findings if each.about == "mistake"]


def test_a_message_about_many_columns_names_the_first_and_counts_the_others(tmp_path: Path) -> None:
    header = ",".join(
        ["label", *(f"sensor{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(60))]
    )
    found = guess(
        tmp_path, header, [",".join(str((n * i) % 7) for i in range(61)) for n in range(9)]
    )
    assert found.task is None
    assert "more" in found.reason
    assert len(found.reason) < 500


# --- other tables ---


def test_fields_between_spaces_are_explained(tmp_path: Path) -> None:
    found = guess(tmp_path, "date load", [f"{day} {n * 37 % 101}" for n, day in enumerate(DAYS)])
    assert found.undecided
    assert found.reason.startswith("spaces seem to separate the fields")


# --- whole sequences, one a row ---


def waves(rows: int = 60, steps: int = 20) -> list[list[float]]:
    """Waves of three lengths, at any level and from any beginning."""
    drawn = random.Random(0)
    made = []
    for row in range(rows):
        level, begin = drawn.gauss(0, 3), 6 * drawn.random()
        made.append(
            [
                round(level + math.sin((0.3 + 0.2 * (row % 3)) * step + begin), 3)
                for step in range(steps)
            ]
        )
    return made


def joined(*fields: object) -> str:
    return ",".join(str(field) for field in fields)


STEPS = [f"t{step}" for step in range(20)]


def test_a_row_may_be_a_whole_sequence(tmp_path: Path) -> None:
    rows = [joined(f"p{n}", "abc"[n % 3], *row) for n, row in enumerate(waves())]
    found = guess(tmp_path, joined("name", "label", *STEPS), rows)
    assert (found.task, found.rows, found.roles.label) == ("classification", "sequences", "label")
    assert (found.roles.steps, found.roles.features) == (("t",), tuple(STEPS))
    assert 't0, t1, t2 and 17 more look like the steps of a sequence in each row, "label" the' in (
        found.reason
    )
    rows = [joined(n * 37 % 101 / 7, *row) for n, row in enumerate(waves())]
    found = guess(tmp_path, joined("fat", *STEPS), rows)
    assert (found.task, found.rows, found.roles.target) == ("regression", "sequences", "fat")


def test_columns_with_two_names_and_as_many_numbers_are_two_channels(tmp_path: Path) -> None:
    header = joined(*(f"x{n}" for n in range(12)), *(f"y_{n}" for n in range(12)), "kind")
    rows = [joined(*row[:12], *row[8:], "abc"[n % 3]) for n, row in enumerate(waves())]
    found = guess(tmp_path, header, rows)
    assert (found.roles.steps, found.roles.label) == (("x", "y_"), "kind")


@pytest.mark.parametrize("last", [False, True])
def test_without_names_the_class_of_a_whole_sequence_is_first_or_last(
    tmp_path: Path, last: bool
) -> None:
    rows = [joined(*((*row, n % 3) if last else (n % 3, *row))) for n, row in enumerate(waves())]
    found = guess(tmp_path, rows[0], rows[1:])
    label = "column_21" if last else "column_1"
    assert (found.rows, found.roles.label, found.roles.steps) == ("sequences", label, ("column_",))
    assert label not in found.roles.features
    assert len(found.roles.features) == 20


def test_where_both_ends_could_be_the_class_the_user_is_asked(tmp_path: Path) -> None:
    rows = [joined(n % 3, *row, n % 2) for n, row in enumerate(waves())]
    found = guess(tmp_path, rows[0], rows[1:])
    assert found.undecided
    assert "column_1 and column_22 could each be the label" in found.reason


def test_numbered_columns_in_no_order_are_steps_only_if_the_user_says_so(tmp_path: Path) -> None:
    drawn = random.Random(0)
    rows = [joined("ab"[n % 2], *(drawn.gauss(0, 1) for _ in range(20))) for n in range(90)]
    header = joined("label", *STEPS)
    found = guess(tmp_path, header, rows)
    assert found.undecided
    said = "neighbouring columns are no more alike than distant ones. If they are steps, add"
    assert f'{said} --steps "t"' in found.reason

    found = guess(tmp_path, header, rows, steps=("t",))
    assert (found.rows, found.roles.label) == ("sequences", "label")
    # Answers of one person are alike, but neighbours are no more so.
    mood = [drawn.gauss(3, 1) for _ in range(90)]
    rows = [joined("ab"[m > 3], *(round(m + drawn.gauss(0, 1)) for _ in STEPS)) for m in mood]
    assert "neighbouring columns are no more alike" in guess(tmp_path, header, rows).reason


def test_whole_sequences_without_anything_to_predict_are_explained(tmp_path: Path) -> None:
    found = guess(tmp_path, joined(*STEPS), [joined(*row) for row in waves()])
    assert found.undecided
    assert "no other column holds a class or a number to predict" in found.reason
    with pytest.raises(DataError, match='no column is named "q" and a number'):
        guess(tmp_path, joined(*STEPS), [joined(*row) for row in waves()], steps=("q",))


def test_a_name_that_is_numbered_like_the_steps_is_none_of_them(tmp_path: Path) -> None:
    rows = [joined(f"Y{n}", *row) for n, row in enumerate(waves())]
    found = guess(tmp_path, joined(*(f"V{n}" for n in range(1, 22))), rows)
    assert found.undecided
    assert found.reason.startswith("V2, V3, V4 and 17 more look like the steps")
    assert "frame.melt(id_vars=['V1'], " in found.reason


def test_steps_without_numbers_or_of_different_counts_are_refused(tmp_path: Path) -> None:
    rows = [f"{n % 7}.5,{n},{n % 3}.5,{'xyz'[n % 3]},{'ab'[n % 2]}" for n in range(40)]
    found = guess(tmp_path, "t0,t1,u0,w0,label", rows, steps=("t", "u"))
    assert '"t" matches 2 and "u" matches 1; every' in found.reason
    found = guess(tmp_path, "t0,t1,u0,w0,label", rows, steps=("w",))
    assert found.undecided
    assert 'numbers, "w" matches 0; every channel needs steps' in found.reason
    with pytest.raises(DataError, match=r"--steps is for rows .*, which can't have --id"):
        guess(tmp_path, "t0,t1,u0,w0,label", rows, steps=("t",), id="label")


def test_numbered_columns_beside_a_time_are_explained(tmp_path: Path) -> None:
    found = guess(tmp_path, joined("Date", *STEPS), daily(*["{r}"] * 20))
    assert found.undecided
    assert 'look like the steps within each time in "Date"' in found.reason


def test_many_channels_of_a_step_a_row_are_no_whole_sequences(tmp_path: Path) -> None:
    rows = [
        joined(n // 10, n % 10, *row, "ab"[n // 10 % 2]) for n, row in enumerate(waves(rows=200))
    ]
    found = guess(tmp_path, joined("walk_id", "step", *STEPS, "label"), rows)
    assert (found.roles.id, found.roles.time, found.roles.steps) == ("walk_id", "step", ())


def test_two_columns_that_name_the_series_together_are_explained(tmp_path: Path) -> None:
    rows = [
        f"{day},{shop},{item},{n * 37 % 101}"
        for shop in ("north", "south")
        for item in ("tea", "milk")
        for n, day in enumerate(DAYS)
    ]
    (tmp_path / "x.csv").write_text("\n".join(["date,shop,item,sales", *rows]))
    with pytest.raises(DataError, match="shop and item seem to name the series together"):
        draft_study(tmp_path / "x.csv")


PANEL = [
    f'"{100 * state + year}",{state},{year},{state % 2},{(state * year) % 101 / 7}'
    for state in range(1, 13)
    for year in range(1982, 1990)
]


def test_numbers_name_the_series_of_a_panel(tmp_path: Path) -> None:
    found = guess(tmp_path, "row,state,year,law,rate", PANEL, target="rate")
    assert (found.roles.series, found.roles.time) == ("state", "year")


def test_a_panel_sorted_by_time_is_explained_since_its_numbers_may_count_steps(
    tmp_path: Path,
) -> None:
    by_year = sorted(PANEL, key=lambda row: row.split(",")[2])
    (tmp_path / "x.csv").write_text("\n".join(["row,state,year,law,rate", *by_year]))
    with pytest.raises(DataError, match=r'"state" numbers the rows .* add --series state'):
        draft_study(tmp_path / "x.csv", roles=Roles(target="rate"))


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ('"",state,year,law,rate', PANEL),  # numbers in no order
        ('"",text,stars', [f"name {n},{row}" for n, row in enumerate(sentences("{n}.5"))]),
        ('"",id,step,x,label', [f"{7 * n},{n // 6},{n % 6},{n}.5,{n // 12}" for n in range(60)]),
    ],
)
def test_a_column_without_a_name_has_no_role(tmp_path: Path, header: str, rows: list[str]) -> None:
    found = guess(tmp_path, header, rows)
    assert found.task is not None
    assert "" not in [name for _, name in found.roles.columns()]
    assert "" not in (*found.roles.features, *found.alternatives)


def test_a_column_without_a_name_cannot_be_given_a_role(tmp_path: Path) -> None:
    with pytest.raises(DataError, match='no column ""'):
        guess(
            tmp_path,
            '"",text,stars',
            [f"{n % 3},{row}" for n, row in enumerate(sentences("{n}"))],
            label="",
        )


def test_a_target_that_changes_within_an_id_is_forecast(tmp_path: Path) -> None:
    found = guess(tmp_path, "row,person,year,union,wage", PANEL, target="wage")
    assert (found.task, found.roles.series) == ("forecasting", "person")


def test_a_year_beside_the_whole_time_is_not_the_time(tmp_path: Path) -> None:
    rows = [f"{day.year},{row}" for day, row in zip(DAYS, daily("{r}"), strict=True)]
    found = guess(tmp_path, "Year,Date,goals", rows)
    assert (found.roles.time, found.roles.target) == ("Date", "goals")


def test_a_column_called_time_of_words_alone_holds_none(tmp_path: Path) -> None:
    rows = [f"{n * 37 % 101 / 7},{n}.5,{('lunch', 'dinner')[n % 2]}" for n in range(60)]
    assert guess(tmp_path, "bill,tip,time", rows).rows is None


def test_an_id_with_a_letter_among_numbers_names_a_sequence(tmp_path: Path) -> None:
    owners = [*map(str, range(100, 140)), "207a"]
    rows = [
        f"{owner},{step},{step * n * 7 % 5}.5,{'ab'[n % 2]}"
        for n, owner in enumerate(owners)
        for step in range(9)
    ]
    (tmp_path / "x.csv").write_text("\n".join(["subject,step,x,group", *rows]))
    assert draft_study(tmp_path / "x.csv").inspection.guess.roles.id == "subject"


def test_rows_without_an_order_are_no_work_for_a_gru(tmp_path: Path) -> None:
    rows = [f"{n % 7}.5,{n * 37 % 101 / 7},{'abc'[n % 3]}" for n in range(60)]
    assert (
        "for rows that stand alone, take a model of tables"
        in guess(tmp_path, "length,width,species", rows).reason
    )


def test_parts_of_a_date_without_its_year_are_named(tmp_path: Path) -> None:
    rows = [f"{n % 50}.5,{day.month},{day.day}" for n, day in enumerate(DAYS)]
    reason = guess(tmp_path, "ozone,Month,Day", rows).reason
    assert '"Month" is only a part of a time: add its date or its year' in reason


def test_lists_are_no_texts_and_no_classes(tmp_path: Path) -> None:
    rows = [{"values": [n, n + 1], "text": "of some words", "labels": ["a"]} for n in range(40)]
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = inspect([path]).guess
    assert found.task is None
    assert 'line 1: column "values" holds several numbers in each field' in found.reason
    assert 'line 1: column "labels" holds lists or objects' in found.reason


# --- markers for missing values ---


@pytest.mark.parametrize("marker", ["?", "-", ".", ":", "--", r"\N"])
def test_a_sign_among_numbers_is_drafted_as_missing(tmp_path: Path, marker: str) -> None:
    path = tmp_path / "x.csv"
    rows = [row.replace(",x", f",{marker}") for row in daily("{r}")]
    rows[7::20] = [f"{day},{marker}" for day in DAYS[7::20]]
    path.write_text("\n".join(["day,load", *rows]))
    draft = draft_study(path)
    assert tomllib.loads(draft.toml)["data"]["missing_values"] == [marker]
    said = [finding.message for finding in draft.inspection.findings]
    assert f'column "load": 3 fields are "{marker}", and so read as missing' in said


def test_a_number_that_may_mark_missing_values_is_only_offered(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = daily("{r}")
    rows[7] = f"{DAYS[7]},-999"
    path.write_text("\n".join(["day,load", *rows]))
    draft = draft_study(path)
    assert "missing_values" not in tomllib.loads(draft.toml)["data"]
    assert '# missing_values = ["-999"] # if -999 in "load" stands for a missing' in draft.toml


def test_options_say_how_fields_are_written(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = [f"{day};1.{n:03};{'n.b.' if n % 20 == 7 else n % 7}" for n, day in enumerate(DAYS)]
    path.write_text("\n".join(["day;load;sun", *rows]))
    arguments = ["init", str(tmp_path / "w"), "--data", str(path), "--target", "load"]
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    made = CliRunner().invoke(app, [*arguments, "--thousands", ".", "--missing", "n.b."])
    assert made.exit_code == 0, made.output
    data = tomllib.loads((tmp_path / "w/studies/x.toml").read_text())["data"]
    assert (data["thousands"], data["missing_values"]) == (".", ["n.b."])


# --- what has no role ---


def test_the_number_of_a_row_is_not_predicted_from_its_text(tmp_path: Path) -> None:
    found = guess(tmp_path, "id,text", [f"{n},these are the words of {n}" for n in range(90)])
    assert found.task is None
    assert found.reason.startswith('"text" holds texts, but no column holds a class or a number')


def test_times_without_numbers_are_named(tmp_path: Path) -> None:
    found = guess(tmp_path, "time,door", daily("open"))
    assert found.reason.startswith('"time" holds times, but no column holds a number for each')


def test_a_text_and_words_for_each_hour_are_comments_beside_a_series(tmp_path: Path) -> None:
    words = "{n} is cloudy until the evening,sun{b},rain{b},{r}"
    found = guess(tmp_path, "time,summary,icon,kind,temperature", daily(words))
    assert (found.rows, found.roles.target) == ("series", "temperature")


@pytest.mark.parametrize(
    ("header", "rows", "reason"),
    [
        ("Jan^Feb", [f"{n}^{n % 7}.5" for n in range(60)], '"^" seems to separate the fields'),
        (
            "Station of Lowestoft until 2007",
            [f"1990  {n}   {n % 7}.5" for n in range(60)],
            "spaces seem to separate the fields",
        ),
        (
            "__label__a some words",
            [f"__label__{'ab'[n % 2]} the words of {n}" for n in range(60)],
            "each row begins with its label, as fastText writes it",
        ),
        (
            "values,label",
            [f'"[{n}.  0.5\n -1.5]",{n % 2}' for n in range(60)],
            'column "values" holds several numbers in each field',
        ),
        (
            "time_step,x,activity",
            [f"{n % 20},{n * 37 % 101 / 7},{'ab'[n // 20 % 2]}" for n in range(200)],
            'line 22: "time_step" starts again. If a sequence begins there',
        ),
        (
            "seconds_elapsed,x",
            [f"{n / 100:.4f},{n * 37 % 101 / 7}" for n in range(200)],
            '"seconds_elapsed" rises evenly, as times do, but only whole numbers',
        ),
        (
            "geo," + ",".join(map(str, range(2000, 2010))),
            [f"c{n}," + ",".join(f"{n}.{year} b" for year in range(10)) for n in range(60)],
            "a wide table: 2000, 2001",
        ),
        (
            "item," + ",".join(f"d_{day}" for day in range(20)),
            [f"item_{n}," + ",".join(str(n * day % 9) for day in range(20)) for n in range(60)],
            "If each row is a series to forecast, write one row for each step instead",
        ),
        ("y", [f"{n * 37 % 101}" for n in range(60)], "number them in a column called step"),
        (
            "subject,trial,t,x,disease",
            [
                f"{n // 60},{n // 10 % 6},{n % 10},{n * 37 % 101 / 7},{'ab'[n // 60 % 2]}"
                for n in range(1200)
            ],
            '"t" starts again within a "subject", and "trial" tells apart what begins there',
        ),
        (
            "subject,t,x,disease",
            [f"{n // 60},{n % 10},{n * 37 % 101 / 7},{'ab'[n // 60 % 2]}" for n in range(1200)],
            '"t" starts again within a "subject": number what begins there in a column',
        ),
        (
            "day," + ",".join(f"{hour}:00" for hour in range(24)),
            daily(*["{r}"] * 24),
            "a wide table: 0:00, 1:00",
        ),
        (
            "year,Q1,Q2,Q3,Q4",
            [f"{1950 + n},{n}.5,3.{n},2.{n},1.{n}" for n in range(60)],
            "a wide table: Q1, Q2, Q3 and Q4",
        ),
        (
            "invoice,amount",
            [f"2023-{n:03},{n * 37 % 101 / 7}" for n in range(1, 200)],
            'column "invoice" is "2023-001", which is neither a number nor a time',
        ),
    ],
)
def test_what_stands_in_the_way_is_named(
    tmp_path: Path, header: str, rows: list[str], reason: str
) -> None:
    assert reason in guess(tmp_path, header, rows).reason


def test_words_of_a_column_that_is_a_day_in_another_language_are_no_days(tmp_path: Path) -> None:
    rows = [f"{['the', 'cat'][n % 2]},{'ON'[n % 2]}" for n in range(90)]
    assert "part of a time" not in guess(tmp_path, "Word,Tag", rows).reason


def test_numbers_below_a_limit_are_numbers(tmp_path: Path) -> None:
    rows = [f"{day},{n % 5},{n % 20 if n % 4 else '<1'}" for n, day in enumerate(DAYS)]
    guess(tmp_path, "week,a,b", rows)
    (finding,) = [each for each in inspect([tmp_path / "x.csv"]).findings if each.blocks]
    assert 'column "b" is "<1", not a finite number. Write a number for' in finding.message


def test_columns_that_say_which_weekday_it_is_make_no_wide_table(tmp_path: Path) -> None:
    days = "Mon,Tue,Wed,Thu,Fri"
    found = guess(tmp_path, f"date,{days},load", daily(*["{b}"] * 5, "{r}"))
    assert found.roles.target == "load"


def test_series_whose_times_do_not_overlap_are_seen_by_their_blocks(tmp_path: Path) -> None:
    late, early = daily("b,{r}"), [f"{day - timedelta(90)},a,{day.day}.5" for day in DAYS]
    assert guess(tmp_path, "date,shop,y", [*late, *early]).roles.series == "shop"
    assert guess(tmp_path, "date,shop,y", [*early, *late]).roles.series is None


# --- times and axes ---


@pytest.mark.parametrize("unit", [1, 1000])
def test_counts_since_1970_need_no_name(tmp_path: Path, unit: int) -> None:
    rows = [f"{(1704067200 + 3600 * n) * unit},{n * 37 % 101 / 7}" for n in range(90)]
    assert guess(tmp_path, "a,b", rows).roles.time == "a"
    rows = [f"{(1704067200 + n) * unit},{n * 37 % 101 / 7}" for n in range(90)]
    assert guess(tmp_path, "a,b", rows).roles.time is None


def test_a_date_is_the_time_beside_the_seconds_since_1970(tmp_path: Path) -> None:
    rows = [f"{1704067200 + 86400 * n},{day},{n % 7}.5" for n, day in enumerate(DAYS)]
    assert guess(tmp_path, "unix,opened,close", rows).roles.time == "opened"


def test_the_rows_of_one_day_have_a_date_and_a_time(tmp_path: Path) -> None:
    rows = [f"16/12/2006,{n // 60:02}:{n % 60:02}:00,{n * 37 % 101 / 7}" for n in range(90)]
    assert guess(tmp_path, "Date,Time,power", rows).roles.times == ("Date", "Time")


@pytest.mark.parametrize("names", ["acc_x,acc_y,acc_z", "x-axis,y-axis,z-axis"])
def test_an_axis_is_no_target_whatever_it_is_called(tmp_path: Path, names: str) -> None:
    assert guess(tmp_path, f"time,{names}", daily("{r}", "{r}", "{r}")).undecided
