"""The service as a real process, and programs that talk to it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import httpx2
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from gru_optuna import study_file
from gru_optuna.storage.database.open import open_engine, open_storage
from gru_optuna.storage.tokens import Role, create_token
from gru_optuna.study import submissions
from gru_optuna.study.study import create_or_resume
from helpers.processes import DEADLINE, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Engine

    from helpers.processes import Nursery, Process


ROWS = "text,label\n" + "".join(
    f"{'good' if row % 2 else 'bad'} film number {row},{'yes' if row % 2 else 'no'}\n"
    for row in range(120)
)
"""Texts of two classes."""


def sha256(content: bytes) -> str:
    """The name of an upload."""
    return hashlib.sha256(content).hexdigest()


@dataclass
class Service:
    """A service that runs, and its database."""

    folder: Path
    address: str
    process: subprocess.Popen[str] | Process
    database: str  # its URL
    tokens: dict[Role, str] = field(default_factory=dict)

    @property
    def engine(self) -> Engine:
        """Its database, beside it."""
        return open_engine(self.database)

    def client(self, token: str | Role | None = None, **headers: str) -> httpx2.Client:
        """A program that bears a token, or that of a role."""
        token = self.tokens.get(token) if isinstance(token, Role) else token
        bearer = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx2.Client(
            base_url=self.address, headers=bearer | headers, timeout=DEADLINE, trust_env=False
        )


@contextmanager
def serving(
    folder: Path,
    *options: str,
    roles: bool = False,
    database: str | None = None,
    nursery: Nursery | None = None,
) -> Iterator[Service]:
    """The service in a workspace of its own, as long as the block runs.

    Its database is the workspace's, unless another is named. With `roles`, there is a token for
    each role, so that every request needs one. From a nursery it starts faster; by itself it has
    only the modules that it imports.
    """
    (folder / "studies").mkdir(parents=True, exist_ok=True)
    url = database or f"sqlite:///{folder}/storage/gru_optuna.db"
    tokens: dict[Role, str] = {}
    if roles:
        open_storage(url, create=True)
        engine = open_engine(url)
        tokens = {role: create_token(engine, str(role), role) for role in Role}
        engine.dispose()
    command = ("serve", "--port", "0", *options)
    environment = {"GRU_OPTUNA_STORAGE": url}
    if nursery is not None:
        process = nursery.start(*command, folder=folder, environment=environment)
        try:
            yield Service(folder, first_line(process, "printed"), process, url, tokens)
        finally:
            process.kill()
        return
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GRU_OPTUNA_")}
    with subprocess.Popen(
        [sys.executable, "-m", "gru_optuna", *command],
        cwd=folder,
        env=kept | environment | {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as alone:
        try:
            assert alone.stdout is not None
            address = alone.stdout.readline().strip()
            assert address, f"the service ended with {alone.wait(DEADLINE)}"
            yield Service(folder, address, alone, url, tokens)
        finally:
            alone.kill()


def first_line(process: Process, where: Literal["said", "printed"]) -> str:
    """Waits for the first line that a process writes, and returns it without its end."""
    wait_for(
        lambda: f"a line of process {process.pid}, which said: {process.said}",
        lambda: "\n" in getattr(process, where),
    )
    line: str = getattr(process, where).partition("\n")[0]
    return line


@contextmanager
def working(service: Service, nursery: Nursery) -> Iterator[None]:
    """A worker of every study in the service's database."""
    worker = nursery.start(
        "worker", "--storage", service.database, "--device", "cpu", "--threads", 1,
        folder=service.folder,
    )  # fmt: skip
    try:
        yield
    finally:
        worker.kill()


def upload(client: httpx2.Client, content: str = ROWS, name: str = "films.csv") -> str:
    """Uploads a file; returns its SHA-256."""
    body = content.encode()
    answer = client.put(f"/v1/data/{sha256(body)}", params={"name": name}, content=body)
    assert answer.status_code == 201, answer.text
    found: str = answer.json()["sha256"]
    return found


def small_study(name: str, data: str, **budget: Any) -> str:
    """A small study of texts, as a study file that names an upload."""
    limits = "".join(
        f"{key} = {json.dumps(value)}\n" for key, value in (budget or {"trials": 2}).items()
    )
    return f"""
name = "{name}"
fit_baselines = false
[data]
train = "{data}/films.csv"
text = "text"
label = "label"
[model]
hidden_size = 4
embedding_size = 4
[search]
learning_rate = {{ low = 1e-3, high = 3e-2, log = true }}
optimizer = "adam"
decay = "constant"
clip_norm = 1.0
initializer = "xavier_uniform"
l1 = 0
l2 = 0
dropout = 0
batch_size = 32
[training]
epochs = 2
[confirmation]
candidates = 1
seeds = 1
[budget]
{limits}"""


def submit(client: httpx2.Client, name: str = "films", **budget: Any) -> dict[str, Any]:
    """Uploads rows and submits a study of them; returns the study."""
    body = small_study(name, upload(client), **budget)
    headers = {"Content-Type": "application/toml"}
    answer = client.post("/v1/studies", content=body, headers=headers)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def add_trials(service: Service, name: str, count: int, *, without_params: bool = False) -> None:
    """Adds complete trials to a submitted study, as a worker would leave them.

    Without parameters, as another program may leave them.
    """
    submission = submissions.get(service.engine, name).submission
    assert submission is not None
    spec = study_file.loads(submission.toml, "study file")
    study = create_or_resume(open_storage(service.database), spec, "0" * 64)
    for _ in range(count):
        number = len(study.get_trials(deepcopy=False))
        curve = {epoch: 0.5 + epoch / 10 + number / 1000 for epoch in (1, 2)}
        study.add_trial(
            create_trial(
                values=[curve[2], 100.0][: len(study.directions)],
                params={} if without_params else {"learning_rate": 0.01},
                distributions={}
                if without_params
                else {"learning_rate": FloatDistribution(1e-3, 3e-2, log=True)},
                intermediate_values=curve,
                user_attrs={
                    "best_epoch": 2,
                    "best_validation_loss": 0.5,
                    "epochs": 2,
                    "network_parameters": 100,
                },
            )
        )


def log_in(page: Any, service: Service, role: Role = Role.EDITOR) -> None:
    """Sends a token in the form that asks for it."""
    page.fill("#token", service.tokens[role])
    page.click("button")
    page.wait_for_selector("nav")
    page.wait_for_load_state("load")  # the page's script runs before that
