"""The process that fits simple models in the background; see `baselines.background`."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.baselines.fit import Chosen
    from gru_optuna.baselines.rows import RawFold


def main() -> None:
    """Fits the models that the first line asks for, then predicts the parts that others name."""
    # Whatever a library prints must not get between the lines of the answer.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.nice(19)
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(lines,), name="parent", daemon=True).start()
    request = json.loads(lines.get())
    _limit_processor_time(request["seconds"])
    from gru_optuna import study_file
    from gru_optuna.baselines.fit import Chosen, fit_all
    from gru_optuna.baselines.rows import read_raw_folds
    from gru_optuna.errors import UserError

    try:
        spec = study_file.parse_stored(request["specification"], "baselines", study_file.VERSION)
        folds = read_raw_folds(spec, Path(request["folder"]))
    except UserError as error:
        sys.exit(str(error))
    _send(output, "rows", rows=len(folds[0].train), of=folds[0].of)
    models: list[Chosen] = []
    # A parent that asks for predictions has waited long enough for the rest.
    waiting = fit_all(
        spec, folds, request["seconds"], request["known"], hurry=lambda: not lines.empty()
    )
    for found in waiting:
        if isinstance(found, Chosen):
            models.append(found)
            _send(
                output,
                "model",
                family=found.family,
                name=found.name,
                settings=found.settings,
                validation=found.validation,
                seconds=round(found.seconds, 3),
                tried=found.tried,
                exportable=found.exportable,
            )
        else:
            _send(output, "left out", family=found.family, reason=found.reason)
    _send(output, "fitted")
    while True:
        _predict(output, models, folds, lines.get())


def _listen(lines: queue.Queue[str]) -> None:
    """Passes lines on, and ends the process when the parent has ended."""
    # Not through sys.stdin, whose lock a daemon thread would hold when the interpreter ends.
    with open(os.dup(0), encoding="utf-8") as stdin:  # noqa: PTH123 (a descriptor)
        for line in stdin:
            lines.put(line.strip())
    os._exit(0)


def _limit_processor_time(seconds: float) -> None:
    """Ends the process if a single fit takes far longer than all of them should."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(3 * seconds) + 60
    if most == resource.RLIM_INFINITY or most > limit:
        resource.setrlimit(resource.RLIMIT_CPU, (limit, most))


def _predict(
    output: IO[bytes], models: Sequence[Chosen], folds: Sequence[RawFold], part: str
) -> None:
    for model in models:
        for predictions in model.predict(folds, part):
            _send(output, "predictions", part=part, family=model.family, shape=predictions.shape)
            output.write(predictions.astype("<f8").tobytes())
    _send(output, "predicted", part=part)


def _send(output: IO[bytes], kind: str, **content: Any) -> None:
    output.write(json.dumps({"kind": kind, **content}).encode() + b"\n")
    output.flush()


if __name__ == "__main__":
    main()
