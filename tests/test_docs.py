"""Docs that cannot rot: what they say exists, runs, and is complete."""

from __future__ import annotations

import json
import re
import runpy
import tomllib
from typing import TYPE_CHECKING, Any

import nbclient
import nbformat
import pytest
import typer
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
PAGES = [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("*/*.md"), *REPOSITORY.glob(".github/**/*.md")]


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


def test_the_messages_that_troubleshooting_quotes_are_shown_by_the_code() -> None:
    source = "\n".join(path.read_text() for path in (REPOSITORY / "gru_optuna").rglob("*.py"))
    source = re.sub(r'"\n\s*f?"', "", source)  # sentences that go on in the next line
    page = (REPOSITORY / "docs" / "troubleshooting.md").read_text()
    quoted = re.findall(r"\*([^*|…]+)\*", page)  # with an ellipsis, values were filled in
    assert quoted
    assert [message for message in quoted if message not in source] == []


def test_every_toml_block_of_the_readme_is_a_study_file() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        content = {"name": "x", "data": {"train": "x.ts"}} | tomllib.loads(block)
        study_file.parse(content, source="README.md")


def test_the_commands_of_the_docs_are_all_there_are() -> None:
    page = (REPOSITORY / "docs" / "commands.md").read_text()
    shown = set(re.findall(r"^\| `gru-optuna ([a-z]+(?: [a-z]+)?)", page, re.MULTILINE))
    assert shown == COMMANDS.keys()


def test_commands_and_options_in_the_docs_exist() -> None:
    """In every console block of every page, whichever command it shows."""
    options = {name: _options(name) for name in COMMANDS}
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # which shows what there was
            continue
        blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines() if line.startswith("$ ")]
        for line in lines:
            for part in re.split(r"&&|\|", line.partition(" #")[0].removeprefix("$ ")):
                words = part.split()
                if words[:1] != ["gru-optuna"] or words[1:2] == ["--version"]:
                    continue
                name = " ".join(words[1:3]) if " ".join(words[1:3]) in COMMANDS else words[1]
                assert name in COMMANDS, f"{page.name}: {line}"
                given = {word.partition("=")[0] for word in words if word.startswith("--")}
                assert given <= options[name], f"{page.name}: {line}"


def _options(name: str) -> set[str]:
    command: Any = typer.main.get_command(app)
    for part in name.split():
        command = command.commands[part]
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


def test_the_readme_is_short_and_both_readmes_show_the_same() -> None:
    assert len(README.split()) <= 1200
    chinese = (REPOSITORY / "README.zh.md").read_text()

    def commands(text: str) -> list[str]:
        blocks = re.findall(r"```(?:console|python|toml)\n(.*?)```", text, re.DOTALL)
        lines = [re.split(r"\s+#", line)[0] for block in blocks for line in block.splitlines()]
        return [re.sub(r"\[\".*\"\]", "[…]", line) for line in lines if line.strip()]

    assert commands(chinese) == commands(README)
    numbers = r"0\.\d{3}|\d{3}\.\d"
    assert re.findall(numbers, chinese) == re.findall(numbers, README)
    assert re.findall(r"\]\((docs/[^)]*)\)", chinese) == re.findall(r"\]\((docs/[^)]*)\)", README)


def test_the_reference_lists_every_key_of_a_study_file() -> None:
    hooks = runpy.run_path(str(REPOSITORY / "docs" / "hooks.py"))
    page = hooks["on_page_markdown"]((REPOSITORY / "docs" / "study-file-reference.md").read_text())
    for section, field in study_file.Specification.model_fields.items():
        inner = getattr(field.annotation, "model_fields", {})
        for key in inner or [field.alias or section]:
            assert f"| `{key}` |" in page, f"{section}.{key} is missing"


def test_the_readmes_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert "GRUClassifier()" in block
    short = block.replace("GRUClassifier()", "GRUClassifier(trials=2, epochs=2, n_jobs=1)")
    names: dict[str, Any] = {
        "texts": [f"{word} {n}" for n in range(20) for word in ("a joy", "so dull")],
        "labels": ["good", "bad"] * 20,
    }
    exec(short, names)  # noqa: S102 (what a reader would paste)
    assert set(names["model"].predict(names["texts"])) <= {"good", "bad"}


def test_the_notebook_runs(tmp_path: Path) -> None:
    path = REPOSITORY / "docs" / "notebook.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    # A kernel starts where it is told to: outside of the checkout.
    nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    (score,) = (out for out in notebook.cells[3].outputs if out.output_type == "execute_result")
    assert float(score["data"]["text/plain"]) > 0.6


def test_every_command_has_help_with_an_example() -> None:
    for name, function in COMMANDS.items():
        assert f"Example: gru-optuna {name}" in (function.__doc__ or "")


def test_make_targets_of_the_docs_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for page in (README, (REPOSITORY / "CONTRIBUTING.md").read_text()):
        for target in re.findall(r"\bmake (\w+)", page):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_lead_somewhere() -> None:
    for page in PAGES:
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
    server = compose["services"]["database"]
    assert re.fullmatch(r"postgres:\d+", server["image"])
    assert server["ports"] == ["${POSTGRES_ADDRESS:-127.0.0.1}:5432:5432"]
    # ":?" is an error where the variable is missing or empty.
    assert re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?.+\}", server["environment"]["POSTGRES_PASSWORD"])
    assert server["healthcheck"]["test"][1] == "pg_isready"
    (volume, _, folder) = server["volumes"][0].partition(":")
    assert volume in compose["volumes"]
    assert folder == "/var/lib/postgresql/data"  # where the image keeps its data, up to 17
    url = f"postgresql://{server['environment']['POSTGRES_USER']}:"
    page = (REPOSITORY / "docs" / "several-machines.md").read_text()
    assert url in page
    assert f"/{server['environment']['POSTGRES_DB']}" in page


def test_the_service_in_containers_is_closed_by_default_and_starts_with_our_commands() -> None:
    yaml = pytest.importorskip("yaml")
    services = yaml.safe_load((REPOSITORY / "storage" / "compose.yaml").read_text())["services"]
    # Without the profile, there is the database alone.
    assert [name for name, each in services.items() if "profiles" not in each] == ["database"]
    assert services["service"]["ports"] == ["127.0.0.1:8080:8080"]
    for name in ("service", "worker"):
        url = services[name]["environment"]["GRU_OPTUNA_STORAGE"]
        assert re.search(r"\$\{POSTGRES_PASSWORD:\?.+\}@database/", url)
    image = (REPOSITORY / "Dockerfile").read_text()
    assert re.search(r"^USER [1-9]\d*$", image, re.MULTILINE)
    (default,) = re.findall(r'^CMD \["(\w+)"', image, re.MULTILINE)
    assert {default, *services["worker"]["command"]} <= COMMANDS.keys()
    (extras,) = re.findall(r'"\.\[(.+)\]"', image)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) <= project["optional-dependencies"].keys()


def test_the_storage_tables_of_the_docs_are_ours() -> None:
    page = (REPOSITORY / "docs" / "storage.md").read_text()
    assert set(re.findall(r"^\| `(gru_optuna_\w+)`", page, re.MULTILINE)) == set(metadata.tables)


def test_the_workflow_runs_what_everybody_runs() -> None:
    yaml = pytest.importorskip("yaml")
    github = REPOSITORY / ".github"
    workflow = yaml.safe_load((github / "workflows" / "ci.yml").read_text())
    jobs = workflow["jobs"]
    assert jobs["test"]["strategy"]["matrix"] == {
        "system": ["ubuntu-latest", "macos-latest"],
        "python": ["3.11", "3.12", "3.13", "3.14"],
    }
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert "bash .ci/run" in commands
    assert (REPOSITORY / ".ci" / "run").is_file()
    makefile = (REPOSITORY / "Makefile").read_text()
    for command in commands:
        for target in command.removeprefix("make ").split() if command.startswith("make ") else ():
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert "gru-optuna init demo && cd demo && gru-optuna tune studies/*.toml" in commands
    assert workflow["permissions"] == {"contents": "read"}
    for form in ("fault", "wish"):
        content = yaml.safe_load((github / "ISSUE_TEMPLATE" / f"{form}.yml").read_text())
        assert {"name", "description", "body"} <= content.keys()


def test_the_citation_names_the_version() -> None:
    yaml = pytest.importorskip("yaml")
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert citation["version"] == project["version"]
    assert citation["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
