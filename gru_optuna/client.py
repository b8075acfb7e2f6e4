"""A client of the service: studies that other machines work on, as if they were here."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
import time
import zipfile
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from gru_optuna.errors import BundleError, GRUOptunaError, StudyFailed, UserError
from gru_optuna.workspace import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from io import BufferedIOBase

    import httpx2

    from gru_optuna.bundle.bundle import Bundle

TOKEN_FILE_VARIABLE = "GRU_OPTUNA_TOKEN_FILE"  # noqa: S105

_SECONDS = 120.0
_MOST_TIMES = 200  # as large as it was packed
_LOOK_SECONDS = 1.0
_MOST_TRIES = 30
_OVER = ("done", "failed", "cancelled")


def connect(url: str, token: str | None = None) -> ServiceClient:
    """Connects to a service that ``gru-optuna serve`` runs.

    Parameters
    ----------
    url
        Its address, such as ``https://studies.example.org``.
    token
        Your token. By default it comes from the variable ``GRU_OPTUNA_TOKEN``, or from the file
        that ``GRU_OPTUNA_TOKEN_FILE`` names, which nobody else may read. On the machine of a
        service without tokens none is needed.

    Raises
    ------
    UserError
        If the service refuses the token, or others may read its file.
    GRUOptunaError
        If the service can't be reached.

    Examples
    --------
    >>> service = connect("http://127.0.0.1:8080")                     # doctest: +SKIP
    >>> study = service.tune("reviews.csv", label="rating", trials=30) # doctest: +SKIP
    >>> study.wait().bundle().predict(["a delight"])                   # doctest: +SKIP
    array(['positive'], dtype=object)
    """
    client = ServiceClient(url, token or _stored_token())
    client.request("GET", "/v1/me")
    return client


class ServiceClient:
    """A service, as one token may use it; see `connect`."""

    def __init__(self, url: str, token: str | None = None) -> None:
        import httpx2

        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx2.Client(base_url=url, headers=headers, timeout=_SECONDS)
        self._url = url

    def studies(self) -> list[dict[str, Any]]:
        """What the service says of each study, in the order of their names."""
        found: list[dict[str, Any]] = self.request("GET", "/v1/studies").json()
        return found

    def study(self, name: str) -> RemoteStudy:
        """A study by its name.

        Raises
        ------
        UserError
            If there is none.
        """
        study = RemoteStudy(self, name)
        study.status()
        return study

    def upload(self, data: Any, name: str | None = None) -> str:
        """Stores rows in the service, which keeps them by their content; returns their SHA-256.

        Parameters
        ----------
        data
            A file, or a frame of polars or pandas.
        name
            The file's name, which says its format. By default its own.

        Raises
        ------
        UserError
            If it can't be read, or the service refuses it.
        """
        with _content_of(data) as content:
            own_name = name or Path(getattr(content, "name", "rows.parquet")).name
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
            stored = {(each["sha256"], each["name"]) for each in self.uploads()}
            if (sha256, own_name) not in stored:
                content.seek(0)
                params = {"name": own_name}
                self.request("PUT", f"/v1/data/{sha256}", params=params, content=content)
        return sha256

    def uploads(self) -> list[dict[str, Any]]:
        """The stored files, the newest first: ``sha256``, ``name``, ``bytes`` and more."""
        found: list[dict[str, Any]] = self.request("GET", "/v1/data").json()
        return found

    def delete_upload(self, sha256: str) -> None:
        """Deletes a stored file.

        Raises
        ------
        UserError
            If there is none, or a study uses it.
        """
        self.request("DELETE", f"/v1/data/{sha256}")

    def draft(
        self, data: str, test: str | None = None, roles: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Drafts a study file for uploads: ``toml``, ``findings``, ``targets`` and more."""
        wanted = {"data": data, "test": test, "roles": dict(roles or {})}
        found: dict[str, Any] = self.request("POST", "/v1/drafts", json=wanted).json()
        return found

    def submit(
        self, toml: str, data: Mapping[str, str] | None = None, key: str | None = None
    ) -> RemoteStudy:
        """Submits a study file.

        Parameters
        ----------
        toml
            Its text.
        data
            The SHA-256 of the upload for each part (train, validation, test) whose path in the file
            doesn't say it.
        key
            However often you submit under the same key, there is one study.

        Raises
        ------
        UserError
            If the study file is wrong, or there is a study of its name.
        """
        headers = {"Content-Type": "application/toml"}
        headers |= {} if key is None else {"Idempotency-Key": key}
        answer = self.request(
            "POST", "/v1/studies", content=toml.encode(), params=dict(data or {}), headers=headers
        )
        return RemoteStudy(self, answer.json()["name"])

    def tune(
        self,
        data: Any,
        *,
        test: Any = None,
        name: str | None = None,
        trials: int | None = None,
        task: Literal["classification", "regression", "forecasting"] | None = None,
        **roles: Any,
    ) -> RemoteStudy:
        """Uploads rows, drafts a study for them, and submits it.

        Parameters
        ----------
        data
            The training rows: a file, or a frame of polars or pandas.
        test
            The test rows, likewise; None: some of the rows.
        name
            The study's name; None: that of the file.
        trials
            The budget; None: the draft's.
        task
            What to learn; None: guessed.
        **roles
            Columns with a role, as ``gru-optuna init`` takes them: ``target="price"``.

        Raises
        ------
        UserError
            If there is nothing to learn from the data, or the service refuses the study.
        """
        train = self.upload(data)
        others = None if test is None else self.upload(test)
        given = roles if task is None else roles | {"task": task}
        toml = self.draft(train, others, given)["toml"]
        if name is not None:
            line = f"name = {json.dumps(name, ensure_ascii=False)}"
            toml = re.sub("^name = .*$", lambda _: line, toml, count=1, flags=re.MULTILINE)
        if trials is not None:
            toml = re.sub(r"^trials = \d+.*$", f"trials = {trials}", toml, flags=re.MULTILINE)
        return self.submit(toml)

    def request(self, method: str, path: str, **options: Any) -> httpx2.Response:
        """Sends a request, and returns the answer to it.

        Raises
        ------
        UserError
            If the service refuses it, with the service's sentence.
        GRUOptunaError
            If the service fails, or can't be reached.
        """
        import httpx2

        try:
            answer = self._http.request(method, path, **options)
        except httpx2.HTTPError as error:
            raise GRUOptunaError(
                f"{self._url} can't be reached ({error}). Check the address, and whether "
                f"gru-optuna serve runs there."
            ) from None
        if answer.is_success:
            return answer
        try:
            detail = answer.json()["detail"]
        except (ValueError, LookupError, TypeError):
            detail = f"{self._url} answered {answer.status_code} {answer.reason_phrase}."
        if answer.is_server_error:
            raise GRUOptunaError(detail)
        raise RequestDenied(HTTPStatus(answer.status_code), detail)


class RequestDenied(UserError):  # noqa: N818 (an answer, not a fault)
    """The service refused a request; `status` is that of its answer."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class RemoteStudy:
    """A study in a service.

    Parameters
    ----------
    client
        The service.
    name
        The study's name.
    """

    def __init__(self, client: ServiceClient, name: str) -> None:
        self.name = name
        self._client = client
        self._path = f"/v1/studies/{quote(name, safe='')}"

    def __repr__(self) -> str:
        return f"RemoteStudy({self.name!r})"

    def status(self) -> dict[str, Any]:
        """What the service says of it: ``state``, ``trials``, ``best``, ``budget`` and more."""
        found: dict[str, Any] = self._client.request("GET", self._path).json()
        return found

    def trials(self) -> Iterator[dict[str, Any]]:
        """Its trials, by number."""
        after: int | None = -1
        while after is not None:
            params = {"after": after, "limit": 1000}
            page = self._client.request("GET", f"{self._path}/trials", params=params).json()
            yield from page["trials"]
            after = page["after"]

    def wait(
        self,
        seconds: float | None = None,
        on_look: Callable[[dict[str, Any]], None] | None = None,
    ) -> RemoteStudy:
        """Waits until nothing is left to do, and returns the study.

        A service that can't be reached for a while is waited for.

        Parameters
        ----------
        seconds
            How long to wait at most.
        on_look
            Is called with the study's `status` at each look.

        Raises
        ------
        StudyFailed
            If it failed or was cancelled.
        TimeoutError
            If it takes longer.
        """
        end, failed = None if seconds is None else time.monotonic() + seconds, 0
        while True:
            try:
                found = self.status()
                failed = 0
            except UserError:
                raise
            except GRUOptunaError:
                failed += 1
                if failed == _MOST_TRIES:
                    raise
                found = {"state": None}
            if on_look is not None and found["state"] is not None:
                on_look(found)
            if found["state"] == "done":
                return self
            if found["state"] in _OVER:
                reason = found["error"] or f"It was {found['state']}."
                raise StudyFailed(f'study "{self.name}" has no result: {reason}')
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f'study "{self.name}" is {found["state"]} after {seconds:g} s')
            time.sleep(_LOOK_SECONDS)

    def suspend(self) -> None:
        """Lets its workers leave it after the epoch in flight."""
        self._change({"state": "suspended"})

    def resume(self) -> None:
        """Continues it after `suspend`, or tries it again after a failure."""
        self._change({"state": "queued"})

    def cancel(self) -> None:
        """Ends it for good."""
        self._change({"state": "cancelled"})

    def set_budget(self, **limits: float | None) -> None:
        """Changes its budget: ``trials``, ``epochs`` or ``hours``; None removes a limit."""
        self._change({"budget": limits})

    def best_text(self) -> str:
        """Its best configuration, as ``gru-optuna best`` prints it.

        Raises
        ------
        UserError
            If it has none yet.
        """
        params = {"format": "text"}
        return self._client.request("GET", f"{self._path}/best", params=params).text

    def best(self) -> dict[str, Any]:
        """Its best configuration, as ``gru-optuna best --json`` prints it.

        Raises
        ------
        UserError
            If it has none yet.
        """
        found: dict[str, Any] = self._client.request("GET", f"{self._path}/best").json()
        return found

    def bundle(
        self, folder: str | Path | None = None, *, single: bool = False, refit: bool | None = None
    ) -> Bundle:
        """Lets a worker make a bundle of the winner, waits for it, and loads it.

        Parameters
        ----------
        folder
            Where to keep it, a new folder; None: in memory alone.
        single
            One network in place of the ensemble.
        refit
            Whether it is trained again on all rows; None: where that helps.

        Raises
        ------
        UserError
            If the study has no winner, the bundle can't be made, or the folder exists.
        """
        from gru_optuna.bundle.folder import read_files, write_files
        from gru_optuna.bundle.load import load_bundle

        kept = None if folder is None else Path(folder)
        if kept is not None and kept.exists():
            raise BundleError(f"{kept} exists already. Name another folder, or remove it.")
        wanted = {"single": single, "refit": refit}
        made = self._client.request("POST", f"{self._path}/bundles", json=wanted)
        packed = self._finished(made.headers["Location"])
        with tempfile.TemporaryDirectory() as unpacked:
            _unpack(packed, unpacked)
            bundle = load_bundle(unpacked)  # which checks every file
            if kept is not None:
                write_files(kept, read_files(Path(unpacked)))
        return bundle

    def delete(self) -> None:
        """Deletes it with its trials. What it was made from stays uploaded."""
        self._client.request("DELETE", self._path)

    def _change(self, wanted: dict[str, Any]) -> None:
        self._client.request("PATCH", self._path, json=wanted, headers={"If-Match": "*"})

    def _finished(self, place: str) -> bytes:
        """What a worker makes, once it is there."""
        while True:
            try:
                return self._client.request("GET", place).content
            except RequestDenied as error:
                if error.status != HTTPStatus.CONFLICT or "could not be made" in str(error):
                    raise
            time.sleep(_LOOK_SECONDS)


def _unpack(packed: bytes, folder: str) -> None:
    """Unpacks a bundle, unless it would fill the disk: weights hardly shrink when packed."""
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            if sum(file.file_size for file in archive.infolist()) > _MOST_TIMES * len(packed):
                raise zipfile.BadZipFile("it unpacks to far more than it holds")
            archive.extractall(folder)
    except (zipfile.BadZipFile, OSError) as error:
        raise BundleError(f"The bundle of the service can't be unpacked: {error}.") from None


def _content_of(data: Any) -> BufferedIOBase:
    """A file or frame, to be read."""
    if isinstance(data, str | Path):
        try:
            return Path(data).open("rb")
        except OSError as error:
            raise UserError(f"{data}: {error.strerror}. Check the path.") from None
    written = io.BytesIO()
    if hasattr(data, "write_parquet"):  # polars
        data.write_parquet(written)
    elif hasattr(data, "to_parquet"):  # pandas
        data.to_parquet(written)
    else:
        raise UserError(f"data is {type(data).__name__}. Give a file, or a polars or pandas frame.")
    written.seek(0)
    return written


def _stored_token() -> str | None:
    """The token in the environment, or in a file that it names."""
    if token := os.environ.get(TOKEN_VARIABLE):
        return token
    if not (name := os.environ.get(TOKEN_FILE_VARIABLE)):
        return None
    path = Path(name)
    try:
        mode = path.stat().st_mode
        if os.name == "posix" and mode & 0o077:
            raise UserError(f"{path}: others may read this token. Run: chmod 600 {path}.")
        return path.read_text(encoding="utf-8").strip() or None
    except OSError as error:
        raise UserError(f"{TOKEN_FILE_VARIABLE}={path}: {error.strerror}.") from None
