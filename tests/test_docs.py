"""Docs that cannot rot: what they say exists, runs, and is complete."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING

import pytest
from helpers.workspaces import REPOSITORY

import gru_optuna
from gru_optuna import study_file
from gru_optuna.cli import app
from gru_optuna.cli.service import token_app
from gru_optuna.cli.storage import storage_app
from gru_optuna.storage.database.tables import metadata

if TYPE_CHECKING:
    from pathlib import Path

STUDIES = sorted((REPOSITORY / "studies").glob("*.toml"))
COMMANDS = {
    f"{group}{command.name or command.callback.__name__}": command.callback
    for group, commands in (("", app), ("storage ", storage_app), ("token ", token_app))
    for command in commands.registered_commands
    if command.callback
}
README = (REPOSITORY / "README.md").read_text()


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_every_study_runs(study: Path, tmp_path: Path) -> None:
    result = gru_optuna.tune(
        study,
        trials=2,
        storage=f"sqlite:///{tmp_path}/study.db",
        overrides=[
            "training.epochs=1",
            f"name='{study.stem}-test'",
            "confirmation.candidates=1",
            "confirmation.seeds=2",
        ],
        report=tmp_path / "report",
    )
    assert result.ran == 2
    assert result.report == tmp_path / "report" / "index.html"


def test_the_schema_for_editors_is_fresh() -> None:
    written = json.loads((REPOSITORY / "studies" / "study.schema.json").read_text())
    assert written == study_file.json_schema(), "make schema renews it"


def test_every_key_of_a_study_file_is_documented() -> None:
    page = (REPOSITORY / "docs" / "study-file.md").read_text()
    for section, field in study_file.Specification.model_fields.items():
        inner = getattr(field.annotation, "model_fields", {})
        for key in inner or [field.alias or section]:
            written = rf"`({section}\.)?{key}`|`\[\[{key}\]\]`"
            assert re.search(written, page), f"{section}.{key} is missing"


def test_every_toml_block_of_the_readme_is_a_study_file() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        content = {"name": "x", "data": {"train": "x.ts"}} | tomllib.loads(block)
        study_file.parse(content, source="README.md")


def test_the_readmes_commands_are_all_there_are() -> None:
    shown = set(re.findall(r"^\| `gru-optuna ([a-z]+(?: [a-z]+)?)", README, re.MULTILINE))
    assert shown == COMMANDS.keys()


def test_every_command_has_help_with_an_example() -> None:
    for name, function in COMMANDS.items():
        assert f"Example: gru-optuna {name}" in (function.__doc__ or "")


def test_make_targets_of_the_docs_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for page in (README, (REPOSITORY / "CONTRIBUTING.md").read_text()):
        for target in re.findall(r"\bmake (\w+)", page):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_lead_somewhere() -> None:
    for page in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("*/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not link.startswith("http"):
                assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_all_names_what_the_package_offers() -> None:
    for name in gru_optuna.__all__:
        assert getattr(gru_optuna, name).__doc__
    with pytest.raises(AttributeError):
        gru_optuna.nothing  # noqa: B018


def test_the_server_for_many_machines_is_closed_by_default() -> None:
    """As Docker would read it: nobody else reaches it, and it starts with no known password."""
    yaml = pytest.importorskip("yaml")
    compose = yaml.safe_load((REPOSITORY / "storage" / "compose.yaml").read_text())
    (server,) = compose["services"].values()
    assert re.fullmatch(r"postgres:\d+", server["image"])
    assert server["ports"] == ["${POSTGRES_ADDRESS:-127.0.0.1}:5432:5432"]
    # ":?" is an error where the variable is missing or empty.
    assert re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?.+\}", server["environment"]["POSTGRES_PASSWORD"])
    assert server["healthcheck"]["test"][1] == "pg_isready"
    (volume, _, folder) = server["volumes"][0].partition(":")
    assert volume in compose["volumes"]
    assert folder == "/var/lib/postgresql/data"  # where the image keeps its data, up to 17
    url = f"postgresql://{server['environment']['POSTGRES_USER']}:"
    assert url in README
    assert f"/{server['environment']['POSTGRES_DB']}" in README


def test_the_storage_tables_of_the_docs_are_ours() -> None:
    page = (REPOSITORY / "docs" / "storage.md").read_text()
    assert set(re.findall(r"^\| `(gru_optuna_\w+)`", page, re.MULTILINE)) == set(metadata.tables)
