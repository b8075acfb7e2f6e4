"""Where a delimited file begins, and every row of a file to predict."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gru_optuna.data.readers.column_formats import TableFormats
from gru_optuna.data.readers.headers import lacks_header, lines_above, lines_of_units
from gru_optuna.data.readers.in_parts import read_table_in_parts
from gru_optuna.data.readers.tables import read_table
from gru_optuna.errors import DataError
from gru_optuna.scaffold.draft import draft_study

if TYPE_CHECKING:
    from pathlib import Path

ROWS = "2024-01-01{0}1.5\n2024-01-02{0}2.5\n2024-01-03{0}3.5\n"


def read(folder: Path, text: str) -> tuple[list[str], int, tuple[str, ...]]:
    path = folder / "x.csv"
    path.write_text(text)
    table = read_table(path)
    assert path.read_text().splitlines()[int(table.at(0).split()[-1]) - 1].split(";")[0] != ""
    return table.names, len(table), table.notes


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_file_without_names_is_read_whole(tmp_path: Path, separator: str) -> None:
    names, rows, notes = read(tmp_path, ROWS.format(separator))
    assert (names, rows) == (["column_1", "column_2"], 3)
    assert "no line names the columns" in notes[0]


@pytest.mark.parametrize(
    "above",
    [
        "sep=;\n",
        "# made by a logger\n# in 2024\n",
        "Station report\n\n",
        "#datatype;double\n#group;false\n",
        "Station: Oslo\nUnit: mm\n",
    ],
)
def test_lines_above_the_names_are_skipped_with_a_note(tmp_path: Path, above: str) -> None:
    names, rows, notes = read(tmp_path, f"{above}time;rain\n" + ROWS.format(";"))
    assert (names, rows) == (["time", "rain"], 3)
    assert "above the names of the columns" in notes[0]


def test_the_line_of_a_row_counts_the_skipped_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("# a comment\n# another\ntime,y\n2024-01-01,1\n2024-01-02,abc\n2024-01-03,1\n")
    with pytest.raises(DataError, match=r"line 5: column .y. is .abc."):
        read_table(path).numbers("y")


@pytest.mark.parametrize(
    "header",
    ["time,1", "time,2001", ",0", "0,1", "2001,2002", "400.0,400.5", "a,b", "time,y (mm)"],
)
def test_names_that_look_like_numbers_stay_names(header: str) -> None:
    first = header.split(",")
    if header == "400.0,400.5":
        first = ["400.0", "400.5", "401.0"]
    rows = [[f"{1.5 * row + column:.2f}" for column in range(len(first))] for row in range(9)]
    assert not lacks_header([first, *rows])


@settings(max_examples=50)
@given(st.lists(st.from_regex(r"[A-Za-z]{1,2}[0-9]{1,3}", fullmatch=True), min_size=1, max_size=5))
def test_letters_with_a_number_are_names(names: list[str]) -> None:
    rows = [[f"{row * (column + 1)}.5" for column in range(len(names))] for row in range(9)]
    assert not lacks_header([names, *rows])


@pytest.mark.parametrize("years", [("2019", "2020 ", "2021"), ("2020-01", "2020-02", "2020-03")])
def test_the_times_of_a_wide_table_are_names_whatever_its_gaps(years: tuple[str, ...]) -> None:
    rows = [[name, ":" if name in "AB" else "1.5", "2.5", "3.5"] for name in "ABCD"]
    assert not lacks_header([["region", *years], *rows])
    assert lines_above([["A title", ""], ["region", *years], *rows]) == 1


@settings(max_examples=30)
@given(
    title=st.lists(st.sampled_from(["Report;;", "Made on;01.02.2024;", ";;"]), max_size=3),
    before=st.integers(0, 2),
    behind=st.integers(0, 3),
    separator=st.sampled_from(";,\t"),
)
def test_separators_that_only_fill_lines_up_are_no_columns(
    tmp_path: Path, title: list[str], before: int, behind: int, separator: str
) -> None:
    table = [*title, "time;rain;note", *(f"2024-01-{day:02};{day}.5;dry" for day in range(1, 9))]
    lines = [f"{';' * before}{line}{';' * behind}".replace(";", separator) for line in table]
    path = tmp_path / "x.csv"
    path.write_text("\n".join([*lines, separator * (2 + before + behind)]) + "\n")
    read = read_table(path)
    assert read.names == ["time", "rain", "note"]
    assert read.column("rain").to_list() == [f"{day}.5" for day in range(1, 9)]
    filled = before + behind
    assert any("neither a name nor a value" in note for note in read.notes) == bool(filled)
    assert any("above the names" in note for note in read.notes) == bool(title)


@pytest.mark.parametrize("field", ["well, really", 'said ""no"" to it', "plain"])
def test_spaces_in_front_of_quotes_do_not_make_these_text(tmp_path: Path, field: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text("n, text, label\n" + f'1, "{field}", "yes"\n' * 9)
    table = read_table(path)
    assert table.column("text").unique().to_list() == [field.replace('""', '"')]
    assert table.labels("label").names == ("yes",)
    assert table.at(8) == f"{path}, line 10"


@pytest.mark.parametrize("text", ["plain words", 'said ""no"" to it'])
def test_a_column_without_a_name_has_none_whoever_reads_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(",text\n" + "".join(f'{n},"{text}"\n' for n in range(9)))
    assert read_table(path).names == ["", "text"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,x,2\n2,y,3\n3,z,4\n", "If the first field numbers the rows, as R's write.table"),
        ("------\n|a|b|\n------\n|1|2|\n------\n", 'line 1: "------" names no column'),
        ("a,,\n1,2,3\n4,5,6\n", "line 1: column 2 has no name"),
    ],
)
def test_lines_that_are_no_names_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        read_table(path)


@pytest.mark.parametrize(
    ("lines", "count"),
    [
        ([["", "°C", "%"]], 1),
        ([["Ticker", "A", "A"], ["Date", "", ""]], 2),
        ([["TS", "Deg C", "%"], ["", "Avg", "Smp"]], 2),
        ([["", "", ""]], 1),
        ([["2024-01-01", "", "NA"]], 0),
        ([["2024-01-01", "1.5", "?"]], 0),
    ],
)
def test_lines_of_units_are_noticed(lines: list[list[str]], count: int) -> None:
    rows = [[f"2024-01-{day:02}", f"{day}.5", f"{2 * day}"] for day in range(2, 20)]
    assert lines_of_units([*lines, *rows]) == count


def test_texts_with_classes_need_no_names() -> None:
    rows = [["spam", "win a big prize"], ["ham", "see you at noon"], ["spam", "win it now today"]]
    rows += [["ham", "are you there yet"], ["spam", "last chance to win"], ["ham", "ok"]]
    assert lacks_header(rows)
    assert not lacks_header([["label", "text"], *rows])


def test_a_row_that_is_too_long_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("text,label\ngood, really,1\nbad, really,0\n")
    with pytest.raises(DataError, match=r"line 2: 3 fields, .* Put quotes around .* commas"):
        read_table(path)


@pytest.mark.parametrize(
    ("row", "advice"),
    [
        ("'good, really',1", "Put double quotes around fields that hold commas, not single ones"),
        ("good,1,", "Remove the separator at the end of the rows"),
    ],
)
def test_the_advice_suits_the_row(tmp_path: Path, row: str, advice: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"text,label\n{row}\n{row}\n")
    with pytest.raises(DataError, match=advice):
        read_table(path)


def test_a_single_column_needs_no_name(tmp_path: Path) -> None:
    names, rows, _ = read(tmp_path, "1.5\n2.5\n1.5\n")
    assert (names, rows) == (["column_1"], 3)
    assert read(tmp_path, "0\n2.5\n1.5\n")[:2] == (["0"], 2)  # as pandas writes a series


def test_a_name_that_is_broken_into_lines_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    rows = "".join(f"2024-{1 + n // 28:02}-{1 + n % 28:02},{n % 7}.5\n" for n in range(100))
    path.write_text(f'"Date\n(UTC)","Load\r\n[kW]"\n{rows}')
    assert read_table(path).names == ["Date (UTC)", "Load [kW]"]
    assert 'target = "Load [kW]"' in draft_study(path).toml


def test_quotes_are_advised_only_where_commas_separate(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("time;y\n1;2\n" + "1;2\n" * 60 + "1;2;3\n")
    with pytest.raises(DataError, match="Give every row one field for each column"):
        read_table(path)


@settings(max_examples=100)
@given(st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=3), min_size=1, max_size=6))
def test_any_records_have_a_beginning_or_none(head: list[list[str]]) -> None:
    above = lines_above(head)
    assert above is None or 0 <= above < len(head)
    if above is not None:
        assert lacks_header(head[above:]) in (True, False)


EMPTY = {
    "a quoted row of a single column": ("x.csv", 'text\ngood\n""\nbad\n', "line 3"),
    "a last quoted row": ("x.csv", 'text\ngood\n""\n', "line 3"),
    "a line between rows": ("x.csv", "text\ngood\n\nbad\n", "line 3"),
    "commas alone": ("x.csv", "text,n\ngood,1\n,\nbad,2\n", "line 3"),
    "an object without values": ("x.jsonl", '{"text": "good"}\n{}\n', "line 2"),
    "an object of nulls": ("x.jsonl", '{"text": "good"}\n{"text": null}\n', "line 2"),
}


@pytest.mark.parametrize("case", EMPTY)
def test_an_empty_row_to_predict_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    name, text, place = EMPTY[case]
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=f"{place}: the row is empty"):
        list(read_table_in_parts(tmp_path / name, 2, every=True))


def test_an_empty_row_of_parquet_is_refused_too(tmp_path: Path) -> None:
    pl.DataFrame({"text": ["good", "fine", "", "bad"]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="row 3: the row is empty"):
        list(read_table_in_parts(tmp_path / "x.parquet", 2, every=True))


@pytest.mark.parametrize("text", ["text\ngood\nbad\n\n\n", "text,n\n\ngood,1\n\nbad,2\n"])
def test_blank_lines_that_are_no_rows_are_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    parts = list(read_table_in_parts(tmp_path / "x.csv", 1, every=True))
    assert [table.strings("text")[0] for table, _ in parts] == ["good", "bad"]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_one_later_row_is_read_as_training_read_the_first_lines(
    tmp_path: Path, separator: str
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(ROWS.format(separator))
    formats = TableFormats()
    read_table(path, formats)
    stored = TableFormats.from_json(formats.as_json())
    path.write_text(f"2024-01-04{separator}4.5\n")
    assert read_table(path, stored).frame.rows() == [("2024-01-04", "4.5")]
    # Alone, the row may be a header: names of columns are all that a file need have.
    with pytest.raises(DataError, match="no rows below the names"):
        read_table(path)
    path.write_text(f"column_1{separator}column_2\n2024-01-04{separator}4.5\n")
    assert read_table(path, stored).frame.rows() == [("2024-01-04", "4.5")]


def test_a_line_that_is_no_row_isnt_blamed_on_commas(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n3,4\nSource: an office\n")
    with pytest.raises(DataError, match=r"line 4: 1 field, but.*remove lines that are not rows"):
        read_table(tmp_path / "x.csv")
