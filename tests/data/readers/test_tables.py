"""Reading tables: the same rows from every format, or the line where a file is wrong."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from helpers.table_files import (
    DATA,
    HOSTILE,
    Rows,
    contents,
    delimited,
    json_lines,
    parquet,
    refusal,
    table,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_optuna.data.readers.tables import Table, read_table
from gru_optuna.errors import DataError
from gru_optuna.inspection.inspect import inspect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def said(call: Callable[[], object], rows: Table) -> str:
    """What is said about a column that isn't accepted, without its folder."""
    with pytest.raises(DataError) as caught:
        call()
    return str(caught.value).replace(f"{rows.path.parent}/", "")


# --- one content, every format ---


@settings(max_examples=150)
@given(rows=contents())
def test_the_same_rows_from_every_format(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows
) -> None:
    # A field of spaces is missing, and a row of missing fields is no row.
    held = [
        {name: field if field and field.strip() else None for name, field in row.items()}
        for row in rows
    ]
    held = [row for row in held if any(row.values())]
    written = {
        "x.csv": delimited(rows, ","),
        "crlf.csv": delimited(rows, ",", "\r\n"),
        "bom.csv": b"\xef\xbb\xbf" + delimited(rows, ","),
        "utf16.csv": delimited(rows, ",").decode().encode("utf-16"),
        "x.tsv": delimited(rows, "\t"),
        "x.jsonl": json_lines(rows),
        "x.parquet": parquet(rows),
    }
    folder = tmp_path_factory.getbasetemp()
    for name, content in written.items():
        if not held:
            assert "no rows" in refusal(folder, content, name)
            continue
        back = table(folder, content, name)
        assert [dict.fromkeys(rows[0]) | row for row in back.frame.to_dicts()] == held, name


@settings(max_examples=60)
@given(
    numbers=st.lists(
        st.floats(allow_nan=True, allow_infinity=False) | st.integers(-(10**15), 10**15),
        min_size=1,
        max_size=20,
    )
)
def test_the_same_numbers_from_every_format(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    expected = np.array(numbers, dtype=np.float64)
    pl.DataFrame({"x": expected, "row": range(len(numbers))}).write_parquet(folder / "n.parquet")
    lines = [json.dumps({"x": x, "row": row}) for row, x in enumerate(numbers)]
    written = {
        "n.csv": "x,row\n" + "".join(f"{x!r},{row}\n" for row, x in enumerate(numbers)),
        "n.jsonl": "\n".join(lines),
        "n.parquet": (folder / "n.parquet").read_bytes(),
    }
    for name, content in written.items():
        np.testing.assert_array_equal(table(folder, content, name).numbers("x"), expected, name)


def test_real_files_are_read_whole() -> None:
    snippets = read_table(DATA / "movie_snippets.csv")
    assert (len(snippets), snippets.names) == (10_566, ["text", "label"])
    assert set(snippets.labels("label")) == {"positive", "negative"}
    traffic = read_table(DATA / "traffic_hourly.csv")
    volume = traffic.numbers("traffic_volume")
    assert (len(volume), np.isnan(volume).sum()) == (17_520, 104)
    times = traffic.times("datetime")
    assert str(times[0]) == "2016-10-01T00:00:00.000000"
    assert times[-1] - times[0] == np.timedelta64(17_519, "h")


# --- how a file was saved makes no difference ---


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x\n2,y\n",
        "a,b\n1,x\n2,y",
        "a,b\r\n1,x\r\n2,y\r\n",
        "a,b\r1,x\r2,y\r",
        "\n\na,b\n1,x\n\n2,y\n,\n\n",
        "a;b\n1;x\n2;y\n",
        "a\tb\n1\tx\n2\ty\n",
        '"a"," b"\n"1","x"\n"2",y\n',
        "\ufeffa,b\n1,x\n2,y\n",
        "a,b\n1,x\n2,y\n".encode("utf-16"),
    ],
    ids=["LF", "no last newline", "CRLF", "CR", "blank lines", "semicolons", "tabs", "quotes",
         "byte order mark", "UTF-16"],
)  # fmt: skip
def test_how_a_table_was_saved_makes_no_difference(tmp_path: Path, content: bytes | str) -> None:
    assert table(tmp_path, content).frame.rows() == [("1", "x"), ("2", "y")]


def test_semicolons_mean_decimal_commas(tmp_path: Path) -> None:
    prices = table(tmp_path, "price;kind\n1,5;a\n-2,25;b\n3;c\n")
    assert prices.numbers("price").tolist() == [1.5, -2.25, 3.0]


def test_commas_in_texts_do_not_make_a_semicolon_file_a_comma_file(tmp_path: Path) -> None:
    assert table(tmp_path, "text;label\nwell, no;a\nyes;b\n").names == ["text", "label"]


def test_a_tab_file_may_have_quotes_that_mean_themselves(tmp_path: Path) -> None:
    rows = table(tmp_path, 'text\tlabel\n"Great" film\t1\n5" disk\t0\n', "x.tsv")
    assert rows.strings("text").fill_null("").to_list() == ['"Great" film', '5" disk']


def test_a_lone_quote_inside_a_field_means_itself(tmp_path: Path) -> None:
    assert table(tmp_path, 'text,label\n5" disk,1\nno,0\n').strings("text").fill_null(
        ""
    ).to_list() == ['5" disk', "no"]


def test_json_of_mixed_kinds_stays_as_written(tmp_path: Path) -> None:
    rows = table(tmp_path, '{"a": 1, "b": "x"}\n{"a": "007"}\n{"a": true, "b": [1]}\n', "x.jsonl")
    assert rows.strings("a").fill_null("").to_list() == ["1", "007", "true"]
    assert rows.strings("b").fill_null("").to_list() == ["x", "", "[1]"]


def test_lists_next_to_a_label_do_not_change_it(tmp_path: Path) -> None:
    lists = ['"votes": [1, 2]', '"votes": null', '"votes": []']
    for beside in (lists, ['"votes": {"up": 1}'] * 3, ['"votes": 1'] * 3):
        lines = "".join(f'{{"stars": {n}.0, {held}}}\n' for n, held in enumerate(beside, start=1))
        rows = table(tmp_path, lines, "x.jsonl")
        assert rows.labels("stars").names == ("1", "2", "3")
    assert table(tmp_path, "".join(f"{{{held}}}\n" for held in lists), "x.jsonl").strings(
        "votes"
    ).to_list() == ["[1,2]", "[]"]


# --- places ---


def test_rows_are_named_as_the_file_counts_them(tmp_path: Path) -> None:
    rows = table(tmp_path, 'a,b\n"x\ny\nz",1\n\n2,3\n')
    assert rows.at(0) == f"{tmp_path / 'x.csv'}, line 2"
    assert rows.at(1) == f"{tmp_path / 'x.csv'}, line 6"
    lines = table(tmp_path, '{"a": 1}\n\n{}\n{"a": 2}\n', "x.jsonl")
    assert [lines.at(row) for row in range(2)] == [f"{lines.path}, line {line}" for line in (1, 4)]
    stored = table(tmp_path, parquet([{"a": "1"}, {"a": None}, {"a": "2"}]), "x.parquet")
    assert stored.at(1) == f"{stored.path}, row 3"


@settings(max_examples=40)
@given(rows=contents(), newline=st.sampled_from(["\n", "\r\n"]))
def test_every_row_is_found_in_its_line(
    tmp_path_factory: pytest.TempPathFactory, rows: Rows, newline: str
) -> None:
    marked = [{"mark": f"mark{number}", **row} for number, row in enumerate(rows)]
    content = delimited(marked, ",", newline)
    back = table(tmp_path_factory.getbasetemp(), content)
    for number in range(len(rows)):
        line = int(back.at(number).rpartition(" ")[2])
        assert content.decode().split("\n")[line - 1].startswith(f"mark{number},")


# --- files that are wrong ---


@pytest.mark.parametrize(("name", "content", "expected"), HOSTILE)
def test_a_file_that_cannot_be_read_is_refused_with_its_place(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    message = refusal(tmp_path, content, name)
    assert expected in message
    assert "\n" not in message


@settings(max_examples=150)
@given(
    content=st.binary(max_size=80) | st.text('a1,;\t"\n\r é', max_size=40).map(str.encode),
    name=st.sampled_from(["h.csv", "h.tsv", "h.jsonl", "h.parquet"]),
)
def test_whatever_the_bytes_there_is_a_table_or_one_message(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    with suppress(DataError):  # and nothing else
        rows = table(tmp_path_factory.getbasetemp(), content, name)
        assert rows.at(len(rows) - 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("review.csv", 'no such file. Did you mean "reviews.csv"?'),
        ("none/x.csv", "there is no folder"),
        (".", " is a folder. Known: reviews.csv."),
    ],
)
def test_what_is_no_file_is_refused_with_the_files_there(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "reviews.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=re.escape(message)):
        read_table(tmp_path / name)


# --- columns ---


def test_an_unknown_column_is_refused_with_the_nearest(tmp_path: Path) -> None:
    rows = table(tmp_path, "text,label\nx,1\n")
    assert said(lambda: rows.column("lable"), rows) == (
        'x.csv: no column "lable". Did you mean "label"?'
    )


def test_texts_stay_as_they_are(tmp_path: Path) -> None:
    rows = table(tmp_path, "id,text\n007,NA\n1.0, x \n,y\n")
    assert rows.strings("id").fill_null("").to_list() == ["007", "1.0", ""]
    assert rows.strings("text").fill_null("").to_list() == ["NA", " x ", "y"]
    assert list(rows.labels("text")) == ["NA", "x", "y"]
    assert said(lambda: rows.labels("id"), rows).startswith('x.csv, line 4: column "id" is empty.')


def test_stored_numbers_become_the_texts_people_wrote(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    columns = {
        "whole": [1, 2, None],
        "gaps": [1.0, None, 2.0],
        "half": [0.5, 1.0, 2.0],
        "flag": [True, False, None],
    }
    pl.DataFrame(columns).write_parquet(path)
    rows = read_table(path)
    assert rows.strings("whole").fill_null("").to_list() == ["1", "2", ""]
    assert rows.strings("gaps").fill_null("").to_list() == ["1", "", "2"]
    assert rows.strings("half").fill_null("").to_list() == ["0.5", "1.0", "2.0"]
    assert rows.strings("flag").fill_null("").to_list() == ["true", "false", ""]


def test_lists_are_no_texts(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pl.DataFrame({"a": [[1, 2]]}).write_parquet(path)
    rows = read_table(path)
    assert "holds List(Int64) values, not texts" in said(
        lambda: rows.strings("a").fill_null("").to_list(), rows
    )


@pytest.mark.parametrize(
    ("value", "advice"),
    [(b"ab", "one value per field"), (timedelta(1), "numbers, such as seconds")],
)
def test_bytes_and_durations_are_no_texts(tmp_path: Path, value: object, advice: str) -> None:
    """They are named, and the other columns are read."""
    path = tmp_path / "x.parquet"
    days = [date(2024, 1, 1) + timedelta(n) for n in range(60)]
    pl.DataFrame({"day": days, "load": [n % 7 / 2 for n in range(60)], "a": value}).write_parquet(
        path
    )
    found = inspect([path])
    assert found.guess.roles.target == "load"
    assert any(advice in finding.message for finding in found.findings)


@pytest.mark.parametrize("word", ["", "NA", "na", "N/A", "NaN", "null", "None", " "])
def test_missing_numbers_are_nan(tmp_path: Path, word: str) -> None:
    numbers = table(tmp_path, f"a,b\n 1.5 ,x\n{word},x\n-2e3,x\n").numbers("a")
    np.testing.assert_array_equal(numbers, [1.5, np.nan, -2000.0])


@pytest.mark.parametrize(
    ("got", "message"),
    [
        ("abc", 'x.csv, line 3: column "a" is "abc", not a finite number. Correct it'),
        ("1_0", 'is "1_0", not a finite number.'),
        ("?", 'is "?", not a finite number.'),
        ("inf", 'line 3: column "a" is "inf", not a finite number.'),
        ("1e999", 'is "1e999", not a finite number.'),
    ],
)
def test_the_first_row_that_is_no_number_is_named(tmp_path: Path, got: str, message: str) -> None:
    rows = table(tmp_path, f"a,b\n1,x\n{got},x\nalso not,x\n")
    assert message in said(lambda: rows.numbers("a"), rows)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (["2024-02-01", "2024-02-13"], "2024-02-13"),
        (["2024-2-1 5:00", "2024-2-13 17:30"], "2024-02-13T17:30"),
        (["2024-02-01T05:00:00.5", "2024-02-13"], "2024-02-13"),
        (["2024-02-01T05:00:00Z", "2024-02-13T02:00:00+02:00"], "2024-02-13"),
        (["2024/02/01", "2024/02/13"], "2024-02-13"),
        (["1/2/2024", "13/2/2024"], "2024-02-13"),
        (["2/1/2024 11:00 PM", "2/13/2024 1:00 PM"], "2024-02-13T13:00"),
        (["1/2/2024", "2/1/2024", "3/1/2024"], "2024-03-01"),  # ascending as months only
        (["01.02.2024 05:00", "13.02.2024 05:00"], "2024-02-13T05:00"),
        (["2024年2月1日", "2024年2月13日"], "2024-02-13"),
        (["20240201", "20240213"], "2024-02-13"),
        (["1 Feb 2024", "13 Feb 2024"], "2024-02-13"),
        (["May 1, 2024", "May 13, 2024"], "2024-05-13"),
        (["2024-01", "2024-02"], "2024-02-01"),
        (["1949", "1950"], "1950-01-01"),
        (["1706745600", "1707782400"], "2024-02-13"),
        (["1706745600000", "1707782400000"], "2024-02-13"),
    ],
)
def test_times_as_people_write_them(tmp_path: Path, written: list[str], meant: str) -> None:
    rows = table(tmp_path, "t\tb\n" + "".join(f"{time}\tx\n" for time in written), "x.tsv")
    assert rows.times("t")[-1] == np.datetime64(meant, "us")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (["2024-02-01", "x"], 'line 3: column "t" is "x", not a time like "2024-02-01".'),
        (["2024-02-01", "2024-02-30"], 'line 3: column "t" is "2024-02-30", not a time'),
        (["2024-02-01", ""], 'line 3: column "t" is empty. Every row needs a time'),
        (["noon"], 'line 2: column "t" is "noon", not a time. Write it as 2024-12-31'),
        (["1/2/24"], 'is "1/2/24": day, month or year first? Write it as 2024-12-31.'),
        (["1/2/2024", "2/2/2024"], 'is "1/2/2024": day or month first? Write it as 2024-12-31.'),
        (["0.5", "1.5"], 'line 2: column "t" is "0.5", not a time.'),
        (["840", "850", "900", "1000"], 'column "t" is "1000", not a time like "840"'),
        (["1706745600", "5"], 'line 3: column "t" is 5, not a time.'),
    ],
)
def test_times_that_are_none(tmp_path: Path, written: list[str], message: str) -> None:
    rows = table(tmp_path, "t\tb\n" + "".join(f"{time}\tx\n" for time in written), "x.tsv")
    assert message in said(lambda: rows.times("t"), rows)


@settings(max_examples=60)
@given(
    moments=st.lists(st.datetimes(min_value=datetime(1900, 1, 1)), min_size=1, max_size=9),
    separator=st.sampled_from("T "),
)
def test_iso_times_are_read_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, moments: list[datetime], separator: str
) -> None:
    lines = "".join(f"{moment.isoformat(separator)}\n" for moment in moments)
    back = table(tmp_path_factory.getbasetemp(), f"t\n{lines}").times("t")
    assert back.tolist() == moments


def test_stored_dates_are_times(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    zoned = pl.Series(["2024-02-13T02:00:00+02:00"]).str.to_datetime("%+")
    pl.DataFrame({"date": [date(2024, 2, 13)], "zoned": zoned}).write_parquet(path)
    rows = read_table(path)
    assert rows.times("date")[0] == rows.times("zoned")[0] == np.datetime64("2024-02-13")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("Windows-1252", "Fecha;Año;Straße\n1;¿qué?;50 °C\n"),
        ("Windows-1250", "Data;Sprzedaż\n1;źródło, łódź\n"),
        ("Windows-1251", "Дата;Цена\n1;много слов\n"),
        ("Shift_JIS", "日付,売上\n1,ありがとう\n"),
        ("Shift_JIS", "日付,売上\n1,商品\n"),
        ("GB18030", "日期,销量\n1,你好世界\n"),
        ("CP949", "문장,라벨\n이 영화는 정말 재미있었습니다,긍정\n"),
        ("EUC-JP", "文章,ラベル\nこの映画はとても面白かったです,良い\n"),
    ],
)
def test_the_likely_encoding_is_named_with_the_line_as_it_reads(
    tmp_path: Path, encoding: str, text: str
) -> None:
    (tmp_path / "x.csv").write_bytes(text.encode(encoding))
    with pytest.raises(DataError) as refused:
        read_table(tmp_path / "x.csv")
    line = text.splitlines()[0]
    assert f'Read as {encoding}, the line begins "{line}"; if that is right' in str(refused.value)
