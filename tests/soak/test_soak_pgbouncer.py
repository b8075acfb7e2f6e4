"""Workers behind PgBouncer in transaction mode, where each transaction may get another session."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.processes import SMALL, check_exact, check_work, curves, undisturbed, wait_for
from sqlalchemy import func, make_url, select

from gru_optuna.errors import StorageError
from gru_optuna.storage.database.open import exclusively, open_engine, open_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from helpers.processes import Lab

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

SETTINGS = """
[databases]
{name} = host={host} port={port} user={user} dbname={name}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
"""
SESSIONS = 4
"""Of the server, for more clients than that: they have to take turns."""


@pytest.fixture
def pooled_url(new_postgresql: Callable[[], str]) -> Iterator[str]:
    """An empty database behind PgBouncer."""
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer IS NOT TESTED: it isn't installed. Try: apt install pgbouncer")
    url = make_url(new_postgresql())
    host = str(url.query.get("host", url.host))
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = free.getsockname()[1]
    # As root, the server and PgBouncer run as another user, who can't enter pytest's own folder.
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    folder.chmod(0o755)
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        SETTINGS.format(
            name=url.database,
            host=host,
            port=url.port or 5432,
            user=url.username,
            listen=listen,
            sessions=SESSIONS,
        )
    )
    as_user = ["--user", Path(host).owner()] if os.getuid() == 0 else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, *as_user, settings], stdout=log, stderr=log)
    try:
        wait_for("PgBouncer to listen", lambda: _listens(listen))
        yield f"postgresql://worker@127.0.0.1:{listen}/{url.database}?prepared_statements=false"
    finally:
        process.terminate()
        process.wait()
        print((folder / "log").read_text()[-2000:])
        shutil.rmtree(folder)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_workers_that_die_behind_a_pooler_leave_an_exact_study(
    new_lab: Callable[..., Lab], pooled_url: str, tmp_path: Path
) -> None:
    lab = new_lab(pooled_url, *SMALL)
    workers = [lab.worker() for _ in range(3)]
    wait_for("an epoch to be trained", lab.trained)
    workers[0].kill()
    workers.append(lab.worker())
    for worker in workers[1:]:
        assert worker.wait() == 0, worker.said
    check_exact(lab)
    check_work(lab)
    assert curves(lab.trials) == undisturbed(new_lab, tmp_path, *SMALL)


def test_a_lock_behind_a_pooler_is_held_by_one_process_and_released(pooled_url: str) -> None:
    open_storage(pooled_url, create=True)
    engines = [open_engine(pooled_url) for _ in range(6)]
    for _ in range(5):
        with exclusively(pooled_url, "study-x"):
            # Other transactions go on meanwhile, by turns in what sessions are left.
            for engine in engines:
                with engine.begin() as connection:
                    assert connection.scalar(select(func.count())) == 1
            with (
                pytest.raises(StorageError, match="still busy"),
                exclusively(pooled_url, "study-x", timeout=0),
            ):
                pass
        with exclusively(pooled_url, "study-x", timeout=0):
            pass
