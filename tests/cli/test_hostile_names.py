"""Names from a database or a file stay names: they lead nowhere, and command nothing."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import optuna
import polars as pl
import pytest
from helpers.bundles import train
from helpers.report_studies import small_study, specification
from typer.testing import CliRunner

from gru_optuna.attributes import SPECIFICATION
from gru_optuna.bundle.build import make_bundle
from gru_optuna.bundle.output import writing
from gru_optuna.cli import app
from gru_optuna.cli.console import plain_errors
from gru_optuna.formatting import visible
from gru_optuna.storage.database.open import open_storage
from gru_optuna.workspace import is_plain_name

if TYPE_CHECKING:
    from pathlib import Path

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202etxt.exe\u2066\r"
NAMES = ["../../x", "..", "a/b", "/x", "a\\b", ESCAPES, "=cmd|' /C calc'!A0", "<script>"]


def put_study(folder: Path, name: str) -> None:
    """A study of this name in the default database of a workspace."""
    (folder / "studies").mkdir()
    (folder / "storage").mkdir()
    storage = open_storage(f"sqlite:///{folder / 'storage' / 'gru_optuna.db'}", create=True)
    made_up = small_study()
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
    study.add_trials(made_up.trials)
    spec = specification().model_dump(mode="json")
    for key, value in (made_up.user_attrs | {SPECIFICATION: spec}).items():
        study.set_user_attr(key, value)


@pytest.mark.parametrize("name", NAMES)
def test_a_report_is_never_written_outside_its_folder(here: Path, name: str) -> None:
    folder = here / "deep" / "down"
    folder.mkdir(parents=True)
    put_study(folder, name)
    before = {path for path in here.rglob("*") if "down" not in path.parts}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = CliRunner().invoke(app, ["report", "--", name])
    assert {path for path in here.rglob("*") if "down" not in path.parts} == before
    if is_plain_name(name):
        assert done.exit_code == 0, done.stderr
    else:
        assert (done.exit_code, "names no folder" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("command", [["studies"], ["studies", "--json"], ["status"], ["best"]])
def test_no_name_reaches_the_terminal_as_a_command(here: Path, command: list[str]) -> None:
    put_study(here, ESCAPES)
    named = [] if command[0] == "studies" else [ESCAPES]
    done = CliRunner().invoke(app, [*command, *named])
    assert done.exit_code == 0, done.stderr
    for text in (done.stdout, done.stderr):
        assert visible(text) == text
    if "--json" in command:
        assert [row["study"] for row in json.loads(done.stdout)] == [ESCAPES]


def test_an_unknown_name_is_shown_as_it_is_but_commands_nothing(here: Path) -> None:
    put_study(here, "tame")
    done = CliRunner().invoke(app, ["best", ESCAPES])
    assert done.exit_code == 2
    assert visible(done.stderr) == done.stderr
    assert "\\u001b" in done.stderr


@pytest.mark.parametrize("is_terminal", [True, False])
def test_rows_reach_a_terminal_visible_and_programs_as_they_are(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    behind = io.BytesIO()
    stream = io.TextIOWrapper(behind, encoding="utf-8", newline="")
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr("sys.stdout", stream)
    with plain_errors(), writing(None, for_spreadsheets=False) as writer:
        writer.write(pl.DataFrame({ESCAPES: [ESCAPES]}))
    stream.flush()
    text = behind.getvalue().decode()
    assert (visible(text) == text) is is_terminal
    assert ("\\u001b" in text) is is_terminal


def test_a_model_card_holds_neither_html_nor_markdown_of_others() -> None:
    model = train("japanese-vowels.toml")
    wild = "<img src=x onerror=alert(1)>|[a](javascript:b)`*"
    network = replace(
        model.networks[0],
        preprocessing={**model.networks[0].preprocessing, "labels": [wild, *"23456789"]},
    )
    metrics = {"baselines": {wild: 0.5}, "compared": [wild]}
    bundle = make_bundle(
        model.spec,
        3,
        model.bundle.hyperparameters,
        [network],
        fingerprint=f"x` {wild}",
        metrics=metrics,
    )
    # Within a piece of code nothing means anything, and no name ends it.
    card = re.sub(r"(?<!\\)`[^`\n]+`", "", bundle.files["README.md"].decode())
    assert "<img" not in card
    assert "[a](" not in card
    assert re.search(r"to beat: .*\\\|", card), "a bar doesn't end a cell"


def test_predictions_can_be_written_for_spreadsheets(tmp_path: Path) -> None:
    labels = ["=cmd|' /C calc'!A0", "+1", "@x", "plain"]
    frame = pl.DataFrame({"prediction": labels, "P(a)": [-0.5, 0.5, 0.1, 0.2]})
    for safe, expected in ((False, labels), (True, [f"'{n}" for n in labels[:3]] + ["plain"])):
        with writing(tmp_path / "x.csv", for_spreadsheets=safe) as writer:
            writer.write(frame)
        read = pl.read_csv(tmp_path / "x.csv")
        assert read["prediction"].to_list() == expected
        assert read["P(a)"].to_list() == frame["P(a)"].to_list()


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/b", "a\\b", "c:x", "a\0b", "a\nb", "a\x1b[31mb", "a\u202eb", "a\x85b"],
)
def test_a_name_with_any_of_these_is_no_plain_name(name: str) -> None:
    assert not is_plain_name(name)


@pytest.mark.parametrize("name", ["rows.csv", "Größe 2.csv", "数据.csv", ".hidden", "a..b"])
def test_names_in_any_script_are_plain(name: str) -> None:
    assert is_plain_name(name)
