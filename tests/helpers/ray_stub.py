"""As much of Ray's API as the launcher uses, in this process: actors, tasks in threads, retries."""

from __future__ import annotations

import threading
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import wait as wait_for_futures
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class RayError(Exception):
    """What Ray raises."""


class Reference(Future[Any]):
    """An object reference."""


class _Handle:
    """An actor, whose methods run one at a time."""

    def __init__(self, stub: RayStub, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._lock = threading.RLock()
        stub.current_actor = self
        with self._lock:  # no method runs before the actor is made
            self._actor = make(*arguments)

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Reference:
            reference = Reference()
            with self._lock:
                reference.set_result(getattr(self._actor, name)(*arguments))
            return reference

        return SimpleNamespace(remote=remote)


class RayStub:
    """Stands for the module ``ray``."""

    def __init__(self) -> None:
        self.exceptions = SimpleNamespace(RayError=RayError)
        self.util = SimpleNamespace(get_node_ip_address=lambda: "node1")
        self.actors: dict[tuple[str, str], Any] = {}
        self.options: list[dict[str, Any]] = []  # of every actor and task
        self.addresses: list[str] = []
        self.current_actor: Any = None

    def is_initialized(self) -> bool:
        """Whether it is connected."""
        return bool(self.addresses)

    def init(self, address: str, **_: Any) -> None:
        """Connects."""
        self.addresses.append(address)

    def get_runtime_context(self) -> Any:
        """What an actor knows of itself."""
        return SimpleNamespace(current_actor=self.current_actor)

    def get_actor(self, name: str, namespace: str) -> Any:
        """A named actor."""
        if (namespace, name) not in self.actors:
            raise ValueError(name)
        return self.actors[namespace, name]

    def remote(self, work: Any) -> Any:
        """An actor's class, or a function."""

        def options(**given: Any) -> Any:
            self.options.append(given)

            def start(*arguments: Any) -> Any:
                if isinstance(work, type):
                    handle = _Handle(self, work, arguments)
                    self.actors[given["namespace"], given["name"]] = handle
                    return handle
                return self._run(work, arguments, given)

            return SimpleNamespace(remote=start)

        return SimpleNamespace(options=options)

    def _run(
        self, work: Callable[..., Any], arguments: tuple[Any, ...], given: dict[str, Any]
    ) -> Reference:
        reference = Reference()

        def run() -> None:
            while not reference.done():
                with suppress(InvalidStateError):  # it was cancelled
                    try:
                        reference.set_result(work(*arguments))
                    except tuple(given["retry_exceptions"]):
                        continue  # max_retries=-1
                    except Exception as error:
                        reference.set_exception(RayError(str(error)))

        assert given["max_retries"] == -1
        threading.Thread(target=run, daemon=True).start()
        return reference

    def get(self, reference: Reference, timeout: float | None = None) -> Any:
        """The result."""
        return reference.result(timeout)

    def wait(
        self, references: list[Reference], num_returns: int, timeout: float
    ) -> tuple[list[Reference], list[Reference]]:
        """Those that are over, and the rest."""
        assert 0 < num_returns <= len(references)
        over = wait_for_futures(references, timeout).done
        return [r for r in references if r in over], [r for r in references if r not in over]

    def cancel(self, reference: Reference) -> None:
        """Ends a task."""
        reference.set_exception(RayError("cancelled"))

    def kill(self, handle: Any) -> None:
        """Ends an actor."""
        self.actors = {key: actor for key, actor in self.actors.items() if actor is not handle}
