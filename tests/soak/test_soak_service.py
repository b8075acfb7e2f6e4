"""The service and the queue's workers, each killed at random moments while somebody watches."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from helpers.processes import DEADLINE, wait_for
from helpers.queue import Queue, check_all_done, kill_at_random
from helpers.services import serving

from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.study import load_study

if TYPE_CHECKING:
    from pathlib import Path

    from helpers.processes import Nursery

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

TRIALS, EPOCHS = 5, 120
NAMES = ("first", "second", "third")


class Watcher(threading.Thread):
    """Follows a study through any number of deaths of the service, by the id of the last event."""

    def __init__(self, name: str) -> None:
        super().__init__(daemon=True)
        self.study, self.address = name, ""
        self.curves: dict[int, list[float | None]] = {}
        self.states: list[str] = []
        self.wrong: list[str] = []
        self.reconnected = -1
        self.stop = threading.Event()
        self._last = ""

    def run(self) -> None:
        """Reads events until it is told to stop."""
        while not self.stop.is_set():
            with suppress(httpx2.HTTPError):
                self._read()
            time.sleep(0.1)

    def _read(self) -> None:
        headers = {"Last-Event-ID": self._last} if self._last else {}
        path = f"{self.address}v1/studies/{self.study}/events"
        with httpx2.stream("GET", path, headers=headers, timeout=30, trust_env=False) as stream:
            stream.raise_for_status()
            self.reconnected += 1
            event: dict[str, str] = {}
            for line in stream.iter_lines():
                if self.stop.is_set():
                    return
                name, _, content = line.partition(": ")
                if name:
                    event[name] = content
                elif event:
                    self._take(event["event"], event["id"], json.loads(event["data"]))
                    event = {}

    def _take(self, kind: str, number: str, content: Any) -> None:
        # An id says what is known after the event: the same one again would tell nothing new. It
        # may come back later, when a study is again in the state in which it was.
        if number == self._last:
            self.wrong.append(f"the event {number} came twice")
        self._last = number
        if kind == "study":
            self.states.append(content["state"])
            return
        for trial in content:
            before = self.curves.get(trial["number"], [])
            # An event holds a trial as it is: what was there before is still there.
            if trial["curve"][: len(before)] != before:
                self.wrong.append(f"trial {trial['number']} lost epochs")
            self.curves[trial["number"]] = trial["curve"]


class Services(threading.Thread):
    """Keeps a service alive, and kills it again and again."""

    def __init__(self, folder: Path, url: str, watchers: list[Watcher], seed: int) -> None:
        super().__init__(daemon=True)
        self._folder, self._url, self._watchers = folder, url, watchers
        self._draws = random.Random(seed)
        self.stop, self.kills = threading.Event(), 0

    def run(self) -> None:
        """Starts it anew as long as the study lasts; the last one stays until the end."""
        while True:
            with serving(self._folder, database=self._url) as service:
                for watcher in self._watchers:
                    watcher.address = service.address
                if self.stop.wait(self._draws.uniform(1, 8)):
                    wait_for("all events", self._all_is_seen)
                    return
            self.kills += 1

    def _all_is_seen(self) -> bool:
        return all(
            watcher.stop.is_set()  # the test has failed
            or (
                watcher.states[-1:] == ["done"]
                and [len(curve) for curve in watcher.curves.values()] == [EPOCHS] * TRIALS
            )
            for watcher in self._watchers
        )


@pytest.mark.parametrize("seed", range(2))
def test_whoever_watches_sees_everything_once(
    nursery: Nursery, tmp_path: Path, database_url: str, seed: int
) -> None:
    queue = Queue(nursery, tmp_path, database_url)
    watchers = [Watcher(name) for name in NAMES]
    services = Services(tmp_path / "service", database_url, watchers, seed)
    try:
        for name in NAMES:
            queue.submit(name, trials=TRIALS, epochs=EPOCHS)
        services.start()
        wait_for("the first service", lambda: all(watcher.address for watcher in watchers))
        for watcher in watchers:
            watcher.start()
        kill_at_random(queue, workers=2, kills=15, seed=seed)
        check_all_done(queue, trials=TRIALS, epochs=EPOCHS)
        services.stop.set()
        services.join(2 * DEADLINE)
        assert not services.is_alive()
        for watcher in watchers:
            assert watcher.wrong == []
            study, _ = load_study(open_storage(database_url), watcher.study)
            assert watcher.curves == {
                trial.number: [trial.intermediate_values[e + 1] for e in range(EPOCHS)]
                for trial in study.trials
            }
        reconnected = [watcher.reconnected for watcher in watchers]
        print(f"seed {seed}: {services.kills} services killed, streams came back {reconnected}")
        assert services.kills > 0
        assert min(reconnected) > 0
    finally:
        for watcher in watchers:
            watcher.stop.set()
        services.stop.set()
        services.join(2 * DEADLINE)
        queue.close()
