"""The client, against a real service with a real worker: from a frame to predictions."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from io import BytesIO, StringIO

import numpy as np
import polars as pl
import pytest
from helpers.browser import assert_accessible
from helpers.processes import DEADLINE
from helpers.services import ROWS, add_trials, log_in, serving, small_study, working
from playwright.sync_api import expect

import gru_optuna
from gru_optuna.client import _unpack
from gru_optuna.errors import BundleError, GRUOptunaError, StudyFailed, UserError
from gru_optuna.storage.tokens import Role


@pytest.fixture(scope="module")
def service(tmp_path_factory, nursery):
    folder = tmp_path_factory.mktemp("service")
    with serving(folder, roles=True, nursery=nursery) as running:
        yield running


@pytest.fixture
def client(service):
    return gru_optuna.connect(service.address, service.tokens[Role.EDITOR])


def test_a_study_is_submitted_confirmed_and_taken_home(
    service, client, nursery, tmp_path, request
) -> None:
    study = client.submit(small_study("journey", client.upload(rows_file(tmp_path))))
    study.suspend()
    assert study.status()["state"] == "suspended"
    study.set_budget(trials=3)
    study.resume()
    states = set()
    with working(service, nursery):
        study.wait(DEADLINE, lambda found: states.add(found["state"]))
        assert study.status()["trials"]["complete"] + study.status()["trials"]["pruned"] == 3
        assert [trial["number"] for trial in study.trials()] == [0, 1, 2]
        assert study.best()["confirmed"] is not None
        bundle = study.bundle(tmp_path / "kept")
        rows = ["good film", "bad film"]
        predicted = bundle.predict(rows)
        assert np.array_equal(gru_optuna.load_bundle(tmp_path / "kept").predict(rows), predicted)
        with service.client(Role.EDITOR) as program:
            number = program.get("/v1/studies/journey/bundles").json()[-1]["id"]
            asked = program.post(
                f"/v1/bundles/{number}/predictions",
                params={"name": "rows.csv"},
                content=b"text\ngood film\nbad film\n",
            )
            assert asked.status_code == 202
            place = asked.headers["location"]
            assert program.get(place).status_code in (200, 409)
            table = pl.read_csv(StringIO(study._finished(place).decode()))
            (job,) = program.get(f"/v1/bundles/{number}/predictions").json()
            assert (job["id"], job["state"]) == (asked.json()["id"], "done")
        assert table["prediction"].to_list() == list(predicted)
        with service.client(Role.VIEWER) as reader:
            (worker,) = reader.get("/v1/workers").json()
            assert (worker["study"], worker["silent"]) == (None, False)
            page = reader.get("/v1/studies/journey/report/")
            assert page.headers["content-type"].startswith("text/html")
            assert "sandbox" in page.headers["content-security-policy"]
            assert "journey" in page.text
        # Last, since it skips the test where there is no browser.
        seen = request.getfixturevalue("visit")(f"{service.address}study/journey")
        page = seen.page
        log_in(page, service)
        expect(page.locator("#predict")).to_be_visible()  # once the page knows the bundle
        page.set_input_files("#rows", rows_file(tmp_path))
        expect(link := page.locator("#predictions a")).to_have_text(
            "Predictions of films.csv", timeout=1000 * DEADLINE
        )
        with page.expect_download() as download:
            link.click()
        online = pl.read_csv(download.value.path())
        assert online.height == len(ROWS.splitlines()) - 1
        with page.expect_download() as download:
            page.locator("#bundles a").first.click()
        assert_accessible(seen)
        assert not seen.complaints
    # At home, without the service: the same predictions, in a fresh process.
    with zipfile.ZipFile(download.value.path()) as archive:
        archive.extractall(tmp_path / "home")
    offline = subprocess.run(
        [sys.executable, "-m", "gru_optuna", "predict", tmp_path / "home", rows_file(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert pl.read_csv(StringIO(offline.stdout))["prediction"].equals(online["prediction"])


def rows_file(folder):
    """The rows as a file."""
    path = folder / "films.csv"
    path.write_text(ROWS)
    return path


def test_a_frame_is_drafted_and_submitted(client) -> None:
    frame = pl.read_csv(StringIO(ROWS))
    study = client.tune(frame, name="from-a-frame", trials=7, label="label")
    found = study.status()
    assert (found["name"], found["state"]) == ("from-a-frame", "queued")
    assert found["budget"]["trials"] == 7
    assert "from-a-frame" in [each["name"] for each in client.studies()]
    study.cancel()
    with pytest.raises(StudyFailed, match="It was cancelled"):
        study.wait()
    (data,) = study.status()["data"].values()
    with pytest.raises(UserError, match='used by the study "from-a-frame"'):
        client.delete_upload(data)
    study.delete()
    client.delete_upload(data)
    assert data not in [each["sha256"] for each in client.uploads()]


def test_what_the_service_refuses_is_an_error_with_its_sentence(service, client) -> None:
    with pytest.raises(UserError, match='no study "none" here'):
        client.study("none")
    with pytest.raises(UserError, match="not valid TOML"):
        client.submit("name = ")
    with pytest.raises(UserError, match="token is unknown"):
        gru_optuna.connect(service.address, "wrong")
    with pytest.raises(GRUOptunaError, match="can't be reached"):
        gru_optuna.connect("http://127.0.0.1:9")
    with pytest.raises(UserError, match="data is int"):
        client.upload(3)


def test_the_token_comes_from_the_environment_or_a_private_file(
    service, tmp_path, monkeypatch
) -> None:
    file = tmp_path / "token"
    file.write_text(service.tokens[Role.VIEWER] + "\n")
    monkeypatch.setenv("GRU_OPTUNA_TOKEN_FILE", str(file))
    for mode in (0o644, 0o640, 0o604, 0o620):
        file.chmod(mode)
        with pytest.raises(UserError, match=f"chmod 600 {file}"):
            gru_optuna.connect(service.address)
    file.chmod(0o600)
    gru_optuna.connect(service.address)
    monkeypatch.setenv("GRU_OPTUNA_TOKEN", "wrong")
    with pytest.raises(UserError, match="unknown"):
        gru_optuna.connect(service.address)


def test_waiting_ends_in_time(service, client, tmp_path) -> None:
    study = client.submit(small_study("slow", client.upload(rows_file(tmp_path))))
    add_trials(service, "slow", 1)
    with pytest.raises(TimeoutError, match='study "slow" is queued'):
        study.wait(0)
    study.delete()


@pytest.mark.parametrize(
    ("content", "message"), [(bytes(8 << 20), "far more than it holds"), (None, "not a zip file")]
)
def test_a_bundle_that_would_fill_the_disk_is_not_unpacked(tmp_path, content, message) -> None:
    packed = BytesIO()
    if content is not None:
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("bundle.json", content)
    with pytest.raises(BundleError, match=message):
        _unpack(packed.getvalue(), str(tmp_path))
    assert list(tmp_path.iterdir()) == []
