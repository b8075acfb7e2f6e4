"""The service under load: ``python benchmarks/service.py [--short] [--json FILE]``.

Event streams and a fixed rate of requests, while a worker trains a study: how many answers failed,
how long they took, and which share of a core the server used. With ``--short``, a tenth of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import psutil

import gru_optuna

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAMS, RATE, SECONDS = 200, 50, 30.0
PATHS = (
    "/v1/studies", "/v1/studies/load", "/v1/studies/load/trials?limit=100", "/v1/workers",
    "/v1/me", "/healthz", "/readyz", "/",
)  # fmt: skip
ROWS = "text,label\n" + "".join(
    f"{'good' if row % 2 else 'bad'} film number {row},{'yes' if row % 2 else 'no'}\n"
    for row in range(2000)
)
STUDY = """
name = "load"
fit_baselines = false
[data]
train = "rows.csv"
text = "text"
label = "label"
[training]
epochs = 1000
patience = "off"
[budget]
trials = 10000
"""


def main() -> int:
    """Measures and prints; the exit code is 1 if an answer failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a tenth of streams and time")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    part = 10 if arguments.short else 1
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        server = stack.enter_context(started(folder, "serve", "--port", "0"))
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        service = gru_optuna.connect(url)
        (folder / "rows.csv").write_text(ROWS)
        study = service.submit(STUDY, {"train": service.upload(folder / "rows.csv")})
        stack.enter_context(started(folder, "worker", "--threads", "1", "--device", "cpu"))
        while not study.status()["trials"]["running"]:
            time.sleep(0.5)
        process = psutil.Process(server.pid)
        found = asyncio.run(load(url, process, STREAMS // part, RATE, SECONDS / part))
        found["MiB"] = round(process.memory_info().rss / 2**20)
    print(json.dumps(found, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2))
    return bool(found["failed"])


@contextmanager
def started(folder: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A process of ``gru-optuna`` that is killed at the end of the block."""
    environment = os.environ | {
        "GRU_OPTUNA_STORAGE": f"sqlite:///{folder}/storage/load.db",
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "gru_optuna", *command],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


async def load(
    url: str, process: psutil.Process, streams: int, rate: int, seconds: float
) -> dict[str, Any]:
    """Sends requests at a fixed rate while streams are open.

    Parameters
    ----------
    url
        The service's address.
    process
        Its process.
    streams
        How many event streams are open.
    rate
        Requests in a second, spread over `PATHS`.
    seconds
        For how long.
    """
    failures: Counter[str] = Counter()
    took: list[float] = []
    events = [0] * streams
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, timeout=60, limits=limits, trust_env=False) as http:

        async def follow(number: int) -> None:
            try:
                async with http.stream("GET", "/v1/studies/load/events") as stream:
                    stream.raise_for_status()
                    async for line in stream.aiter_lines():
                        events[number] += line.startswith("event:")
            except httpx2.HTTPError as error:
                failures[f"stream: {error!r}"] += 1

        async def ask(path: str) -> None:
            began = time.perf_counter()
            try:
                answer = await http.get(path)
                answer.raise_for_status()
            except httpx2.HTTPError as error:
                failures[f"{path}: {error!r}"] += 1
            took.append(time.perf_counter() - began)

        following = [asyncio.create_task(follow(number)) for number in range(streams)]
        while not all(events):
            await asyncio.sleep(0.1)
        before, began = sum(process.cpu_times()[:2]), time.monotonic()
        asking = []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            asking.append(asyncio.create_task(ask(PATHS[number % len(PATHS)])))
        await asyncio.gather(*asking)
        elapsed = time.monotonic() - began
        share = (sum(process.cpu_times()[:2]) - before) / elapsed
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    percentiles = statistics.quantiles(took, n=100)
    return {
        "streams": streams,
        "requests": len(took),
        "requests/s": round(len(took) / elapsed, 1),
        "failed": sum(failures.values()),
        "failures": dict(failures.most_common(5)),
        "events in each stream": [min(events), max(events)],
        "seconds, median": round(percentiles[49], 4),
        "seconds, 99%": round(percentiles[98], 4),
        "share of a core": round(share, 3),
    }


if __name__ == "__main__":
    sys.exit(main())
