"""A progress bar for `fit`: in a notebook and in a terminal, elsewhere only if asked for."""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from gru_optuna.worker.events import EpochTrained, TrialEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gru_optuna.study_file import Specification
    from gru_optuna.worker.events import WorkerEvent


@contextmanager
def bar(
    spec: Specification, name: str, *, show: bool | None
) -> Iterator[Callable[[WorkerEvent], None]]:
    """Shows a bar of trials while a study is tuned; yields the function that receives its events.

    Parameters
    ----------
    spec
        The study's specification.
    name
        The bar's label.
    show
        Whether to show it. None: in a notebook or a terminal, where someone watches.
    """
    if not (_is_watched() if show is None else show):
        yield lambda event: None
        return
    with warnings.catch_warnings():
        # Without ipywidgets a notebook gets the bar that a terminal has.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm
    best: float | None = None
    epochs = 0
    with tqdm(total=spec.budget.trials, desc=name, unit="trial") as drawn:

        def on_event(event: WorkerEvent) -> None:
            nonlocal best, epochs
            if isinstance(event, EpochTrained):
                epochs += 1
            elif isinstance(event, TrialEnded):
                value = event.value if event.state == TrialState.COMPLETE else None
                if value is not None and (best is None or spec.as_loss(value) < spec.as_loss(best)):
                    best = value
                shown = "–" if best is None else f"{best:.4f}"
                drawn.set_postfix_str(f"{spec.metric} {shown}, {epochs} epochs", refresh=False)
                drawn.update()

        yield on_event


def _is_watched() -> bool:
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    # A notebook's kernel; IPython in a terminal is one that isatty() knows.
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return "IPKernelApp" in getattr(shell, "config", {})
