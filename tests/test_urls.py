"""URLs: shown without anything secret, in every form that SQLAlchemy accepts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL, make_url
from typer.testing import CliRunner

from gru_optuna.cli import app
from gru_optuna.cli.console import fail
from gru_optuna.cli.tune import _shown_command
from gru_optuna.errors import StorageError
from gru_optuna.service.problems import problem_response
from gru_optuna.storage.database.open import locate, open_storage
from gru_optuna.storage.database.postgresql import PostgreSQL
from gru_optuna.urls import given_url, masked, masked_url

if TYPE_CHECKING:
    from pathlib import Path

S = "s3cret"
SECONDS = 10.0  # searched from each letter, hours
FORMS = [
    f"postgresql://me:{S}@host/db",
    f"postgresql+psycopg://me:{S}@host:5432/db",
    f"postgres://me:{S}@host/db",
    f"postgresql://:{S}@host/db",
    f"postgresql://me@corp:{S}@host/db",
    f"postgresql://me:{S}@[::1]:5432/db",
    f"postgresql://me:{S}%2F%3A%40@host/db",
    f"postgresql://me:a/{S}@host/db",
    f"postgresql://me:a:{S}/b@host/db",
    f"postgresql://me:a@{S}@host/db",
    f"postgresql://me:a?{S}@host/db",
    f"postgresql://me:a#{S}@host/db",
    f"postgresql://me:{S}@/db?host=/var/run/postgresql",
    f"postgresql:///db?host=/var/run/postgresql&user=me&password={S}",
    f"postgresql://me@/db?host=a:1&host=b:2&password={S}",
    f"postgresql://host/db?password={S}",
    f"postgresql://host/db?pass%77ord={S}",
    f"postgresql://host/db?PASSWORD={S}&sslmode=require",
    f"postgresql://host/db?sslmode=require&sslpassword={S}&sslkey=/x",
    f"postgresql://host/db?passfile=/home/me/{S}",
    f"postgresql://host/db?options=-c%20my.key%3D{S}",
    f"postgresql://host/db?{S}",
    f"postgresql:/me:{S}@host/db",
    f"postgresql://me:{S}",
    f"postgresql://me:{S}/db",
    f"mysql://me:{S}@host/db",
    f"sqlite:///x.db?key={S}",
]


@pytest.mark.parametrize("url", FORMS)
def test_nothing_secret_is_shown(url: str) -> None:
    assert S not in masked(url)
    assert S not in masked_url(url)
    assert S not in masked(f"can't open {url}, says the driver")
    assert S not in _shown_command(["tune", "x.toml", "--storage", url])
    assert S not in _shown_command(["tune", "x.toml", f"--storage={url}"])
    assert S not in _shown_command(["tune", "x.toml", "--from", f"{url}#other"])
    try:
        assert S not in str(locate(url))
    except StorageError as error:
        assert S not in str(error)  # noqa: PT017 (either is fine)


@pytest.mark.parametrize(
    "url",
    [
        f"me:{S}@host/db", f"postgresql//me:{S}@host/db", f"postgresql:me:{S}@host/db",
        f"mssql+pyodbc:PWD={S}", f"Driver=x;PWD={S};UID=me",
    ],
)  # fmt: skip
def test_nothing_secret_is_shown_of_a_url_that_is_none(url: str) -> None:
    with pytest.raises(StorageError) as refused:
        locate(url)
    assert S not in str(refused.value)


@pytest.mark.parametrize("password", [f"my {S}", f"{S} x", f"it's {S}", f'a "{S}" b', f"a/ {S}"])
def test_passwords_with_spaces_and_quotes_are_hidden_in_a_text(password: str) -> None:
    first, second = f"postgresql://me:{password}@host/db", f"postgresql://you:{password}@other/db"
    text = f"can't copy {first} to {second}: see https://example.org:80/x or ask me@example.org"
    shown = "can't copy postgresql://me:***@host/db to postgresql://you:***@other/db: see "
    assert masked(text).startswith(shown)
    assert masked(text).endswith("https://example.org:80/x or ask me@example.org")


@pytest.mark.parametrize(
    "piece", ["a", "a.", "pass", "pass=", "a:", "a:/", "a://b:", "@", " ", "'", "p://u:a@", "1:"]
)
def test_long_texts_are_searched_once(piece: str) -> None:
    """The error about a study file may quote a megabyte of it."""
    began = time.process_time()
    for text in (piece * 50_000, f"p://u:{piece * 50_000}"):
        masked(text)
        masked_url(text)
    assert time.process_time() - began < SECONDS


@given(st.text(max_size=12), st.text(max_size=12))
def test_whatever_else_a_password_holds(before: str, after: str) -> None:
    password = f"{before}{S}{after}"
    raw = f"postgresql://me:{password}@host/db?sslmode=require"
    assert S not in masked_url(raw)
    written = URL.create("postgresql", "me", password, "host", 5432, "db", {"password": password})
    text = written.render_as_string(hide_password=False)
    assert make_url(text).password == password
    assert S not in masked_url(text)
    assert S not in str(PostgreSQL(written))
    assert "host:5432/db" in masked_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me@host:5432/db?sslmode=require&connect_timeout=5",
        "postgresql:///db?host=/var/run/postgresql&user=me",
        "sqlite:////tmp/a b.db", "sqlite:///C:/a.db", "s3://bucket/prefix", "postgresql://[::1]:5/db",
        "postgresql://h1:1,h2:2/db", "http://HOST:PORT/", "postgresql://host:5432.", "x.toml",
        "search.dropout=0.2",
        "studies/x.toml [search.l1]: low = 0",
    ],
)  # fmt: skip
def test_what_holds_nothing_secret_is_shown_as_it_is(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize("secret", ["s3cret", "s3 cret", "s3'c)r(et", "s3.*cret"])
def test_errors_of_the_driver_repeat_nothing_secret(secret: str) -> None:
    """A server repeats an option that it doesn't know; the driver, the URL that it can't parse."""
    query = {"options": secret, "sslpassword": secret}
    database = PostgreSQL(URL.create("postgresql", "me", secret, "host", None, "db", query))
    said = database._explain(ValueError(f'invalid value "{secret}" for {database.url}'))
    assert "s3" not in said
    assert "cret" not in said


def test_a_server_that_is_not_there_is_told_without_secrets(tmp_path: Path) -> None:
    url = f"postgresql://me:{S}@127.0.0.1:1/db?options={S}&passfile={tmp_path}/{S}&sslpassword={S}"
    done = CliRunner().invoke(app, ["studies", "--storage", url])
    assert done.exit_code == 2
    assert "can't be reached" in done.output
    assert S not in done.output


def test_a_sign_that_a_password_may_not_hold_is_named() -> None:
    done = CliRunner().invoke(app, ["studies", "--storage", f"postgresql://me:{S}@{S}@host:1/db"])
    assert done.exit_code == 2
    assert "postgresql://***@host/: an @ in a password is written %40." in done.output


def test_a_url_is_read_from_the_environment_or_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = f"sqlite:///{tmp_path / 'x.db'}", f"sqlite:///{tmp_path / 'y.db'}"
    open_storage(source, create=True)
    monkeypatch.setenv("DATABASE", source)
    (tmp_path / "url").write_text(f"{target}\n")
    assert given_url("env:DATABASE") == source
    done = CliRunner().invoke(app, ["storage", "copy", "env:DATABASE", f"file:{tmp_path / 'url'}"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "y.db").exists()
    done = CliRunner().invoke(app, ["studies", "--storage", f"file:{tmp_path / 'url'}"])
    assert done.exit_code == 0, done.output
    for given_text, message in {
        "env:NONE": "NONE is not set",
        f"file:{tmp_path / 'none'}": "No such file",
        f"file:{tmp_path / 'x.db'}": "not a text|one line",
    }.items():
        with pytest.raises(StorageError, match=message):
            given_url(given_text)


@pytest.mark.parametrize("before", ["it failed: ", "x" * (1500 - len("postgresql://me:s3c"))])
def test_a_message_is_masked_before_it_is_cut_whoever_wrote_it(
    before: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = f"{before}postgresql://me:{S}@host/db refused {'x' * 6000}"
    with pytest.raises(SystemExit):
        fail(message, 1)
    body = bytes(problem_response(500, message).body).decode()
    for said in (capsys.readouterr().err, body):
        assert "postgresql://me:***" in said
        assert S[:3] not in said
