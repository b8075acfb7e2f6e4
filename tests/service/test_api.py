"""The API: from an upload to a study in the queue, and how wrong requests are answered."""

from __future__ import annotations

import asyncio
import io
import shutil
import socket
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import httpx2
import numpy as np
import pyarrow as pa
import pytest
from fastapi import Request
from helpers.services import ROWS, Service, add_trials, serving, sha256, small_study, submit, upload
from helpers.storage_rows import invoke
from pyarrow import parquet

from gru_optuna.errors import DataError
from gru_optuna.service.api.data import receive_upload
from gru_optuna.service.context import ServiceSettings
from gru_optuna.service.problems import RequestRefused
from gru_optuna.service.processes import inspect_upload
from gru_optuna.storage import uploads
from gru_optuna.storage.database.open import open_engine, open_storage
from gru_optuna.workspace import Workspace

TOML = {"Content-Type": "application/toml"}


@pytest.fixture(scope="module")
def service(tmp_path_factory, nursery):
    folder = tmp_path_factory.mktemp("service")
    with serving(folder, "--upload-limit", "0.002", nursery=nursery) as running:
        yield running


@pytest.fixture
def client(service):
    with service.client() as found:
        yield found
    with service.client() as cleaner:
        answer = cleaner.get("/v1/studies")
        assert answer.status_code == 200, answer.text
        for study in answer.json():
            cleaner.delete(f"/v1/studies/{study['name']}")
        for stored in cleaner.get("/v1/data").json():
            assert cleaner.delete(f"/v1/data/{stored['sha256']}").status_code == 204


def refused(answer: httpx2.Response, status: int) -> str:
    """The sentence of a problem document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    return problem["detail"]


def test_a_file_is_uploaded_inspected_drafted_and_submitted(client) -> None:
    data = upload(client)
    (stored,) = client.get("/v1/data").json()
    assert (stored["name"], stored["bytes"]) == ("films.csv", len(ROWS))
    seen = client.get(f"/v1/data/{data}").json()["inspection"]
    assert seen["files"][0]["file"] == "films.csv"
    assert seen["files"][0]["rows"] == 120
    draft = client.post("/v1/drafts", json={"data": data}).json()
    assert draft["targets"] == ["label"]
    assert f'train = "{data}/films.csv"' in draft["toml"]
    made = client.post("/v1/studies", content=draft["toml"], headers=TOML)
    assert made.status_code == 201
    assert made.headers["location"] == f"/v1/studies/{draft['name']}"
    assert made.json()["state"] == "queued"
    assert [each["name"] for each in client.get("/v1/studies").json()] == [draft["name"]]


def test_a_draft_takes_test_rows_and_the_target_that_was_chosen(client) -> None:
    rows = "text,label,stars\n" + "".join(
        f"{'good' if n % 2 else 'bad'} film {n},{'yes' if n % 2 else 'no'},{n % 7 / 2}\n"
        for n in range(200)
    )
    few = "".join(rows.splitlines(keepends=True)[:60])
    data, test = upload(client, rows, "train.csv"), upload(client, few, "rest.csv")
    wanted = {"data": data, "test": test, "roles": {"task": "regression", "target": "stars"}}
    draft = client.post("/v1/drafts", json=wanted).json()
    assert f'test = "{test}/rest.csv"' in draft["toml"]
    assert 'target = "stars"' in draft["toml"]
    wanted["roles"] = {"target": "starz"}
    detail = refused(client.post("/v1/drafts", json=wanted), 422)
    assert detail == 'train.csv: no column "starz". Did you mean "stars"?'
    rows = io.BytesIO()
    np.savez(rows, values=np.ones((3, 2, 1), np.float32), targets=[1.0, 2.0, 3.0])
    data = sha256(rows.getvalue())
    client.put(f"/v1/data/{data}", params={"name": "few.npz"}, content=rows.getvalue())
    detail = refused(client.post("/v1/drafts", json={"data": data}), 422)
    assert detail.startswith("few.npz: validation = 0.2 of")


def test_the_same_key_submits_a_study_once(client) -> None:
    body = small_study("films", upload(client))
    headers = TOML | {"Idempotency-Key": "monday"}
    first = client.post("/v1/studies", content=body, headers=headers)
    again = client.post("/v1/studies", content=body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    other = client.post("/v1/studies", content=body + "# changed", headers=headers)
    assert "was used for another submission" in refused(other, 422)
    assert "already a study" in refused(client.post("/v1/studies", content=body, headers=TOML), 409)


def test_a_change_names_the_version_that_was_seen(client) -> None:
    submit(client)
    seen = client.get("/v1/studies/films")
    assert "If-Match" in refused(
        client.patch("/v1/studies/films", json={"state": "suspended"}), 428
    )
    stamp = {"If-Match": seen.headers["etag"]}
    done = client.patch("/v1/studies/films", json={"state": "suspended"}, headers=stamp)
    assert (done.status_code, done.json()["state"]) == (200, "suspended")
    stale = client.patch("/v1/studies/films", json={"state": "queued"}, headers=stamp)
    assert "has changed meanwhile" in refused(stale, 412)
    more = {"budget": {"trials": 9}, "state": "queued"}
    stamp = {"If-Match": done.headers["etag"]}
    raised = client.patch("/v1/studies/films", json=more, headers=stamp).json()
    assert (raised["budget"]["trials"], raised["state"]) == (9, "queued")


def test_the_problems_of_a_study_file_carry_their_places(client) -> None:
    body = small_study("films", upload(client)).replace("hidden_size", "hiden_size")
    answer = client.post(
        "/v1/studies", content=body.replace("epochs = 2", "epochs = 0"), headers=TOML
    )
    refused(answer, 422)
    problems = answer.json()["errors"]
    assert [problem["place"] for problem in problems] == ["model", "training.epochs"]
    assert 'unknown key "hiden_size". Did you mean "hidden_size"?' in problems[0]["detail"]
    assert client.get("/v1/studies").json() == []


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"\xff\xfe", "byte 0 is not UTF-8"),
        (b"name = ", "not valid TOML"),
        (b"", "missing"),
        (b'name = "../x"\n[data]\ntrain = "a.csv"\ntext = "t"\nlabel = "l"', "also names a folder"),
        (b'name = "<script>"\n[data]\ntrain = "a.csv"\ntext = "t"\nlabel = "l"', "names a folder"),
        (b'name = "x"\n[data]\ntrain = "/etc/passwd"\ntext = "t"\nlabel = "l"', "leads out of"),
        (b'name = "x"\n[data]\ntrain = "a.csv"\ntext = "t"\nlabel = "l"', "was not uploaded"),
        (b"a = " + b"[" * 2000, "not valid TOML"),
    ],
)
def test_what_is_no_study_file_is_refused(client, body, sentence) -> None:
    assert sentence in refused(client.post("/v1/studies", content=body, headers=TOML), 422)
    assert client.get("/v1/studies").json() == []


def test_a_body_of_another_type_is_refused(client) -> None:
    answer = client.post("/v1/studies", json={"name": "x"})
    assert "application/toml" in refused(answer, 415)
    answer = client.post("/v1/drafts", content=b"{", headers={"Content-Type": "application/json"})
    assert "not JSON" in refused(answer, 400)
    answer = client.post("/v1/drafts", json={"data": "x", "colour": "red"})
    refused(answer, 422)
    assert [each["place"] for each in answer.json()["errors"]] == ["data", "colour"]


def test_an_upload_that_lies_or_is_cut_off_leaves_nothing(service, client) -> None:
    body = ROWS.encode()
    lie = client.put(f"/v1/data/{sha256(b'other')}", params={"name": "a.csv"}, content=body)
    assert f"The body's SHA-256 is {sha256(body)}" in refused(lie, 422)
    address = httpx2.URL(service.address)
    with socket.create_connection((address.host, address.port)) as cut:
        head = f"PUT /v1/data/{sha256(body)}?name=a.csv HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        cut.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:100])
    assert client.get("/v1/data").json() == []


@pytest.mark.parametrize("declared", [True, False])
def test_an_upload_that_is_too_large_is_refused(client, declared) -> None:
    body = b"x" * 3_000_000
    content = body if declared else (body[n : n + 50_000] for n in range(0, len(body), 50_000))
    answer = client.put(f"/v1/data/{sha256(body)}", params={"name": "a.csv"}, content=content)
    assert "larger than 2 MiB" in refused(answer, 413)
    assert client.get("/v1/data").json() == []


def test_a_study_file_that_is_too_large_is_refused(client) -> None:
    body = b"#" * 2_000_000
    assert "larger than 1 MiB" in refused(
        client.post("/v1/studies", content=body, headers=TOML), 413
    )
    parts = (body[n : n + 50_000] for n in range(0, len(body), 50_000))
    assert "larger than 1 MiB" in refused(
        client.post("/v1/studies", content=parts, headers=TOML), 413
    )


@pytest.mark.parametrize("name", ["../x.csv", "a/b.csv", "..", "", "é" * 120 + ".csv", "a\0.csv"])
def test_a_name_that_is_no_files_is_refused(client, name) -> None:
    body = ROWS.encode()
    answer = client.put(f"/v1/data/{sha256(body)}", params={"name": name}, content=body)
    assert "not the name of a file" in refused(answer, 422)
    assert client.get("/v1/data").json() == []


def _bomb_npz() -> bytes:
    header = b"\x93NUMPY\x01\x00"
    text = (
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000), }".ljust(117) + "\n"
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("values.npy", header + len(text).to_bytes(2, "little") + text.encode())
    return packed.getvalue()


def test_a_file_that_unpacks_to_terabytes_is_refused_by_its_inspection(client) -> None:
    bomb = _bomb_npz()
    data = sha256(bomb)
    assert client.put(f"/v1/data/{data}", params={"name": "a.npz"}, content=bomb).status_code == 201
    assert "more than" in refused(client.get(f"/v1/data/{data}"), 422)


def test_a_table_that_unpacks_to_terabytes_is_refused_by_its_inspection(tmp_path, here) -> None:
    """One value of half a megabyte, a hundred thousand times, in less than a kilobyte."""
    value = pa.array(["x" * 500_000])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int8()), value)
    bomb = io.BytesIO()
    table = pa.table({"text": column, "label": column})
    parquet.write_table(table, bomb, compression="zstd", store_schema=False)
    assert len(bomb.getvalue()) < 1000
    url = f"sqlite:///{tmp_path / 'x.db'}"
    open_storage(url, create=True)
    engine = open_engine(url)
    stored = uploads.put(engine, "a.parquet", bomb)
    settings = ServiceSettings(url, Workspace(here), inspection_seconds=30)
    with pytest.raises(DataError, match=r"^a.parquet: .*more (memory )?than"):
        inspect_upload(engine, settings, stored)
    engine.dispose()


def test_a_budget_is_not_lowered_below_what_was_used(service: Service, client) -> None:
    submit(client)
    add_trials(service, "films", 2)
    stamp = {"If-Match": client.get("/v1/studies/films").headers["etag"]}
    for change, status, sentence in (
        ({"budget": {"trials": 1}}, 409, "budget.trials: 1 is below what was used already (2)"),
        ({"budget": {"trials": 0}}, 422, "budget.trials"),
        ({"budget": {"trails": 9}}, 422, "budget.trails"),
        ({"colour": "red"}, 422, "colour"),
    ):
        answer = client.patch("/v1/studies/films", json=change, headers=stamp)
        assert sentence in refused(answer, status)
    assert client.get("/v1/studies/films").headers["etag"] == stamp["If-Match"]


def test_a_study_without_a_winner_has_no_bundle(client) -> None:
    submit(client)
    for answer in (client.post("/v1/studies/films/bundles"), client.get("/v1/studies/films/best")):
        assert "has no result: No worker has begun with it yet." in refused(answer, 409)
    assert "nothing to report" in refused(client.get("/v1/studies/films/report/"), 409)
    assert client.get("/v1/studies/films/bundles").json() == []


def test_what_does_not_exist_is_not_found(client) -> None:
    none = sha256(b"none")
    for path in (
        "studies/none", "studies/none/trials", "studies/none/events", "studies/none/report/",
        "studies/none/bundles", f"data/{none}", "bundles/7", "bundles/7/predictions",
        "bundles/7/predictions/8", "nothing",
    ):  # fmt: skip
        refused(client.get(f"/v1/{path}"), 404)
    refused(client.delete("/v1/studies/none"), 404)
    refused(client.delete(f"/v1/data/{none}"), 404)
    assert "Did you mean" in refused(_beside(client), 404)


def _beside(client) -> httpx2.Response:
    submit(client)
    return client.get("/v1/studies/film")


def test_a_file_that_a_study_uses_stays(client) -> None:
    study = submit(client)
    data = study["data"]["train"]
    assert 'used by the study "films"' in refused(client.delete(f"/v1/data/{data}"), 409)
    assert client.delete("/v1/studies/films").status_code == 204
    assert client.delete(f"/v1/data/{data}").status_code == 204


def test_the_service_says_whether_it_works(service, client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}
    submit(client)
    assert 'gru_optuna_studies{state="queued"} 1.0' in client.get("/metrics").text


def test_trials_come_in_pages_and_as_csv(service: Service, client) -> None:
    submit(client)
    add_trials(service, "films", 5)
    page = client.get("/v1/studies/films/trials", params={"limit": 3}).json()
    assert [trial["number"] for trial in page["trials"]] == [0, 1, 2]
    rest = client.get("/v1/studies/films/trials", params={"after": page["after"]}).json()
    assert [trial["number"] for trial in rest["trials"]] == [3, 4]
    assert rest["after"] is None
    as_csv = {"format": "csv"}
    table = client.get("/v1/studies/films/trials", params=as_csv)
    assert table.headers["content-type"].startswith("text/csv")
    assert len(table.text.splitlines()) == 6
    printed = invoke("trials", "films", "--storage", service.database, code=0)
    assert printed.stdout == table.text
    submit(client, "new")
    (header,) = client.get("/v1/studies/new/trials", params=as_csv).text.splitlines()
    assert header.startswith("number,state,value,")


def test_a_trial_of_another_program_is_shown_in_its_row(service: Service, client) -> None:
    submit(client)
    add_trials(service, "films", 1, without_params=True)
    submit(client, "sound")
    for study in client.get("/v1/studies").json():
        broken = study["name"] == "films"
        assert (study["error"] is not None) == broken
        assert not broken or "a trial has no parameter 'learning_rate'" in study["error"]
    assert "a trial has no parameter" in client.get("/").text
    assert client.get("/study/films").status_code == 200
    assert client.get("/v1/studies/films/best").status_code == 409
    assert client.get("/v1/studies/films/trials", params={"format": "csv"}).status_code == 200
    assert client.post("/v1/studies/films/bundles").status_code == 409


def test_a_study_with_two_goals_shows_the_metric(service: Service, client) -> None:
    goals = 'metric = ["accuracy", "network_parameters"]\nfit_baselines'
    body = small_study("films", upload(client)).replace("fit_baselines", goals)
    assert client.post("/v1/studies", content=body, headers=TOML).status_code == 201
    add_trials(service, "films", 2)
    found = client.get("/v1/studies/films").json()
    assert (found["metric"], found["best"]["number"]) == ("accuracy", 1)
    trials = client.get("/v1/studies/films/trials").json()["trials"]
    assert [trial["value"] for trial in trials] == [0.7, 0.701]
    best = client.get("/v1/studies/films/best").json()
    assert best["front"]


@pytest.mark.parametrize("declared", [True, False])
def test_an_upload_that_would_fill_the_disk_is_refused(tmp_path, made_sqlite, declared) -> None:
    shutil.copy(made_sqlite, tmp_path / "x.db")
    engine = open_engine(f"sqlite:///{tmp_path / 'x.db'}")
    body = ROWS.encode()
    pieces = iter([body[:100], body[100:]])

    async def receive() -> dict[str, object]:
        piece = next(pieces, b"")
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    headers = [(b"content-length", str(len(body)).encode())] if declared else []
    request = Request({"type": "http", "headers": headers}, receive)

    reserve = shutil.disk_usage(tmp_path).free + (1 << 40)
    settings = ServiceSettings(str(engine.url), Workspace(tmp_path), reserve_bytes=reserve)
    context = SimpleNamespace(settings=settings, engine=engine)
    with pytest.raises(RequestRefused, match="The disk of the service has no room for") as refusal:
        asyncio.run(receive_upload(context, request, "rows.csv", None))
    assert refusal.value.status == 507
    assert uploads.list_all(engine) == []
    engine.dispose()


def test_uploads_lie_in_the_place_that_was_chosen(tmp_path) -> None:
    with serving(tmp_path) as service, service.client() as client:
        in_rows = upload(client, "text,label\nfine,1\n", "rows.csv")
        place = Path(invoke("storage", "uploads", str(tmp_path / "shared"), "--storage",
                            service.database, code=0).stdout.strip())  # fmt: skip
        data = upload(client)
        (stored,) = (place / "uploads").iterdir()
        assert stored.read_text() == ROWS
        seen = client.get(f"/v1/data/{data}").json()["inspection"]
        assert seen["files"][0]["rows"] == 120

        place.rename(tmp_path / "away")
        lacking = "there is no such folder on this machine"
        answer = client.put(f"/v1/data/{sha256(b'new')}?name=new.csv", content=b"new")
        assert lacking in refused(answer, 503)
        assert lacking in refused(client.get(f"/v1/data/{data}"), 503)
        assert client.get(f"/v1/data/{in_rows}").status_code == 200
        for command in ("serve", "worker"):
            said = subprocess.run(
                [sys.executable, "-m", "gru_optuna", command, "--storage", service.database],
                cwd=tmp_path, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert said.returncode == 2, said.stderr
            assert lacking in said.stderr
            assert said.stderr.count("\n") == 1

        (tmp_path / "away").rename(place)
        assert client.delete(f"/v1/data/{data}").status_code == 204
        assert not list(place.glob("uploads/*"))
        assert [each["name"] for each in client.get("/v1/data").json()] == ["rows.csv"]
