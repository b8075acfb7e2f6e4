"""From a study file to predictions, through the command line; and files of every kind."""

from __future__ import annotations

import json
import re
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import optuna
import polars as pl
import pytest
from helpers.bundles import DATA, train
from typer.testing import CliRunner

import gru_optuna
from gru_optuna import tune
from gru_optuna.bundle.load import bundle_from_files
from gru_optuna.bundle.output import writing
from gru_optuna.bundle.rows import CHUNK
from gru_optuna.cli import app
from gru_optuna.data.readers.in_parts import read_table_in_parts
from gru_optuna.data.readers.tables import read_table
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from click.testing import Result
    from helpers.workspaces import Workspace

    from gru_optuna.bundle.bundle import Bundle

TEXTS = """
name = "sentences"
fit_baselines = false
[data]
train = "data/movie_snippets.csv"
text = "text"
label = "label"
test = 0.2
max_tokens = 20
[model]
embedding_size = 8
hidden_size = 8
[search]
learning_rate = [0.01, 0.02]
[training]
epochs = 2
[budget]
trials = 2
[confirmation]
candidates = 2
seeds = 2
"""


@pytest.fixture(scope="module")
def sentences() -> Bundle:
    return train("movie-snippets.toml").bundle


# --- the whole chain ---


@pytest.fixture
def gru_optuna_in(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Result]]:
    """The command line in this process, which has torch loaded already."""
    monkeypatch.chdir(workspace.folder)
    monkeypatch.delenv("GRU_OPTUNA_STORAGE", raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield lambda *arguments: CliRunner().invoke(app, arguments)
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.set_wakeup_fd(-1)


def test_from_a_study_file_to_predictions(
    workspace: Workspace, gru_optuna_in: Callable[..., Result]
) -> None:
    """JapaneseVowels: tune, confirm, export; and predict in a process of its own."""
    done = gru_optuna_in("tune", "studies/tiny.toml", "--no-confirm")
    assert done.exit_code == 0, done.stderr
    assert "confirmed validation" not in done.stdout
    assert "\ntest " not in done.stdout

    done = gru_optuna_in("confirm", "tiny", "--seeds", "3")
    assert done.exit_code == 0, done.stderr
    assert "confirming the best 3 on 3 fresh seeds: 9 of 9 runs done" in done.stderr
    number = re.search(r"^(\d) .*winner$", done.stdout, re.MULTILINE)
    assert number
    assert re.search(r"confirmed validation accuracy 0\.\d{2,4} \(95% interval", done.stdout)
    best = json.loads(gru_optuna_in("best", "tiny", "--json").stdout)
    assert best["number"] == int(number[1])

    done = gru_optuna_in("export", "tiny", "--out", "bundles/tiny", "--ensemble", "--onnx")
    assert done.exit_code == 0, done.stderr
    for options in (("--single",), ("--onnx",)):
        name = f"bundles/{options[0].strip('-')}"
        exported = gru_optuna_in("export", "tiny", "--out", name, *options)
        assert exported.exit_code == 0, exported.stderr
        assert len(gru_optuna.load_bundle(workspace.folder / name).networks) == 1
    assert done.stdout == "bundles/tiny\n"
    test = "studies/data/japanese_vowels_test.ts"
    done = workspace.run_afresh("predict", "bundles/tiny", test, "--out", "predictions.csv")
    assert done.returncode == 0, done.stderr
    assert "370 rows predicted: predictions.csv" in done.stderr

    predictions = pl.read_csv(
        workspace.folder / "predictions.csv", schema_overrides={"prediction": pl.String}
    )
    right = [line.rpartition(":")[2] for line in (workspace.folder / test).read_text().splitlines()
             if line and line[0] not in "@#%"]  # fmt: skip
    accuracy = sum(predictions["prediction"] == pl.Series(right)) / 370
    assert accuracy == pytest.approx(best["confirmed"]["test"]["ensemble"]["value"])
    # The bundle's own words and the command's are the same.
    loaded = gru_optuna.load_bundle(workspace.folder / "bundles" / "tiny")
    np.testing.assert_allclose(
        predictions.drop("prediction").to_numpy(), loaded.predict_proba(workspace.folder / test)
    )
    assert len(loaded.networks) == 3
    card = (workspace.folder / "bundles" / "tiny" / "README.md").read_text()
    assert f"| test, ensemble | {accuracy:.4f} |" in card


def test_a_study_of_0_1_0_that_searched_its_vocabulary_can_only_be_looked_at(
    workspace: Workspace, gru_optuna_in: Callable[..., Result]
) -> None:
    """A study of one vocabulary, tuned and exported; then one as version 0.1.0 would store it."""
    folder = workspace.folder / "studies"
    rows = pl.read_csv(DATA / "movie_snippets.csv").head(400)
    rows.write_csv(folder / "data" / "some.csv")
    text = TEXTS.replace("movie_snippets", "some").replace("[0.01, 0.02]", "0.01")
    text = text.replace("max_tokens = 20", "max_tokens = 20\nvocabulary = 60")
    (folder / "sentences.toml").write_text(text)
    several = ("tune", "studies/sentences.toml", "--set", "data.vocabulary=[60,400]")
    refused = gru_optuna_in(*several)
    assert refused.exit_code == 2
    assert "[data.vocabulary]: vocabulary = [60, 400]: one study reads one" in refused.stderr

    done = gru_optuna_in("tune", "studies/sentences.toml")
    assert done.exit_code == 0, done.stderr
    assert gru_optuna_in("export", "sentences", "--out", "bundle").exit_code == 0
    bundle = gru_optuna.load_bundle(workspace.folder / "bundle")
    ids = bundle.encoder.as_json()["tokenizer"]["model"]["vocab"]
    assert len(ids) == bundle.networks[0].network.vocabulary == 60

    url = f"sqlite:///{workspace.folder}/storage/gru_optuna.db"
    study = optuna.load_study(study_name="sentences", storage=url)
    old = optuna.create_study(study_name="old", storage=url, direction="maximize")
    for key in ("fingerprint", "specification", "budget"):
        old.set_user_attr(key, study.user_attrs[key])
    specification = study.user_attrs["specification"] | {"name": "old"}
    specification["data"]["vocabulary"] = [60, 400]
    old.set_user_attr("specification", specification)
    sizes = optuna.distributions.CategoricalDistribution([60, 400])
    trial = study.trials[0]
    trial.params |= {"vocabulary": 400}
    trial.distributions |= {"vocabulary": sizes}
    trial.set_user_attr("fail_reason", None)
    old.add_trial(trial)

    best = json.loads(gru_optuna_in("best", "old", "--json").stdout)
    assert best["params"]["vocabulary"] == best["configuration"]["vocabulary"] == 400
    assert "vocabulary = 400\n" in gru_optuna_in("best", "old", "--toml").stdout
    for command in (("status", "old"), ("studies",), ("report", "old")):
        done = gru_optuna_in(*command)
        assert done.exit_code == 0, done.stderr
    for command in (("worker", "old"), ("confirm", "old"), ("export", "old", "--out", "none")):
        refused = gru_optuna_in(*command)
        assert refused.exit_code == 2, refused.stderr
        assert 'study "old" searches vocabulary = [60, 400], which only version' in refused.stderr
    refused = gru_optuna_in("tune", "studies/sentences.toml", "--set", "name=old")
    assert refused.exit_code == 2
    assert "data.vocabulary: [60, 400] in the database, 60 now" in refused.stderr


def test_sentences_in_a_fresh_workspace(
    workspace: Workspace, gru_optuna_in: Callable[..., Result]
) -> None:
    workspace.write("studies/sentences.toml", TEXTS)
    some = (DATA / "movie_snippets.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    workspace.write("studies/data/movie_snippets.csv", "".join(some[:2000]))
    tune(
        workspace.folder / "studies" / "sentences.toml",
        storage=f"sqlite:///{workspace.folder}/storage/gru_optuna.db",
    )
    done = gru_optuna_in("export", "sentences", "--out", "mine", "--refit")
    assert done.exit_code == 0, done.stderr
    loaded = gru_optuna.load_bundle(workspace.folder / "mine")
    assert loaded.manifest.refitted
    assert loaded.manifest.members[0].validation is None
    workspace.write("new.jsonl", '{"text": "a delight", "n": 1}\n{"text": "dull and slow"}\n')
    done = gru_optuna_in("predict", "mine", "new.jsonl", "--out", "predictions.jsonl")
    assert done.exit_code == 0, done.stderr
    predictions = [json.loads(line) for line in (workspace.folder / "predictions.jsonl").open()]
    assert [list(one) for one in predictions] == [["prediction", "P(negative)", "P(positive)"]] * 2
    expected = loaded.predict(["a delight", "dull and slow"])
    assert [one["prediction"] for one in predictions] == expected.tolist()
    workspace.write("other.csv", "texts\nx\n")
    for arguments, words in (
        (("predict", "mine", "other.csv"), 'other.csv: no column "text". Did you mean "texts"?'),
        (("predict", "none", "x.csv"), "none: no such folder. Name one that gru-optuna export"),
        (("predict", "mine", "x.csv"), "x.csv: no such file"),
        (("predict", "mine", "new.jsonl", "--out", "x.xlsx"), "Known: .csv"),
        (("export", "sentences", "--out", "mine"), "mine exists already"),
        (("export", "sentence", "--out", "new"), 'no study "sentence" here. Did you mean'),
    ):
        done = gru_optuna_in(*arguments, *(() if "--out" in arguments else ("--out", "new.csv")))
        assert done.exit_code == 2
        assert words in done.stderr
        assert not list(workspace.folder.glob("*new*.csv")) + list(workspace.folder.glob("new"))


# --- files ---


def test_large_files_are_read_a_part_at_a_time(sentences: Bundle, tmp_path: Path) -> None:
    frame = pl.read_csv(DATA / "movie_snippets.csv").head(2 * CHUNK + 100)
    expected = sentences.predict_frame(frame)
    # Other columns beside, quotes, commas and line breaks within.
    frame = frame.with_columns(pl.lit('a "b",\nc').alias("note")).select("note", "text")
    frame.write_csv(tmp_path / "x.csv")
    frame.write_csv(tmp_path / "x.tsv", separator="\t")
    frame.write_ndjson(tmp_path / "x.jsonl")
    frame.write_parquet(tmp_path / "x.parquet")
    for path in sorted(tmp_path.iterdir()):
        parts = list(read_table_in_parts(path, CHUNK))
        assert [len(table) for table, _ in parts] == [CHUNK, CHUNK, 100]
        shares = [share for _, share in parts]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        assert sentences.predict_frame(path).equals(expected), path.suffix


def test_parts_say_where_a_row_stands_as_the_whole_does(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('a,b\n"1\n1",x\n\n2,y\n3,z\n')
    (tmp_path / "x.jsonl").write_text('{"a": 1, "b": "x"}\n\n{"a": 2}\n{"a": 3, "b": "z"}\n')
    pl.DataFrame({"a": [1, None, 3], "b": ["x", None, "z"]}).write_parquet(tmp_path / "x.parquet")
    for path in sorted(tmp_path.iterdir()):
        whole = read_table(path)
        parts = [table for table, _ in read_table_in_parts(path, 2)]
        at = [table.at(row) for table in parts for row in range(len(table))]
        assert at == [whole.at(row) for row in range(len(whole))]
        values = [text for table in parts for text in table.strings("b").fill_null("").to_list()]
        assert values == whole.strings("b").fill_null("").to_list()


def test_a_mistake_far_down_is_named(sentences: Bundle, tmp_path: Path) -> None:
    rows = ["n,text", *["1,fine words"] * (CHUNK + 5), '1," "', "1,more"]
    (tmp_path / "x.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=rf'x.csv, line {CHUNK + 7}: column "text" is empty'):
        sentences.predict(tmp_path / "x.csv")


def test_times_in_a_zone_keep_their_offset_in_texts(tmp_path: Path) -> None:
    times = pl.Series(values=[datetime(2024, 10, 27, hour, tzinfo=UTC) for hour in (0, 1, 2)])
    frame = pl.DataFrame({"time": times.dt.convert_time_zone("Europe/Berlin")})
    with writing(tmp_path / "x.csv") as writer:
        writer.write(frame)
    assert (tmp_path / "x.csv").read_text().split("\n")[1:-1] == [
        "2024-10-27 02:00:00+02:00",
        "2024-10-27 02:00:00+01:00",
        "2024-10-27 03:00:00+01:00",
    ]


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_predictions_are_written_in_every_format(
    sentences: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    expected = sentences.predict_frame(["a delight", "dull", "what"])
    out = tmp_path / f"predictions.{ending}"
    out.write_text("what was there before")

    def fails_half_way() -> None:
        with writing(out) as writer:
            writer.write(expected)
            raise DataError("the next row can't be read")

    with pytest.raises(DataError):
        fails_half_way()
    assert out.read_text() == "what was there before"
    with writing(out) as writer:
        writer.write(expected[:2])
        writer.write(expected[2:])
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    read = {"jsonl": pl.read_ndjson, "parquet": pl.read_parquet}.get(ending, pl.read_csv)
    got = read(out) if ending != "tsv" else pl.read_csv(out, separator="\t")
    assert got.columns == expected.columns
    np.testing.assert_allclose(got["P(positive)"], expected["P(positive)"])


def test_sequences_in_long_form_keep_their_ids(tmp_path: Path) -> None:
    steps = np.random.default_rng(0).normal(size=(120, 2))
    table = pl.DataFrame(
        {"who": np.repeat(np.arange(40), 3), "x": steps[:, 0], "y": steps[:, 1],
         "right": np.repeat(np.where(steps[::3, 0] > 0, "up", "down"), 3)}
    )  # fmt: skip
    table.write_csv(tmp_path / "x.csv")
    study = tmp_path / "x.toml"
    study.write_text(
        'name = "x"\n[data]\ntrain = "x.csv"\nid = "who"\nlabel = "right"\ntest = 0.3\n'
    )
    model = train(study)
    # Other order of columns and rows, no targets.
    new = table.select("y", "who", "x")
    predictions = model.bundle.predict_frame(pl.concat([new[60:], new[:60]]))
    assert predictions["who"].to_list() == [str(who) for who in [*range(20, 40), *range(20)]]
    assert model.bundle.predict_frame(table).sort("who").equals(predictions.sort("who"))
    with pytest.raises(DataError, match='the columns "x", "y", which training read, are missing'):
        model.bundle.predict(table.select("who"))


def test_whole_sequences_are_read_by_the_names_of_their_columns(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(60, 3))
    table = pl.DataFrame({f"t{step}": values[:, step] for step in range(3)}).with_columns(
        right=pl.when(pl.col("t0") > 0).then(pl.lit("up")).otherwise(pl.lit("down"))
    )
    table.write_csv(tmp_path / "x.csv")
    study = tmp_path / "x.toml"
    study.write_text(
        'name = "x"\n[data]\ntrain = "x.csv"\nsteps = "t"\nlabel = "right"\ntest = 0.3\n'
    )
    bundle = train(study).bundle
    predictions = bundle.predict_frame(table)
    # Other order of columns, one more, no labels; and the same as an array.
    new = table.select("t2", pl.lit(9.0).alias("t3"), "t0", "t1")
    assert bundle.predict_frame(new).equals(predictions)
    assert bundle.predict(values).tolist() == predictions["prediction"].to_list()
    with pytest.raises(DataError, match='the columns "t1", "t2", which training read, are missing'):
        bundle.predict(table.select("t0"))


def test_known_columns_are_asked_for_ahead(tmp_path: Path) -> None:
    hours = np.arange(400)
    holiday = (hours // 24) % 7 == 6
    table = pl.DataFrame(
        {
            "time": pl.datetime_range(
                pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 17, 15), "1h", eager=True
            ),
            "shop": ["a"] * 400,
            "sold": np.sin(hours / 4) + 2 * holiday,
            "holiday": holiday.astype(int),
        }
    )
    other = table.with_columns(pl.lit("b").alias("shop"), sold=10 * pl.col("sold"))
    both = pl.concat([table, other])
    both.write_csv(tmp_path / "x.csv")
    study = tmp_path / "x.toml"
    study.write_text(
        'name = "x"\ntask = "forecasting"\n[data]\ntrain = "x.csv"\ntime = "time"\n'
        'target = "sold"\nseries = "shop"\nknown = ["holiday"]\nhorizon = 6\nseason = 24\n'
        "test = 60\n"
    )
    model = train(study)
    with pytest.raises(DataError, match=r'0 rows of series "a" after .* holiday must be known'):
        model.bundle.predict(both)
    ahead = both.with_columns(pl.when(pl.col("time") < pl.datetime(2024, 1, 17, 10)).then("sold"))
    predictions = model.bundle.predict(ahead)
    assert predictions.columns == ["shop", "time", "prediction"]
    assert predictions["shop"].to_list() == ["a"] * 6 + ["b"] * 6
    assert predictions["time"][0] == predictions["time"][6] == ahead["time"][394]
    # The last window of the test, of each series.
    test = model.dataset.test
    assert test is not None
    assert test.units is not None
    expected = test.units.restore(model.outputs[0])
    np.testing.assert_array_equal(predictions["prediction"][:6], expected[len(expected) // 2 - 1])
    np.testing.assert_array_equal(predictions["prediction"][6:], expected[-1])
    with pytest.raises(DataError, match='series "c" was not in training'):
        model.bundle.predict(ahead.with_columns(shop=pl.lit("c"))[:400])


WRITTEN = {
    "dots between thousands": ("{:,.0f}", {",": "."}, ""),
    "decimal comma": ("{:,.2f}", {",": ".", ".": ","}, ""),
    "spaces and a currency": ("{:,.0f} €", {",": " "}, ""),
    "a marker for what is missing": ("{:.2f}", {}, 'missing_values = ["-999"]\n'),
}


@pytest.mark.parametrize("style", WRITTEN)
def test_a_bundle_reads_numbers_as_the_training_file_wrote_them(tmp_path: Path, style: str) -> None:
    """However few rows there are to predict, and whatever these alone could mean."""
    pattern, signs, keys = WRITTEN[style]
    values = 1000 + 500 * np.sin(np.arange(90) / 5) + np.arange(90)
    times = [str(np.datetime64("2024-01-01") + day) for day in range(90)]

    def write(name: str, numbers: Sequence[float], sign: str) -> Path:
        rows = [pattern.format(number).translate(str.maketrans(signs)) for number in numbers]
        rows = ["-999" if sign and place == 3 else row for place, row in enumerate(rows)]
        lines = [f"{time};{row}" for time, row in zip(times, rows, strict=False)]
        path = tmp_path / name
        path.write_text("\n".join(["time;y", *lines]) + "\n")
        return path

    write("rows.csv", values, keys)
    (tmp_path / "study.toml").write_text(
        f'name = "x"\ntask = "forecasting"\n[data]\ntrain = "rows.csv"\ntime = "time"\n'
        f'target = "y"\nhorizon = 2\nwindow = 6\ntest = 12\nvalidation = 12\nseason = 1\n'
        f"calendar = false\n{keys}"
    )
    bundle = bundle_from_files(train(tmp_path / "study.toml").bundle.files, "again")
    # "1.024" alone would be a number near 1, and here it is one near 1,000.
    few = np.array([1024.0, 1100.0, 1187.0, 1203.0, 1254.0, 1301.0])
    plain = pl.DataFrame({"time": times[:6], "y": few})
    if keys:
        plain[3, "y"] = None
    predicted = bundle.predict_frame(write("few.csv", few, keys))["prediction"]
    assert predicted.to_list() == pytest.approx(bundle.predict_frame(plain)["prediction"].to_list())
    assert predicted.min() > 100
