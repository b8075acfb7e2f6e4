"""The journey from a file to predictions with curl alone, as docs/service.md shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from http import HTTPStatus

import polars as pl
import pytest
from helpers.processes import DEADLINE, wait_for
from helpers.services import ROWS, serving, sha256, working

from gru_optuna.storage.tokens import Role

CURL = shutil.which("curl")
ROWS_WITH_STARS = "text,label,stars\n" + "".join(
    f"{line},{number % 2}\n" for number, line in enumerate(ROWS.splitlines()[1:])
)


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_from_a_file_to_predictions_with_curl(tmp_path, nursery) -> None:
    file = tmp_path / "films.csv"
    file.write_text(ROWS_WITH_STARS)
    digest = sha256(file.read_bytes())
    with serving(tmp_path, roles=True) as service:
        url, kept = f"{service.address}v1", tmp_path / "answer"
        bearer = f"Authorization: Bearer {service.tokens[Role.EDITOR]}"

        def curl(*arguments: str) -> tuple[int, bytes]:
            """Status and body of one request."""
            done = subprocess.run(
                [CURL, "-sS", "-H", bearer, "-o", kept, "-w", "%{http_code}", *arguments],
                capture_output=True, timeout=DEADLINE, check=True,
            )  # fmt: skip
            return int(done.stdout), kept.read_bytes() if kept.exists() else b""

        assert curl("-T", str(file), f"{url}/data/{digest}?name=films.csv")[0] == HTTPStatus.CREATED
        status, draft = curl("--json", json.dumps({"data": digest}), f"{url}/drafts")
        assert (status, json.loads(draft)["targets"][0]) == (HTTPStatus.OK, "label")
        roles = {"data": digest, "roles": {"label": "stars"}}
        status, draft = curl("--json", json.dumps(roles), f"{url}/drafts")
        toml = json.loads(draft)["toml"]
        for key, value in {"trials": 1, "epochs": 1, "candidates": 1, "seeds": 1}.items():
            toml = re.sub(rf"^(# )?{key} = .*$", f"{key} = {value}", toml, flags=re.MULTILINE)
        (tmp_path / "films.toml").write_text(f"fit_baselines = false\n{toml}")
        submitted = ["-H", "Content-Type: application/toml", "-H", "Idempotency-Key: films-1"]
        for _ in range(2):
            status, body = curl(
                *submitted, "--data-binary", f"@{tmp_path}/films.toml", f"{url}/studies"
            )
            assert (status, json.loads(body)["state"]) == (HTTPStatus.CREATED, "queued")

        change = ["-X", "PATCH", "-H", "If-Match: *", f"{url}/studies/films", "--json"]
        for wanted in ("suspended", "queued"):
            status, body = curl(*change, json.dumps({"state": wanted}))
            assert (status, json.loads(body)["state"]) == (HTTPStatus.OK, wanted)

        stream = subprocess.Popen(
            [CURL, "-sSN", "-H", bearer, f"{url}/studies/films/events"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert stream.stdout is not None
        try:
            with working(service, nursery):
                assert next(line for line in stream.stdout if line.startswith("event: trials"))
                contents = (json.loads(line[6:]) for line in stream.stdout if line[:7] == "data: {")
                assert next(study for study in contents if study["state"] == "done")
                assert json.loads(curl(f"{url}/studies/films")[1])["state"] == "done"
                status, bundle = curl("-X", "POST", f"{url}/studies/films/bundles")
                assert status == HTTPStatus.ACCEPTED
                place = f"{url}/bundles/{json.loads(bundle)['id']}"
                wait_for("the bundle", lambda: curl(place)[0] == HTTPStatus.OK)
        finally:
            stream.kill()
            stream.communicate()
        with zipfile.ZipFile(kept) as archive:
            archive.extractall(tmp_path / "bundle")
    predicted = tmp_path / "predictions.csv"
    subprocess.run(
        [sys.executable, "-m", "gru_optuna", "predict", tmp_path / "bundle", file, "--out",
         predicted],
        check=True, capture_output=True,
    )  # fmt: skip
    table = pl.read_csv(predicted)
    assert table.height == len(ROWS.splitlines()) - 1
    assert set(table["prediction"].to_list()) <= {0, 1}
