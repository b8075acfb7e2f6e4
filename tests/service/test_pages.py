"""The pages, in a real browser: log in, start a study from a file, watch it, change it."""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import FastAPI
from helpers.browser import assert_accessible
from helpers.processes import DEADLINE
from helpers.services import ROWS, add_trials, log_in, serving, submit
from playwright.sync_api import expect

from gru_optuna.service.pages import pages
from gru_optuna.service.problems import answer_with_problems
from gru_optuna.storage.tokens import Role

expect.set_options(timeout=1000 * DEADLINE)

ROWS_WITH_STARS = "text,label,stars\n" + "".join(
    f"{line},{number % 7 / 2}\n" for number, line in enumerate(ROWS.splitlines()[1:])
)


@pytest.fixture
def service(tmp_path):
    with serving(tmp_path, roles=True) as running:
        yield running


@pytest.fixture(scope="module")
def shared(tmp_path_factory, nursery):
    """A service for tests that leave nothing in it."""
    folder = tmp_path_factory.mktemp("service")
    with serving(folder, roles=True, nursery=nursery) as running:
        yield running


def test_from_an_empty_page_to_a_study_that_is_watched(service, visit, tmp_path) -> None:
    file = tmp_path / "films.csv"
    file.write_text(ROWS_WITH_STARS)
    seen = visit(f"{service.address}new")
    page = seen.page
    assert page.url.endswith("/login?next=%2Fnew")
    assert_accessible(seen)
    log_in(page, service)
    assert page.url.endswith("/new")

    page.set_input_files("#train", file)
    page.wait_for_selector("#draft:not([hidden])")
    assert_accessible(seen)
    assert page.input_value("#target") == "label"
    page.select_option("#target", "stars")
    expect(page.locator("#toml")).to_have_value(re.compile('label = "stars"'))
    page.select_option("#role", "target")
    expect(page.locator("#toml")).to_have_value(re.compile('target = "stars"'))
    toml = page.input_value("#toml")
    page.fill(
        "#toml", toml.replace("epochs = ", "epochs = 0 # ", 1).replace("[budget]", "[badget]")
    )
    page.click("#start")
    mistakes = page.locator("#mistakes li")
    mistakes.nth(1).wait_for()
    found = " ".join(mistakes.all_inner_texts())
    assert 'unknown key "badget"' in found
    line = next(n for n, text in enumerate(toml.splitlines(), 1) if text.startswith("epochs"))
    assert f"Line {line}: [training.epochs]" in found
    assert_accessible(seen)
    complaints = [text for text in seen.complaints if "422" not in text]
    assert complaints == []
    seen.complaints.clear()

    page.fill("#toml", toml)
    page.click("#start")
    page.wait_for_url("**/study/films")
    expect(page.locator("#progress")).to_contain_text("0 of")
    assert page.inner_text("#state") == "queued"

    page.click("text=Suspend")
    page.wait_for_selector(".state-of-suspended")
    page.click("text=Continue")
    page.wait_for_selector(".state-of-queued")
    page.fill("#trials", "77")
    page.click("text=Set the budget")
    expect(page.locator("#progress")).to_contain_text("of 77")
    page.goto(service.address)
    assert "0 of 77" in page.inner_text(".studies")
    assert_accessible(seen)
    assert seen.complaints == []


def test_curves_grow_while_the_page_is_open(service, visit) -> None:
    with service.client(Role.EDITOR) as client:
        submit(client, trials=9)
    seen = visit(f"{service.address}study/films")
    log_in(seen.page, service, Role.VIEWER)
    assert seen.page.locator("#actions, #bundle, #predict").count() == 0
    assert seen.page.inner_text("#curves-text") == "No trial has trained an epoch yet."
    for count in (1, 3):
        add_trials(service, "films", count - seen.page.locator("polyline").count())
        expect(seen.page.locator("polyline")).to_have_count(count)
    expect(seen.page.locator("#progress")).to_contain_text("3 of 9 trials ended")
    expect(seen.page.locator("#best")).to_contain_text("trial 2")
    assert_accessible(seen)
    assert seen.complaints == []


def test_optuna_dashboard_is_one_link_away_and_only_administrators_change_it(
    service, visit
) -> None:
    with service.client(Role.EDITOR) as client:
        submit(client)
        add_trials(service, "films", 2)
        assert client.delete("/api/studies/1").status_code == 403
        assert "administrators" in client.delete("/api/studies/1").json()["reason"]
        assert client.get("/api/studies").status_code == 200
    seen = visit(service.address)
    log_in(seen.page, service)
    seen.page.click("nav >> text=optuna-dashboard")
    seen.page.get_by_text("films").first.wait_for()
    seen.page.get_by_text("read-only").wait_for()
    assert seen.complaints == []
    with service.client(Role.ADMINISTRATOR) as administrator:
        assert administrator.delete("/api/studies/1").status_code == 204
        memory = administrator.get("/metrics").text
    resident = float(re.search(r"^process_resident_memory_bytes (.*)$", memory, re.MULTILINE)[1])
    assert resident < 300 * 2**20


def test_a_wrong_token_is_refused_and_many_have_to_wait(service) -> None:
    with service.client() as client:
        right = {"token": service.tokens[Role.VIEWER], "next": "/study/films"}
        answer = client.post("/login", data=right)
        assert (answer.status_code, answer.headers["location"]) == (303, "/study/films")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert client.get("/v1/me").json()["role"] == "viewer"
        client.cookies.clear()
        for _ in range(10):
            assert client.post("/login", data={"token": "wrong"}).status_code == 401
        late = client.post("/login", data=right)
        assert late.status_code == 429
        assert int(late.headers["retry-after"]) > 0
        assert "set-cookie" not in late.headers


def test_a_form_of_another_shape_is_a_wrong_token(shared) -> None:
    with shared.client() as client:
        form = {f"field{number}": "x" for number in range(20)}
        assert client.post("/login", data=form).status_code == 401


def test_a_client_that_leaves_is_no_failure_of_the_service() -> None:
    app, sent = FastAPI(), []
    app.state.context = None
    app.include_router(pages)
    answer_with_problems(app)

    async def leave() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/login", "query_string": b"", "headers": []
    }  # fmt: skip
    with ThreadPoolExecutor(1) as threads:  # as in helpers.access
        threads.submit(asyncio.run, app(scope, leave, send)).result()
    assert sent[0]["status"] == 400


@pytest.mark.parametrize("place", ["//evil.example", "/\\evil.example", "http://evil.example", ""])
def test_logging_in_leads_to_no_other_site(shared, place) -> None:
    with shared.client() as client:
        form = {"token": shared.tokens[Role.VIEWER], "next": place}
        assert client.post("/login", data=form).headers["location"] == "/"


def test_logging_out_forgets_the_token(shared) -> None:
    with shared.client() as client:
        client.post("/login", data={"token": shared.tokens[Role.VIEWER]})
        assert client.get("/v1/me").status_code == 200
        client.post("/logout")
        assert client.get("/v1/me").status_code == 401


def test_markup_in_a_name_stays_text(shared) -> None:
    with shared.client(Role.EDITOR) as client:
        answer = client.get("/study/<script>alert(1)</script>")
        assert answer.status_code == 404
        page = client.get("/login", params={"next": '/"><script>alert(1)</script>'}).text
        assert "<script>alert" not in page
        assert "script-src 'self'" in client.get("/").headers["content-security-policy"]


def test_the_check_of_the_pages_notices_a_picture_without_words(visit, tmp_path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<!DOCTYPE html><html lang="en"><title>x</title><main><img src="data:,">')
    with pytest.raises(AssertionError, match="must have alternative text"):
        assert_accessible(visit(page))
