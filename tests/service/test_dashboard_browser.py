"""The dashboard as people see it, in a real browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import optuna
import pytest
from helpers.dashboards import TOKEN, reader, serving
from helpers.workspaces import REPOSITORY, TINY_STUDY
from optuna_dashboard import save_note

import gru_optuna
from gru_optuna.storage.database.open import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from helpers.browser import Seen

HOSTILE = ["<script>alert(1)</script>", "../../etc", '"><img src=x onerror=alert(1)>']


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The study "tiny", with a pruned trial, and studies of hostile names; a room for reports."""
    folder = tmp_path_factory.mktemp("dashboard")
    file, url = folder / "tiny.toml", f"sqlite:///{folder / 'x.db'}"
    file.write_text(TINY_STUDY.replace("data/", f"{REPOSITORY}/studies/data/"))
    gru_optuna.tune(
        file, trials=8, slots=1, storage=url, report=folder / "elsewhere",
        overrides=["training.epochs=9"],
    )  # fmt: skip
    storage = open_storage(url)
    for name in HOSTILE:
        study = optuna.create_study(storage=storage, study_name=name)
        study.set_user_attr("name", name)
        study.enqueue_trial({name: 1.0})
        trial = study.ask()
        trial.suggest_float(name, 0.0, 1.0)
        study.tell(trial, 0.5)
    return url, folder


@pytest.fixture
def base(tuned: tuple[str, Path]) -> Iterator[str]:
    """The address of a read-only dashboard."""
    with serving(*tuned) as port:
        yield f"http://127.0.0.1:{port}"


def assert_calm(seen: Seen, base: str) -> None:
    """Nothing was complained about, and nothing asked for elsewhere."""
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith(base)] == []


def test_the_study_its_note_and_its_report_are_found(visit: Callable[..., Seen], base: str) -> None:
    seen = visit(f"{base}/dashboard")
    page = seen.page
    page.get_by_text("1. tiny").click()
    page.wait_for_url(re.compile("/dashboard/studies/1"))
    # The metric has its name, and the figures are ours beside optuna-dashboard's.
    page.get_by_text(re.compile(r"^Best accuracy so far")).wait_for()
    page.get_by_text(re.compile(r"epochs trained")).wait_for()
    page.get_by_text("Learning curves of the best trials").wait_for()
    page.get_by_text("accuracy", exact=True).first.wait_for()
    page.goto(f"{base}/dashboard/studies/1/note")
    page.get_by_text("8 of 8 trials").wait_for()
    for words in ("searched", "learning_rate", "to beat:", "gru-optuna updates this note"):
        page.get_by_text(words).first.wait_for()
    page.get_by_role("link", name="Full report").click()
    page.wait_for_url(f"{base}/v1/studies/tiny/report/")
    assert "tiny" in page.locator("h1").inner_text()
    assert_calm(seen, base)


def test_a_trial_says_why_it_was_pruned(
    visit: Callable[..., Seen], base: str, tuned: tuple[str, Path]
) -> None:
    study = optuna.load_study(storage=open_storage(tuned[0]), study_name="tiny")
    pruned = next(trial for trial in study.trials if trial.state.name == "PRUNED")
    seen = visit(f"{base}/dashboard/studies/1/trials?numbers={pruned.number}", scheme="dark")
    said = re.compile(r"^Pruned after epoch \d, at 0\.\d+\. Of \d other trials? that reached")
    note = seen.page.get_by_text(said)
    note.wait_for()
    assert_calm(seen, base)


def test_hostile_names_stay_text(visit: Callable[..., Seen], base: str) -> None:
    seen = visit(f"{base}/dashboard")
    page, opened = seen.page, []
    page.on("dialog", lambda dialog: opened.append(dialog.message))
    for number, name in enumerate(HOSTILE, start=2):
        page.get_by_text(f"{number}. {name}").click()
        page.wait_for_url(re.compile(f"/dashboard/studies/{number}"))
        page.get_by_text(f"{name} (id={number})").wait_for()
        page.get_by_text("Study User Attributes").wait_for()
        page.go_back()
    assert_calm(seen, base)
    assert opened == []


PAYLOADS = [
    "<script>parent.alert(1)</script>",
    "<img src=x onerror=parent.alert(1)>",
    """<iframe srcdoc="<script>parent.alert(1)</script>"></iframe>""",
    """<iframe src="javascript:parent.alert(1)"></iframe>""",
    """<object data="javascript:parent.alert(1)"></object>""",
    "<svg><script>parent.alert(1)</script></svg>",
    "<style>@import 'http://elsewhere.example/x.css';</style>",
    "<form action='http://elsewhere.example/'><button autofocus>x</button></form>",
    "[a link](javascript:alert(1))",
    "$\\href{javascript:alert(1)}{x}$",
]


def test_notes_of_a_hostile_database_run_no_script(
    visit: Callable[..., Seen], tuned: tuple[str, Path]
) -> None:
    """A database may come from anybody, and its notes are shown in the pages of the dashboard."""
    study = optuna.create_study(storage=open_storage(tuned[0]), study_name="with a note")
    text = "\n\n".join([*PAYLOADS, "the end of the note"])
    save_note(study, text)
    trial = study.ask()
    study.tell(trial, 0.5)
    save_note(trial, text)
    with serving(*tuned) as port:
        base = f"http://127.0.0.1:{port}"
        seen, opened = visit(f"{base}/dashboard"), []
        page = seen.page
        page.on("dialog", lambda dialog: (opened.append(dialog.message), dialog.dismiss()))
        for place in ("note", "trials?numbers=0"):
            page.goto(f"{base}/dashboard/studies/{study._study_id}/{place}")
            page.get_by_text("the end of the note").wait_for()
            for link in page.locator("a[href^='javascript']").all():
                link.click()
            page.wait_for_timeout(200)
        assert opened == []
        assert [url for url in seen.requests if "elsewhere" in url] == []


def test_a_read_only_page_says_so(
    visit: Callable[..., Seen], base: str, tuned: tuple[str, Path]
) -> None:
    studies = len(open_storage(tuned[0]).get_all_studies())
    seen = visit(f"{base}/dashboard")
    seen.page.get_by_role("note").get_by_text("read-only").wait_for()
    seen.page.get_by_test_id("DeleteIcon").last.click()
    seen.page.get_by_role("button", name="Yes").click()
    seen.page.get_by_text("Failed to delete study").wait_for()
    assert len(open_storage(tuned[0]).get_all_studies()) == studies


def test_the_report_reaches_nothing_of_the_dashboard(visit: Callable[..., Seen], base: str) -> None:
    """As if something hostile had got into it."""
    page = visit(f"{base}/v1/studies/tiny/report/").page
    script = "() => fetch('/api/studies').then(() => 'reached', () => 'refused')"
    assert page.evaluate(script) == "refused"
    assert page.evaluate("() => origin") == "null"


def test_elsewhere_a_browser_shows_the_token_once(
    visit: Callable[..., Seen], tuned: tuple[str, Path]
) -> None:
    with serving(*tuned, reader(TOKEN)) as port:
        base = f"http://127.0.0.1:{port}"
        page = visit(f"{base}/dashboard").page
        assert "requires a token" in page.inner_text("body")
        page.goto(f"{base}/dashboard?token={TOKEN}")
        page.get_by_text("1. tiny").wait_for()
        assert TOKEN not in page.url
        assert TOKEN not in page.evaluate("() => document.cookie")
        page.goto(f"{base}/v1/studies/nothing/report/")
        assert "no study" in page.inner_text("body")
