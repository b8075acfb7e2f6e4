"""Names of months and weekdays in other languages, read and written as their column has them."""

from __future__ import annotations

import re
import tracemalloc
from datetime import date, datetime, timedelta

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_optuna.data.readers.calendar_names import in_english, month_of, names_in
from gru_optuna.data.readers.time_columns import parse_columns
from gru_optuna.data.readers.times import parse_times

MONTHS = {
    "Januar 2005": "Januar Februar März April Mai Juni Juli August September Oktober November "
    "Dezember",
    "Mrz 05": "Jan Feb Mrz Apr Mai Jun Jul Aug Sep Okt Nov Dez",
    "janv. 2005": "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
    "2005 fevrier": "janvier fevrier mars avril mai juin juillet aout septembre octobre novembre "
    "decembre",
    "ene-05": "ene feb mar abr may jun jul ago sep oct nov dic",
    "ENERO DE 2005": "ENERO FEBRERO MARZO ABRIL MAYO JUNIO JULIO AGOSTO SEPTIEMBRE OCTUBRE "
    "NOVIEMBRE DICIEMBRE",
    "Gennaio 2005": "Gennaio Febbraio Marzo Aprile Maggio Giugno Luglio Agosto Settembre Ottobre "
    "Novembre Dicembre",
    "março/2005": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro "
    "dezembro",
    "mrt 2005": "jan feb mrt apr mei jun jul aug sep okt nov dec",
    "paź 2005": "sty lut mar kwi maj cze lip sie wrz paź lis gru",
    "Ocak 2005": "Ocak Şubat Mart Nisan Mayıs Haziran Temmuz Ağustos Eylül Ekim Kasım Aralık",
    "январь 2005": "январь февраль март апрель май июнь июль август сентябрь октябрь ноябрь "
    "декабрь",
}


@pytest.mark.parametrize("form", MONTHS)
@settings(max_examples=15)
@given(data=st.data())
def test_months_are_read_and_written_with_the_names_of_their_column(
    form: str, data: st.DataObject
) -> None:
    first = data.draw(st.dates(date(1970, 1, 1), date(2028, 12, 1)))
    months = pd.date_range(first.replace(day=1), periods=18, freq="MS")
    names = MONTHS[form].split()

    def write(month: pd.Timestamp) -> str:
        shown = form.replace("2005", str(month.year)).replace("05", f"{month.year % 100:02}")
        return re.sub(r"(?!DE )[^\W\d_]+\.?", names[month.month - 1], shown, count=1)

    fields = [write(month) for month in months]
    parsed = parse_times(pl.Series(values=fields[:14]))
    assert (parsed.values == months[:14].to_numpy()).all()
    # The last months may have names that the first don't: there are twelve in fourteen.
    shown = parsed.forms[0].write(pl.Series(values=months.to_numpy("datetime64[us]")))
    assert shown.to_list() == fields


@pytest.mark.parametrize(
    ("weekdays", "months", "form"),
    [
        ("lundi mardi mercredi jeudi vendredi samedi dimanche", "janvier février mars avril",
         "{0} {1} {2} {3}"),
        ("lun mar mié jue vie sáb dom", "ene feb mar abr", "{0}, {1:02} {2} {3}"),
        ("Mo Di Mi Do Fr Sa So", "Januar Februar März April", "{0}, {1:02}. {2} {3}"),
        ("ma di wo do vr za zo", "januari februari maart april", "{0} {1} {2} {3}"),
        ("seg ter qua qui sex sáb dom", "janeiro fevereiro março abril", "{0} {1} de {2} de {3}"),
        ("пн вт ср чт пт сб вс", "января февраля марта апреля", "{0}, {1} {2} {3} г."),
        ("lunedì martedì mercoledì giovedì venerdì sabato domenica", "1 2 3 4", "{0} {1}/{2}/{3}"),
    ],
)  # fmt: skip
def test_days_with_their_weekdays_come_back_as_they_were(
    weekdays: str, months: str, form: str
) -> None:
    days = [date(2024, 1, 1) + timedelta(days=passed) for passed in range(100)]
    fields = [
        form.format(
            weekdays.split()[day.weekday()], day.day, months.split()[day.month - 1], day.year
        )
        for day in days
    ]
    parsed = parse_times(pl.Series(values=fields))
    assert parsed.values.astype("datetime64[D]").tolist() == days
    assert parsed.forms[0].write(pl.Series(values=parsed.values)).to_list() == fields


def test_a_month_that_the_column_lacks_has_a_name_in_its_style() -> None:
    form = parse_times(pl.Series(values=["Okt. 2023", "Nov. 2023", "Dez. 2023"])).forms[0]
    assert form.write(pl.Series(values=[datetime(2024, 2, 1)])).to_list() == ["Feb. 2024"]


def test_years_and_names_of_months_make_a_time_together() -> None:
    names = MONTHS["janv. 2005"].split()
    columns = [
        pl.Series("année", [2020 + passed // 12 for passed in range(24)]),
        pl.Series("mois", [names[passed % 12] for passed in range(24)]),
    ]
    parsed = parse_columns(columns)
    assert (parsed.values == pd.date_range("2020-01-01", periods=24, freq="MS").to_numpy()).all()
    assert parsed.forms[1].write(pl.Series(values=parsed.values)).to_list() == columns[1].to_list()


def test_names_are_looked_up_without_case_and_accents() -> None:
    assert [month_of(name) for name in ("Août", "AOUT", "sept.", "Brumaire", "May")] == [
        8, 8, 9, None, 5,
    ]  # fmt: skip
    assert in_english("mardi 5 mars 2024") == "Mon 5 Mar 2024"
    assert in_english("a walk in the park, 5 miles") == "a walk in the park, 5 miles"


def test_names_are_looked_for_without_a_python_text_for_each_row() -> None:
    rows = 20_000
    texts = pl.Series(
        values=[str(datetime(2000, 1, 1) + timedelta(minutes=i)) for i in range(rows)]
    )
    months = texts.str.slice(5, 2).cast(pl.Int8)
    names_in(texts.head(10), months.head(10), "months")  # reads the names of all languages
    tracemalloc.start()
    try:
        assert names_in(texts, months, "months") == ()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < rows  # a text takes sixty times as much
