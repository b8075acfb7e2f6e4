"""What data are and what is wrong with them, on real files and on files with known faults."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from helpers.workspaces import REPOSITORY
from typer.testing import CliRunner

from gru_optuna.cli import app
from gru_optuna.data.readers.column_formats import TableFormats
from gru_optuna.errors import DataError
from gru_optuna.inspection.inspect import Inspection, inspect
from gru_optuna.inspection.roles import Roles
from gru_optuna.inspection.scripts import scripts_of, without_spaces

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.study_file import Task

DATA = REPOSITORY / "studies" / "data"


def look(
    folder: Path, text: str, name: str = "x.csv", task: Task | None = None, **given: str
) -> Inspection:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return inspect([path], Roles(**given), task=task)  # type: ignore[arg-type]


def found(inspection: Inspection) -> list[str]:
    """All findings, without folders."""
    (folder,) = {file.file.rpartition("/")[0] for file in inspection.files}
    return [finding.message.replace(f"{folder}/", "") for finding in inspection.findings]


def texts(rows: int, label: str = "{}") -> str:
    """A table of different texts, with two classes in turn."""
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    lines = [
        " ".join(words[int(digit)] for digit in f"{row:05}") + f",{label.format('ab'[row % 2])}"
        for row in range(rows)
    ]
    return "text,label\n" + "\n".join(lines) + "\n"


def hourly(rows: int) -> list[datetime]:
    return [datetime(2024, 1, 1) + timedelta(hours=hour) for hour in range(rows)]


# --- real data ---


def test_sentences_with_labels_are_seen_as_such_and_nothing_is_wrong() -> None:
    inspection = inspect([DATA / "movie_snippets.csv"])
    (report,) = inspection.files
    text, label = report.columns
    assert (report.rows, text.kind, label.kind) == (10_566, "text", "category")
    assert text.scripts == {"Latin": 1.0}
    assert text.words is not None
    assert (text.words.low, text.words.median, text.words.high) == (1, 18, 51)
    assert report.classes == {"negative": 5325, "positive": 5241}
    assert inspection.findings == ()
    assert (inspection.guess.task, inspection.guess.rows) == ("classification", "texts")
    assert (inspection.guess.roles.text, inspection.guess.roles.label) == ("text", "label")


def test_hourly_traffic_is_a_series_with_the_week_as_its_season() -> None:
    inspection = inspect([DATA / "traffic_hourly.csv"])
    (report,) = inspection.files
    clock = report.clock
    assert clock is not None
    assert (clock.step, clock.missing, clock.doubled, clock.unordered) == ("1 hour", 0, 0, 0)
    assert [season.steps for season in clock.seasons] == [168, 24]
    assert clock.seasons[0].error == pytest.approx(0.164, abs=0.01)
    missing = {column.name: column.missing for column in report.columns}
    assert missing["traffic_volume"] == 104
    assert missing["datetime"] == 0
    assert found(inspection) == [
        'column "snow_1h" has a single value, so nothing can be learned from it'
    ]
    roles = inspection.guess.roles
    assert (inspection.guess.task, roles.target, roles.time) == (
        "forecasting", "traffic_volume", "datetime",
    )  # fmt: skip
    assert roles.features == ("clouds_all", "rain_1h", "temp")


def test_recordings_have_lengths_channels_and_classes() -> None:
    parts = [DATA / f"japanese_vowels_{part}.ts" for part in ("train", "test")]
    inspection = inspect(parts)
    train, test = inspection.files
    assert (train.rows, train.channels, test.rows) == (270, 12, 370)
    assert train.lengths is not None
    assert (train.lengths.low, train.lengths.high) == (7, 26)
    assert train.classes == {str(speaker): 30 for speaker in range(1, 10)}
    assert inspection.findings == ()
    assert (inspection.guess.task, inspection.guess.rows) == ("classification", "sequences")


# --- columns ---


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (["1.5", "2", "", "4"], "number"),
        (["1", "2", "3", "4"], "id"),  # it counts rows
        (["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-05"], "time"),
        (["red", "blue", "red", "blue"], "category"),
        (["a man sat there", "two men came by", "no one was here", "it was a long day"], "text"),
        (["今天天气真好啊", "昨天下雨了吗", "我喜欢这个电影", "不推荐这家店"], "text"),
        (["x", "x", "", "x"], "constant"),
        (["", "", "", ""], "empty"),
        (["NA", "nan", "NA", ""], "empty"),
        (["007", "7", "007", "7"], "number"),
    ],
)
def test_the_kind_of_a_column(tmp_path: Path, fields: list[str], kind: str) -> None:
    rows = "".join(f"{field};{number % 2}\n" for number, field in enumerate(fields))
    (report,) = look(tmp_path, f"it;other\n{rows}").files
    assert report.columns[0].kind == kind


def test_many_short_different_words_are_ids(tmp_path: Path) -> None:
    rows = "".join(f"K{number * 37 % 100:03},{number % 3}\n" for number in range(100))
    assert look(tmp_path, f"code,x\n{rows}").files[0].columns[0].kind == "id"


def test_one_mistake_does_not_make_a_number_a_text(tmp_path: Path) -> None:
    rows = "".join(f"{number / 7},{'ab'[number % 2]}\n" for number in range(100))
    inspection = look(tmp_path, f"x,label\n{rows}1.2.3,a\n")
    assert inspection.files[0].columns[0].kind == "number"
    assert found(inspection)[0].startswith('line 102: column "x" is "1.2.3", not a finite number')


@pytest.mark.parametrize(
    ("text", "scripts", "spaceless"),
    [
        ("hello there", {"Latin": 1.0}, False),
        ("今天天气好", {"Han": 1.0}, True),
        ("カタカナとひらがな", {"Hiragana": 0.5556, "Katakana": 0.4444}, True),
        ("안녕하세요", {"Hangul": 1.0}, False),  # Korean has spaces
        ("สวัสดี", {"Thai": 1.0}, True),
        ("привет", {"Cyrillic": 1.0}, False),
        ("好 ok ok ok", {"Latin": 0.8571, "Han": 0.1429}, False),
        ("123 !?", {}, False),
    ],
)
def test_scripts_are_distinguished(text: str, scripts: dict[str, float], spaceless: bool) -> None:
    assert scripts_of(pl.Series([text, None])) == scripts
    assert without_spaces(scripts) is spaceless


# --- findings ---


def test_equal_texts_are_counted_whatever_their_white_space(tmp_path: Path) -> None:
    inspection = look(tmp_path, texts(60) + "one  one one one one ,a\none one one one one,b\n")
    assert found(inspection) == [
        "1 text has several labels, the first at x.csv, line 2: no model can predict them all",
        "2 of 62 texts repeat an earlier one, the first at x.csv, line 62: keep each once, or "
        "a random split trains on test rows",
    ]


def test_rows_of_the_test_file_in_the_training_file(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    train.write_text(texts(60))
    test.write_text(texts(3) + "quite another line of words,c\n")
    inspection = inspect([train, test])
    assert found(inspection) == [
        "3 of 4 texts are also in train.csv, the first at test.csv, line 2",
        'class "c" is not in train.csv',
    ]
    assert {finding.file for finding in inspection.findings} == {str(test)}


def test_equal_sequences_are_found_within_and_across_files(tmp_path: Path) -> None:
    values = np.arange(24.0).reshape(4, 3, 2)
    values[3] = values[0]
    labels = np.array(["a", "b", "a", "b"])
    for name, kept in {"train": slice(None), "test": slice(1, 3)}.items():
        np.savez(tmp_path / f"{name}.npz", values=values[kept], labels=labels[kept])
    messages = found(inspect([tmp_path / "train.npz", tmp_path / "test.npz"]))
    assert messages == [
        "1 of 4 sequences repeat an earlier one, the first at train.npz, row 4",
        "2 of 2 sequences are also in train.npz, the first at test.npz, row 1",
    ]


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        (lambda text: text.replace(",b", ",a"), 'column "label" has a single value'),
        (lambda text: text + "one more text for you,\n", '1 row has no "label", the first at'),
        (lambda text: text + ",a\n", '1 row has no "text", the first at x.csv, line 62'),
        (lambda text: text + "one more text for you,c\n", "1 class has fewer than 10 rows"),
        (lambda text: text.replace(",b", ",a", 25), '"a" has 11 times the rows of "b": accuracy'),
        (lambda text: text.replace("text,", "3.5,", 1), 'a column is called "3.5": if the first'),
    ],
)
def test_faults_of_texts_and_labels(tmp_path: Path, change, answer: str) -> None:  # type: ignore[no-untyped-def]
    inspection = look(tmp_path, change(texts(60)), task="classification")
    assert any(answer in message for message in found(inspection)), found(inspection)


def test_a_column_that_tells_the_label_is_a_likely_leak(tmp_path: Path) -> None:
    lines = texts(100).splitlines()
    rows = [f"{line},{'xy'[number % 2]}{number % 4}" for number, line in enumerate(lines[1:])]
    inspection = look(tmp_path, "\n".join([f"{lines[0]},source", *rows]))
    assert found(inspection) == [
        'column "source" predicts the label of 100 % of the rows: make sure that it is known in '
        "advance, and not made from the label"
    ]


def test_a_column_that_runs_as_the_target_is_a_likely_leak(tmp_path: Path) -> None:
    rows = [f"{time},{math.sin(i)},{2 * math.sin(i) + 1}" for i, time in enumerate(hourly(60))]
    inspection = look(tmp_path, "time,demand,copy\n" + "\n".join(rows))
    assert 'column "copy" has a correlation of 1.0000 with "demand"' in found(inspection)[0]


@pytest.mark.parametrize(
    ("step", "words", "seasons"),
    [
        (timedelta(minutes=15), "15 minutes", [4, 96, 672]),
        (timedelta(hours=1), "1 hour", [24, 168]),
        (timedelta(days=1), "1 day", [7, 365]),
        (timedelta(weeks=1), "1 week", [52]),
        (timedelta(days=30), "30 days", [12]),
        (timedelta(seconds=10), "10 seconds", [6, 360]),
    ],
)
def test_the_step_of_a_clock_and_its_seasons(
    tmp_path: Path, step: timedelta, words: str, seasons: list[int]
) -> None:
    rows = "".join(f"{datetime(2020, 1, 1) + step * i},{i % 5}.5\n" for i in range(1400))
    clock = look(tmp_path, f"time,y\n{rows}").files[0].clock
    assert clock is not None
    assert clock.step == words
    assert sorted(season.steps for season in clock.seasons) == seasons


def test_months_are_a_step_though_they_differ(tmp_path: Path) -> None:
    rows = "".join(f"{1949 + i // 12}-{i % 12 + 1:02},{i % 12}.5\n" for i in range(60))
    clock = look(tmp_path, f"month,passengers\n{rows}").files[0].clock
    assert clock is not None
    assert (clock.step, clock.season, clock.missing) == ("1 month", 12, 0)


def test_gaps_doubled_and_unordered_times_are_named(tmp_path: Path) -> None:
    times = hourly(50)
    times[10:13] = []  # a gap of three
    times[20] = times[19]  # doubled, which leaves another gap
    times[30], times[31] = times[31], times[30]
    rows = "".join(f"{time},{i / 3}\n" for i, time in enumerate(times))
    assert found(look(tmp_path, f"time,y\n{rows}")) == [
        "1 row repeats an earlier time, the first at x.csv, line 22: keep one row for each time, "
        "or name the column of the series",
        "1 row is earlier than the row above, the first at x.csv, line 33: sort the rows by time",
        "4 steps have no row, at 1 hour per step; the first follows 2024-01-01 09:00:00",
    ]


# --- the task ---


def long_form(time: str) -> str:
    steps = [(walk, step) for walk in range(30) for step in range(5)]
    rows = [f"{walk},{step},{walk * step / 7},{'ab'[walk % 2]}" for walk, step in steps]
    return f"walk_id,{time},x,label\n" + "\n".join(rows)


def test_long_form_is_seen_by_its_ids(tmp_path: Path) -> None:
    inspection = look(tmp_path, long_form("step"))
    guess, (report,) = inspection.guess, inspection.files
    assert (guess.task, guess.rows) == ("classification", "sequences")
    assert (guess.roles.id, guess.roles.time, guess.roles.label) == ("walk_id", "step", "label")
    assert guess.roles.features == ("x",)
    assert report.classes == {"a": 15, "b": 15}
    assert report.lengths is not None
    assert report.lengths.high == 5


def test_several_series_are_distinguished(tmp_path: Path) -> None:
    days = [date(2024, 1, 1) + timedelta(days=day) for day in range(40)]
    rows = [f"{day},{shop},{n / 3}" for shop in ("north", "south") for n, day in enumerate(days)]
    inspection = look(tmp_path, "date,shop,sales\n" + "\n".join(rows))
    clock = inspection.files[0].clock
    assert clock is not None
    assert (inspection.guess.roles.series, clock.series, clock.steps) == ("shop", 2, 40)
    assert (clock.doubled, clock.unordered, found(inspection)) == (0, 0, [])


def test_chinese_reviews_are_texts(tmp_path: Path) -> None:
    rows = "".join(f"{n % 2},这家店的第{n}个菜{'不' * (n % 2)}好吃\n" for n in range(100))
    guess = look(tmp_path, f"label,review\n{rows}").guess
    assert (guess.task, guess.roles.text, guess.roles.label) == (
        "classification", "review", "label",
    )  # fmt: skip


def test_the_user_goes_before_the_guess(tmp_path: Path) -> None:
    lines = texts(60).splitlines()
    rows = [f"{line},{number % 3},{number / 7}" for number, line in enumerate(lines[1:])]
    content = "\n".join([f"{lines[0]},stars,price", *rows])
    assert look(tmp_path, content).guess.roles.label == "label"
    assert look(tmp_path, content, label="stars").guess.roles.label == "stars"
    by_target = look(tmp_path, content, target="price").guess
    assert (by_target.task, by_target.roles.target) == ("regression", "price")
    by_task = look(tmp_path, content, task="regression").guess
    assert (by_task.task, by_task.rows) == ("regression", "texts")


def test_a_table_of_single_measurements_is_no_task(tmp_path: Path) -> None:
    rows = "".join(f"{n % 7},{n % 3}\n" for n in range(60))
    guess = look(tmp_path, f"a,b\n{rows}").guess
    assert guess.task is None
    assert guess.reason.startswith("neither texts, nor sequences, nor a series in time")


def test_an_unknown_column_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'no column "lable"\. Did you mean "label"\?'):
        look(tmp_path, texts(10), label="lable")


# --- the command ---


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["inspect", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_is_short_where_all_is_well() -> None:
    path = str(DATA / "movie_snippets.csv")
    assert run(path).splitlines() == [
        f"{path}: 10,566 rows",
        "column  kind      missing  distinct  values",
        "text    text      –        10,566    1 … 18 … 51 words, 3 … 109 … 257 characters, "
        "Latin 100%",
        "label   category  –        2         negative 5,325, positive 5,241",
        "",
        'task    classification: "text" holds texts, "label" the class of each, one of 2',
    ]


def test_the_command_lists_findings_below(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(texts(60) + "one one one one one,a\n")
    assert "\n! 1 of 61 texts repeat an earlier one, the first at " in run(str(path))


def test_wide_signs_are_aligned(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("标签,b\n好,1\n坏,2\n" * 1, encoding="utf-8")
    header, first, second = run(str(path)).splitlines()[1:4]
    assert header.startswith("column  kind")
    assert first.startswith("标签    ")
    assert second.startswith("b       ")


def test_json_holds_all_of_it() -> None:
    path = DATA / "traffic_hourly.csv"
    content = json.loads(run(str(path), "--json"))
    assert content == json.loads(json.dumps(asdict(inspect([path]))))
    assert content["guess"]["task"] == "forecasting"
    assert content["files"][0]["clock"]["seasons"][0]["steps"] == 168


def test_the_command_answers_in_one_line_what_it_cannot_read(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "none.csv")])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert (
        f"none.csv: no such file. There is no file of these types in {tmp_path}: ." in result.stderr
    )


@pytest.mark.parametrize("marker", ["-999", "-9999.0", "9999", "-99.9"])
def test_a_number_that_looks_like_a_missing_value_is_named(tmp_path: Path, marker: str) -> None:
    values = [f"{100 + row % 7}.{row % 10}" for row in range(40)]
    values[3] = marker
    rows = "".join(f"2024-01-{row % 28 + 1:02},{value}\n" for row, value in enumerate(values))
    said = " ".join(found(look(tmp_path, f"day,y\n{rows}")))
    assert f'missing_values = ["{marker}"]' in said
    followed = inspect([tmp_path / "x.csv"], formats=TableFormats(missing_values=(marker,)))
    assert f'column "y": 1 field is "{marker}", and so read as missing' in found(followed)


@pytest.mark.parametrize("markers", [("-9999", "-999"), ("1e+20",), ("9.96921e+36", "-32768")])
def test_numbers_very_far_from_the_others_are_named_together(
    tmp_path: Path, markers: tuple[str, ...]
) -> None:
    values = [*(f"{100 + row % 37}.{row % 10}" for row in range(60)), *markers * 3]
    rows = "".join(f"{row},{value}\n" for row, value in enumerate(values))
    quoted = ", ".join(f'"{marker}"' for marker in markers)
    assert f"missing_values = [{quoted}]" in " ".join(found(look(tmp_path, f"n,y\n{rows}")))


def test_ordinary_extremes_are_no_missing_values(tmp_path: Path) -> None:
    rows = "".join(f"{row},{row * 37 % 1000}\n" for row in range(1000))
    assert "missing_values" not in " ".join(found(look(tmp_path, f"n,y\n{rows}")))
    demand = [0, 0, 0, 500, 0, 1, 0, 0, 500, 2] * 20  # now and then, and then much
    rows = "".join(f"{row},{value}\n" for row, value in enumerate(demand))
    assert "missing_values" not in " ".join(found(look(tmp_path, f"n,y\n{rows}")))


def test_spaces_around_a_class_make_no_other_class(tmp_path: Path) -> None:
    seen = look(tmp_path, texts(60).replace("a\n", "a \n", 9).replace("b\n", "b\u00a0\n", 9))
    assert "one of 2" in seen.guess.reason


def test_names_among_the_rows_are_named(tmp_path: Path) -> None:
    part = texts(20).splitlines()
    assert "line 22: 2 rows repeat the names of the columns: remove such rows" in found(
        look(tmp_path, "\n".join(part * 3))
    )


def test_counted_times_that_lie_ahead_may_count_from_another_day(tmp_path: Path) -> None:
    since_1960 = int((datetime(2024, 1, 1) - datetime(1960, 1, 1)).total_seconds())
    rows = [f"{since_1960 + 3600 * n},{n * 37 % 101}" for n in range(60)]
    assert any(
        "as SAS and Stata do" in each
        for each in found(look(tmp_path, "\n".join(["time,y", *rows])))
    )
    rows = [f"{date(2034, 1, 1) + timedelta(n)},{n * 37 % 101}" for n in range(60)]
    assert not found(look(tmp_path, "\n".join(["time,y", *rows])))


def test_years_of_the_buddhist_calendar_are_named(tmp_path: Path) -> None:
    days = [date(2021, 1, 1) + timedelta(n) for n in range(40)]
    rows = "".join(
        f"{day.day:02}/{day.month:02}/{day.year + 543},{n * 37 % 11}.5\n"
        for n, day in enumerate(days)
    )
    assert any("subtract 543" in message for message in found(look(tmp_path, f"date,y\n{rows}")))


def test_labels_that_differ_in_case_or_decimals_are_named(tmp_path: Path) -> None:
    labels = ["spam", "Spam", "1", "1.0", "ham"]
    lines = texts(200).splitlines()
    rows = [f"{line.partition(',')[0]},{labels[n % 5]}" for n, line in enumerate(lines[1:])]
    alike = found(look(tmp_path, "\n".join([lines[0], *rows])))
    assert alike == [
        f'column "label" has {pair} as different classes: write them alike'
        for pair in ('"1" (40) and "1.0" (40)', '"Spam" (40) and "spam" (40)')
    ]


def test_rows_that_count_within_each_time_belong_to_the_time(tmp_path: Path) -> None:
    rows = [
        f"2024-01-{day:02},{half},{day * half % 13}.5"
        for day in range(1, 20)
        for half in range(1, 49)
    ]
    message = '"period" numbers the rows of each time: if it counts steps, add it to the times'
    assert message in found(look(tmp_path, "\n".join(["date,period,load", *rows])))[0]


@pytest.mark.parametrize(("others", "said"), [(("pos", "neg"), True), (("DE", "FR"), False)])
def test_labels_that_look_missing_are_named_but_namibia_is_a_country(
    tmp_path: Path, others: tuple[str, str], said: bool
) -> None:
    labels = [*others, "NA"] * 12
    rows = "".join(f"some words about it {row},{label}\n" for row, label in enumerate(labels))
    inspection = look(tmp_path, f"text,label\n{rows}", label="label")
    assert ("look like missing labels" in " ".join(found(inspection))) is said


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("yes", "y", "no"), '"y" (30) and "yes" (30) as different classes: write them alike'),
        (("red", "blue", "red|blue", "blue|red"), 'several labels in a field, such as "'),
        (("red", "blue", "red/green"), None),
        (("T", "Y", "A"), None),
    ],
)
def test_labels_that_are_one_class_or_several_are_named(
    tmp_path: Path, labels: tuple[str, ...], message: str | None
) -> None:
    rows = [line.rpartition(",")[0] for line in texts(90).splitlines()[1:]]
    labelled = [f"{text},{labels[row % len(labels)]}" for row, text in enumerate(rows)]
    messages = [
        each
        for each in found(look(tmp_path, "\n".join(["text,label", *labelled])))
        if "classes" in each or "several labels" in each
    ]
    assert (message in messages[0]) if message else not messages


def test_names_of_series_that_differ_in_case_are_named_and_in_spaces_are_one(
    tmp_path: Path,
) -> None:
    rows = [
        f"{day},{shop.upper() if n % 9 == 4 else shop},{n % 7}.5"
        for shop in ("north", "south ")
        for n, day in enumerate(DAYS)
    ]
    messages = found(look(tmp_path, "\n".join(["date,shop,y", *rows])))
    assert any('"north" (133) and "NORTH" (17) as different series' in each for each in messages)
    rows = [row.lower().replace("south ", "south" if n % 9 else "south ") for n, row in
            enumerate(rows)]  # fmt: skip
    clock = look(tmp_path, "\n".join(["date,shop,y", *rows])).files[0].clock
    assert clock is not None
    assert (clock.series, clock.missing) == (2, 0)


def test_an_invisible_sign_makes_no_other_class(tmp_path: Path) -> None:
    lines = texts(90, label="{}").splitlines()
    lines[1:31] = [line.replace(",a", ",\u200ba") for line in lines[1:31]]
    assert any(
        '"a" (30) and "\\u200ba" (15)' in each for each in found(look(tmp_path, "\n".join(lines)))
    )


def test_texts_that_are_a_word_for_missing_are_named(tmp_path: Path) -> None:
    lines = texts(90).splitlines()
    lines[10], lines[20] = "NaN,a", "NaN,b"
    assert '2 texts are "NaN", the first at x.csv, line 11' in found(
        look(tmp_path, "\n".join(lines))
    )[0]  # fmt: skip


def test_what_is_written_once_for_several_rows_is_to_be_filled_in(tmp_path: Path) -> None:
    rows = [f"{1990 + n // 12 if n % 12 == 0 else ''},{1 + n % 12},{n}.5" for n in range(96)]
    messages = found(look(tmp_path, "\n".join(["Year,Month,sales", *rows])))
    assert any('as pandas does with frame["Year"].ffill()' in message for message in messages)


DAYS = [date(2021, 1, 1) + timedelta(n) for n in range(150)]


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (
            "date,y",
            [f"{d:%m/%d/%Y},1.5" if d.day <= 12 else f"{d:%d/%m/%Y},2.5" for d in DAYS],
            "days and months have changed places where the day is 12 or less",
        ),
        (
            "date,y",
            [f"{hour:%Y-%m-%d %I:%M},{n % 7}.5" for n, hour in enumerate(hourly(100))],
            "no hour is 0 or above 12, so AM and PM are missing",
        ),
        (
            "date,y",
            [f"{1400 + n // 336}/{1 + n // 28 % 12:02}/{1 + n % 28:02},{n % 7}.5" for n in
             range(400)],
            "look like those of the Persian or the Islamic calendar",
        ),
        (
            "date,y",
            [f"{22000 + n},{n % 7}.5" for n in range(60)],
            "date is read as numbers of steps, without a calendar",
        ),
        (
            "shop,date,y",
            [f"{shop},{d},{d.day}.5" for shop in "ab" for d in (*DAYS, DAYS[3])],
            "shop seems to name the series, but then 2 rows still repeat a time",
        ),
        (
            "sensor,time,y",
            [f"{'io'[n % 2]},{hour},{n % 7 + 50 * (n % 2)}.5" for n, hour in
             enumerate(hourly(100))],
            '"sensor" takes turns with the times',
        ),
    ],
)  # fmt: skip
def test_times_that_mean_something_else_are_named(
    tmp_path: Path, header: str, rows: list[str], message: str
) -> None:
    messages = found(look(tmp_path, "\n".join([header, *rows])))
    assert any(message in each for each in messages)


@pytest.mark.parametrize(
    ("header", "fields"),
    [
        ("time,y,weather", ["sun", "rain", "snow", "rain", "sun", "sun", "snow"]),
        ("time,y,weekday", ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]),
    ],
)
def test_other_words_take_no_turns(tmp_path: Path, header: str, fields: list[str]) -> None:
    rows = [f"{d},{d.day}.5,{fields[n % 7]}" for n, d in enumerate(DAYS)]
    assert not [
        each for each in found(look(tmp_path, "\n".join([header, *rows]))) if "turns" in each
    ]


def test_days_of_another_calendar_are_refused_where_ours_has_none(tmp_path: Path) -> None:
    rows = "\n".join(f"1400/{1 + n // 31:02}/{1 + n % 31:02},{n % 7}.5" for n in range(186))
    inspection = look(tmp_path, f"date,y\n{rows}\n")
    assert any("of the Persian or Islamic calendar?" in each for each in found(inspection))
