"""Events in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gru_optuna.formatting import format_duration, format_estimate, visible
from gru_optuna.worker.events import (
    BudgetChanged,
    CheckpointDamaged,
    Confirming,
    ConfirmingElsewhere,
    FewerSlots,
    LauncherNote,
    LeaseLost,
    StandingBy,
    StorageAway,
    StorageBack,
    TrainingOtherTrials,
    TrialStarted,
    WaitingForBaselines,
    WorkerDied,
    WorkerStarted,
    WorkersWaiting,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gru_optuna.training.sizing import Size
    from gru_optuna.tuning.tune import RunStart
    from gru_optuna.worker.events import WorkerEvent

COMPILING = "compiling the training code for this machine, once: about half a minute"
_BARS = "▁▂▃▄▅▆▇█"


def headline(opening: RunStart) -> tuple[str, str]:
    """The study's name, and what will be tuned, on which rows and which device."""
    spec, (train, validation, test) = opening.spec, opening.rows
    over = sum(opening.before.trials.values())
    tests = f", {test} test" if test else ""
    resumed = f", resumes after {over} trials" if over else ""
    kind = "windows" if spec.kind == "series" else "rows"
    folds = f"mean of {spec.data.folds} folds, the first with " if spec.data.folds else ""
    also = "".join(f" and minimize {goal}" for goal in spec.goals[1:])
    return spec.name, (
        f"{spec.direction} {spec.metric}{also}, {folds}"
        f"{train} training and {validation} validation {kind}{tests}, {opening.device}{resumed}"
    )


def engine(size: Size, workers: int) -> str:
    """How many trials train together, in how many threads and how much memory."""
    memory = f", at most {size.memory / 2**20:.0f} MiB for them" if size.memory else ""
    threads = f"{size.threads} thread{'s' if size.threads > 1 else ''}"
    trials = f"{size.slots} trials train together" if size.slots > 1 else "one trial at a time"
    each = f", in each of {workers} workers" if workers > 1 else ""
    return f"{trials} in {threads}{memory}{each}"


def notice(event: WorkerEvent) -> str | None:  # noqa: PLR0912 (one case for each event)
    """An unusual event in a sentence; None for a usual one.

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
        case BudgetChanged(trials, hours, epochs):
            limits = [f"{trials} trials"] if trials is not None else []
            limits += [f"{epochs} epochs"] if epochs is not None else []
            limits += [f"{hours:g} hours"] if hours is not None else []
            words = f"another process gave this study another budget; {' and '.join(limits)} count"
        case StorageAway(reason):
            words = f"waiting for the storage: {reason}"
        case StorageBack(seconds):
            words = f"the storage works again after {format_duration(seconds)}"
        case StandingBy(trials):
            them = "a trial" if trials == 1 else f"{trials} trials"
            words = f"no trial is left to start; standing by while other workers train {them}"
        case LauncherNote(line):
            words = line
        case WorkerStarted(index, place):
            words = f"worker {index + 1} started, {place}"
        case WorkersWaiting(workers, reason):
            them = "a worker waits" if workers == 1 else f"{workers} workers wait"
            words = f"{them} for a place: {reason}"
        case WorkerDied(index, reason, restarts):
            follows = "it is restarted" if restarts else "it is not restarted again"
            words = f"worker {index + 1} died ({reason}); {follows}"
        case Confirming(done, of, candidates, seeds, expected=expected):
            best = f"the best {candidates}" if candidates > 1 else "the best one"
            words = f"confirming {best} on {seeds} fresh seeds: {done} of {of} runs done"
            if expected is not None:
                words += f"; expected to take {format_estimate(expected[0])}"
                words += f", {expected[1]:.0%} of the time in all"
        case ConfirmingElsewhere():
            words = "another process confirms the winner; waiting for it"
        case TrainingOtherTrials(trials):
            which = "the next best trial" if trials == 1 else f"the {trials} next best trials"
            words = f"training {which} again: candidates for the ensemble"
        case WaitingForBaselines(seconds):
            most = format_duration(seconds)
            words = f"waiting for the simple models to compare with, at most {most}"
    return None if words is None else visible(words, keep="")


def sparkline(
    curve: Sequence[float], width: int = 40, scale: tuple[float, float] | None = None
) -> str:
    """A curve as a line of bars; a longer one is thinned out to `width`, its end kept.

    Parameters
    ----------
    curve
        One value for each epoch.
    width
        Columns at most.
    scale
        The values of the lowest and the highest bar; None: those of the curve.

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
        # Slightly more, or rounding could give the highest value the bar below its own.
        bars += _BARS[int(inside * factor + 1e-9)]
    return bars
