"""What a person wants to know of a study or a trial at a glance, in Markdown.

Names, paths and labels of users stand in code, so that nothing of them is Markdown or HTML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from optuna.study import StudyDirection
from optuna.trial import TrialState

from gru_optuna.attributes import FINGERPRINT
from gru_optuna.study.trial_attributes import TrialAttributes
from gru_optuna.study_file.searchable import Range

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.study.summary import Summary, Winner
    from gru_optuna.study_file import Specification

_ENDED = ("complete", "pruned", "failed")
_MOST_CHOICES = 12
_OURS = "*Kept up to date by gru-optuna while workers run; a note that you edit is left to you.*"


def study_note(study: Study, spec: Specification, summary: Summary) -> str:
    """What is searched, in which data, how far, and the best so far."""
    return "\n\n".join(
        [
            _what(spec, summary),
            _best(study, spec, summary),
            _data(study, spec),
            _search(spec, summary.best),
            _OURS,
        ]
    )


def trial_note(study: Study, trial: FrozenTrial) -> str | None:
    """Why a trial was pruned or failed; None for one that is complete.

    Parameters
    ----------
    study
        The trial's, with the others.
    trial
        Over.
    """
    outcome = TrialAttributes.read(trial).outcome
    if trial.state == TrialState.FAIL:
        return f"**Failed**: {_code(outcome or 'nobody wrote why')}"
    if trial.state != TrialState.PRUNED:
        return None
    words = outcome[:1].upper() + outcome[1:] if outcome else "Pruned"
    if (step := trial.last_step) is None:
        return f"{words}."
    own = trial.intermediate_values[step]
    # All that came as far, this one too.
    values = [
        value
        for other in study.get_trials(deepcopy=False)
        if (value := other.intermediate_values.get(step)) is not None
    ]
    if len(values) < 2:
        return f"{words}, at {_number(own)}."
    maximizes = study.direction == StudyDirection.MAXIMIZE
    better = sum(value > own if maximizes else value < own for value in values)
    best, more = (max(values), "more") if maximizes else (min(values), "less")
    return (
        f"{words}. It had {_number(own)} then; of the {len(values) - 1} other trials that came as "
        f"far, {better} had {more}, the best {_number(best)}."
    )


def _what(spec: Specification, summary: Summary) -> str:
    counts = ", ".join(f"{summary.trials[state]} {state}" for state in _ENDED)
    over = sum(summary.trials[state] for state in _ENDED)
    limit = f" of {summary.budget['trials']}" if summary.budget["trials"] else ""
    report = f"/report/{quote(spec.name, safe='')}/"
    return (
        f"A GRU for **{spec.task}**: {spec.direction} **{spec.metric}** on validation rows. "
        f"**{over}{limit} trials** are over: {counts}. [The whole report]({report})"
    )


def _best(study: Study, spec: Specification, summary: Summary) -> str:
    winner = summary.best
    lines = [f"| | {spec.metric} |", "|---|---|"]
    if winner is None:
        lines.append("| best, on validation rows | no trial is complete yet |")
    else:
        where = f"trial {winner.number}, epoch {winner.best_epoch}"
        equals = 1 if winner.confirmed else _equals(study, winner)
        least = f"; of {equals} equal ones the least loss" if equals > 1 else ""
        lines.append(f"| best, on validation rows ({where}{least}) | **{_number(winner.value)}** |")
        lines += _confirmed(winner)
    lines += [f"| to beat: {_code(n)} | {_number(v)} |" for n, v in summary.baselines.items()]
    return "\n".join(lines)


def _confirmed(winner: Winner) -> Iterator[str]:
    """What it reached on fresh seeds, and on the test rows."""
    test, interval = winner.test, None
    if (confirmed := winner.confirmed) is not None:
        won = confirmed.won
        if won.mean is not None:
            on = f"trained again on {confirmed.seeds} fresh seeds, mean"
            yield f"| {on} | **{_number(won.mean)}**{_between(won.interval)} |"
        interval = confirmed.test.interval if confirmed.test else None
    if test is not None:
        yield f"| the same, on test rows | **{_number(test)}**{_between(interval)} |"


def _between(interval: Sequence[float] | None) -> str:
    return f" ({_number(interval[0])} to {_number(interval[1])})" if interval else ""


def _equals(study: Study, winner: Winner) -> int:
    """How many trials are as good: optuna-dashboard shows the first of them as the best."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sum(trial.value == winner.value for trial in trials)


def _data(study: Study, spec: Specification) -> str:
    data = spec.data
    parts = [f"training rows from {_code(data.train)}"]
    if isinstance(data.validation, str):
        parts.append(f"validation rows from {_code(data.validation)}")
    elif data.folds:
        parts.append(f"validation by {data.folds} folds")
    else:
        parts.append(f"validation {data.validation:g} of them")
    if data.test is not None:
        parts.append(f"test {_code(str(data.test))}, looked at once, by the winner")
    fingerprint = str(study.user_attrs.get(FINGERPRINT, ""))[:12]
    return f"**Data**: {'; '.join(parts)}; fingerprint {_code(fingerprint)}."


def _search(spec: Specification, winner: Winner | None) -> str:
    lines = ["| searched | in | best so far |", "|---|---|---|"]
    for name, values in spec.searchable():
        if isinstance(values, list | Range):
            best = _shown(winner.params.get(name)) if winner else "–"
            lines.append(f"| {name} | {_code(_range(values))} | {best} |")
    fixed = [
        f"{name} {_shown(value)}"
        for name, value in spec.searchable()
        if not isinstance(value, list | Range) and value is not None
    ]
    return "\n".join([*lines, "", f"Fixed: {', '.join(fixed)}." if fixed else ""])


def _range(values: Sequence[object] | Range) -> str:
    if not isinstance(values, Range):
        more = f" … {len(values)} in all" if len(values) > _MOST_CHOICES else ""
        return ", ".join(map(_plain, values[:_MOST_CHOICES])) + more
    log = ", log" if values.log else ""
    return f"{_plain(values.low)} to {_plain(values.high)}{log}"


def _shown(value: object) -> str:
    return "–" if value is None else _code(_plain(value))


def _plain(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value).lower()


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.5g}"


def _code(text: str) -> str:
    """As it is, in whatever table or line it stands."""
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    return "`" + line.replace("`", "'").replace("|", "\\|") + "`" if text else "–"
