"""Events and numbers as people say them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.worker.events import (
    CheckpointDamaged,
    Confirming,
    ConfirmingElsewhere,
    FewerSlots,
    LeaseLost,
    StandingBy,
    StorageAway,
    StorageBack,
    TrialStarted,
    WorkerDied,
    WorkerStarted,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.training.sizing import Size
    from gru_optuna.tuning.tune import RunStart
    from gru_optuna.worker.events import WorkerEvent

COMPILING = "compiling the training code for this machine, once: about half a minute"
_BARS = "▁▂▃▄▅▆▇█"


def headline(opening: RunStart) -> tuple[str, str]:
    """What is about to be tuned: the study's name, and all the rest."""
    spec, (train, validation, test) = opening.spec, opening.rows
    over = sum(opening.before.trials.values())
    tests = f", {test} test" if test else ""
    goes_on = f", goes on after {over} trials" if over else ""
    folds = f"mean of {spec.data.folds} folds, the first with " if spec.data.folds else ""
    return spec.name, (
        f"{spec.direction} {spec.metric}, {folds}"
        f"{train} training and {validation} validation rows{tests}, {opening.device}{goes_on}"
    )


def engine(size: Size, workers: int) -> str:
    """How trials train here."""
    memory = f", at most {size.memory / 2**20:.0f} MiB for them" if size.memory else ""
    threads = f"{size.threads} thread{'s' if size.threads > 1 else ''}"
    trials = f"{size.slots} trials train together" if size.slots > 1 else "one trial at a time"
    each = f", in each of {workers} workers" if workers > 1 else ""
    return f"{trials} in {threads}{memory}{each}"


def notice(event: WorkerEvent) -> str | None:
    """What is out of the ordinary, in a sentence; None for what isn't.

    >>> notice(LeaseLost(3))
    'trial 3: another worker has taken it over'
    """
    words: str | None = None
    match event:
        case TrialStarted(number, adopted=True, epochs=0):
            words = f"trial {number} adopted, from its start"
        case TrialStarted(number, adopted=True, epochs=epochs):
            words = f"trial {number} adopted after epoch {epochs}"
        case CheckpointDamaged(number, epoch, reason):
            words = f"trial {number}: its checkpoint of epoch {epoch} is not used: {reason}"
        case LeaseLost(number):
            words = f"trial {number}: another worker has taken it over"
        case FewerSlots(slots, reason):
            together = f"{slots} trials train together" if slots > 1 else "one trial trains alone"
            words = f"{together} from now on: {reason}"
        case StorageAway(reason):
            words = f"waiting for the storage: {reason}"
        case StorageBack(seconds):
            words = f"the storage works again after {clock(seconds)}"
        case StandingBy(trials):
            them = "a trial" if trials == 1 else f"{trials} trials"
            words = f"nothing is left to begin; standing by while others train {them}"
        case WorkerStarted(index, process):
            words = f"worker {index + 1} started, process {process}"
        case WorkerDied(index, reason, restarts):
            follows = "it starts again" if restarts else "it is given up"
            words = f"worker {index + 1} died ({reason}); {follows}"
        case Confirming(done, of, candidates, seeds):
            best = f"the best {candidates}" if candidates > 1 else "the best one"
            words = f"confirming {best} on {seeds} fresh seeds: {done} of {of} runs done"
        case ConfirmingElsewhere():
            words = "another process confirms the winner; waiting for it"
    return words


def clock(seconds: float) -> str:
    """A duration as people say it.

    >>> clock(7), clock(200), clock(7300)
    ('7 s', '3 min 20 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def about(seconds: float) -> str:
    """An estimated duration, no finer than it is known.

    >>> about(3), about(47), about(500), about(30_000)
    ('a few seconds', 'about 50 s', 'about 8 min', 'about 8 h 20 min')
    """
    if seconds < 5:
        return "a few seconds"
    if seconds < 55:
        return f"about {round(seconds / 10) * 10 or 10} s"
    minutes = max(1, round(seconds / 60))
    if minutes < 60:
        return f"about {minutes} min"
    coarse = round(minutes / 10) * 10
    return f"about {coarse // 60} h" + (f" {coarse % 60} min" if coarse % 60 else "")


def rate(per_second: float) -> str:
    """How many in a second, with the digits that matter.

    >>> rate(149.3), rate(4.26), rate(0.031)
    ('149', '4.3', '0.031')
    """
    if per_second >= 10:
        return f"{per_second:.0f}"
    return f"{per_second:.1f}" if per_second >= 1 else f"{per_second:.2g}"


def value(metric: float | None) -> str:
    """A metric, with four digits behind the point or, of a large one, five in all.

    >>> value(0.98148), value(194.612), value(None)
    ('0.9815', '194.61', '–')
    """
    if metric is None:
        return "–"
    return f"{metric:.4f}" if abs(metric) < 10 else f"{metric:#.5g}".rstrip(".")


def sparkline(
    curve: Sequence[float], width: int = 40, scale: tuple[float, float] | None = None
) -> str:
    """A curve as a line of bars; a longer one is thinned out to `width`, its end kept.

    Parameters
    ----------
    curve
        A value an epoch.
    width
        Columns at most.
    scale
        What is drawn as the lowest and as the highest bar; else the curve's own.

    >>> sparkline([0.1, 0.5, 0.9])
    '▁▄█'
    """
    if not curve or width < 1:
        return ""
    if len(curve) > width:
        ends = [(column + 1) * len(curve) // width - 1 for column in range(width)]
        curve = [curve[end] for end in ends]
    low, high = scale or (min(curve), max(curve))
    factor = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    bars = ""
    for one in curve:
        inside = min(max(one, low), high) - low
        # A hair more: the highest must not be rounded to just below its bar.
        bars += _BARS[int(inside * factor + 1e-9)]
    return bars
