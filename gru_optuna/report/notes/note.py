"""What people want to know about a study or a trial at a glance, in Markdown.

Users' names, paths and labels are formatted as code, so that nothing in them acts as Markdown or
HTML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from optuna.study import StudyDirection
from optuna.trial import TrialState

from gru_optuna.attributes import FINGERPRINT
from gru_optuna.formatting import format_measured, format_metric, format_value
from gru_optuna.report.axes import describe_range
from gru_optuna.storage.mirror.dashboard_notes import MOST_TRIALS
from gru_optuna.study.trial_attributes import TrialAttributes
from gru_optuna.study_file import SIZE
from gru_optuna.study_file.searchable import Range

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optuna import Study
    from optuna.trial import FrozenTrial

    from gru_optuna.study.summary import Summary, Winner
    from gru_optuna.study_file import Specification

_ENDED = ("complete", "pruned", "failed")
_OURS = "*gru-optuna updates this note while workers run, unless you edit it.*"


def study_note(study: Study, spec: Specification, summary: Summary) -> str:
    """The task, the progress, the best so far, the data and the search space."""
    return "\n\n".join(
        [
            _what(spec, summary),
            _best(summary),
            *_front(summary),
            _data(study, spec),
            _search(spec, summary.best),
            *_left_out(summary),
            _OURS,
        ]
    )


def trial_note(study: Study, trial: FrozenTrial) -> str | None:
    """Why an ended trial was pruned or failed; None if it is complete."""
    outcome = TrialAttributes.read(trial).outcome
    if trial.state == TrialState.FAIL:
        return f"**Failed**: {_code(outcome or 'no reason was recorded')}"
    if trial.state != TrialState.PRUNED:
        return None
    words = outcome[:1].upper() + outcome[1:] if outcome else "Pruned"
    if (step := trial.last_step) is None:
        return f"{words}."
    own = trial.intermediate_values[step]
    # Of all trials that reached this epoch, this one included.
    values = [
        value
        for other in study.get_trials(deepcopy=False)
        if (value := other.intermediate_values.get(step)) is not None
    ]
    if len(values) < 2:
        return f"{words}, at {format_metric(own)}."
    maximizes = study.directions[0] == StudyDirection.MAXIMIZE
    better = sum(value > own if maximizes else value < own for value in values)
    others = "1 other trial" if len(values) == 2 else f"{len(values) - 1} other trials"
    best = format_metric(max(values) if maximizes else min(values))
    return (
        f"{words}, at {format_metric(own)}. Of {others} that reached this epoch, {better} had a "
        f"better value; the best was {best}."
    )


def _what(spec: Specification, summary: Summary) -> str:
    counts = ", ".join(f"{summary.trials[state]} {state}" for state in _ENDED)
    if summary.trials["paused"]:
        counts += f"; {summary.trials['paused']} paused"
    over = sum(summary.trials[state] for state in _ENDED)
    limit = f" of {summary.budget['trials']}" if summary.budget["trials"] else ""
    report = f"/report/{quote(spec.name, safe='')}/"
    small = f", and minimize **{SIZE}**" if spec.two_goals else ""
    return (
        f"A GRU for **{spec.task}**: {spec.direction} **{spec.metric}** on validation rows{small}. "
        f"**{over}{limit} trials** have ended: {counts}. [Full report]({report})"
    )


def _left_out(summary: Summary) -> Iterator[str]:
    """What a large study doesn't show next to this note."""
    if sum(summary.trials.values()) > MOST_TRIALS:
        yield (
            f"Only the first {MOST_TRIALS} trials have notes of their own, because many notes slow "
            "optuna-dashboard down. The attribute `outcome` of a trial also says why it ended."
        )


def _best(summary: Summary) -> str:
    winner = summary.best
    lines = [f"| | {summary.metric} |", "|---|---|"]
    if winner is None:
        lines.append("| best, on validation rows | no trial has ended yet |")
    else:
        where = f"trial {winner.number}, epoch {winner.best_epoch}"
        least = ""
        if winner.equals > 1 and not winner.confirmed:
            # optuna-dashboard shows only the first of them.
            least = f"; lowest loss of {winner.equals} equal trials"
        lines.append(
            f"| best, on validation rows ({where}{least}) | **{format_metric(winner.value)}** |"
        )
        lines += _confirmed(winner)
    lines += [f"| to beat: {_code(n)} | {format_metric(v)} |" for n, v in summary.baselines.items()]
    return "\n".join(lines)


_FEW_MEMBERS = 12


def _front(summary: Summary) -> Iterator[str]:
    """The trials that no other one beats in both goals."""
    front = summary.front[:: -(-len(summary.front) // _FEW_MEMBERS) or 1]
    if front:
        some = f"; {len(front)} of {len(summary.front)}" if len(front) < len(summary.front) else ""
        lines = [f"| front{some} | {SIZE} | {summary.metric} | mean of fresh seeds |"]
        lines.append("|---|---|---|---|")
        lines += [
            f"| trial {m.number} | {m.network_parameters:,} | {format_metric(m.value)} "
            f"| {format_metric(m.mean)} |"
            for m in front
        ]
        yield "\n".join(lines)


def _confirmed(winner: Winner) -> Iterator[str]:
    """Table rows: the winner's values on fresh seeds and on the test rows."""
    test, interval = winner.test, None
    if (confirmed := winner.confirmed) is not None:
        won = confirmed.won
        if won.mean is not None:
            on = f"mean of {confirmed.seeds} fresh seeds, on validation rows"
            yield f"| {on} | {_measured(won.mean, won.interval)} |"
        interval = confirmed.test.interval if confirmed.test else None
        if confirmed.test and (both := confirmed.test.ensemble) is not None:
            yield f"| on test rows, ensemble | {_measured(both['value'], both['interval'])} |"
    if test is not None:
        yield f"| on test rows, one network | {_measured(test, interval)} |"


def _measured(value: float, interval: Sequence[float] | None) -> str:
    shown, ends = format_measured(value, interval)
    return f"**{shown}** ({ends})" if ends else f"**{shown}**"


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
        parts.append(f"test {_code(str(data.test))}, used once, for the winner")
    fingerprint = str(study.user_attrs.get(FINGERPRINT, ""))[:12]
    return f"**Data**: {'; '.join(parts)}; fingerprint {_code(fingerprint)}."


def _search(spec: Specification, winner: Winner | None) -> str:
    lines = ["| searched | in | best so far |", "|---|---|---|"]
    fixed = []
    for name, values in spec.searchable():
        if isinstance(values, list | Range):
            best = _value(winner.params.get(name)) if winner else "–"
            lines.append(f"| {name} | {_code(describe_range(values))} | {best} |")
        elif values is not None:
            fixed.append(f"{name} {_value(values)}")
    return "\n".join([*lines, "", f"Fixed: {', '.join(fixed)}." if fixed else ""])


def _value(value: object) -> str:
    return "–" if value is None else _code(format_value(value))


def _code(text: str) -> str:
    """A text as inline code, safe in a table."""
    line = "".join(sign if sign.isprintable() else " " for sign in text)
    return "`" + line.replace("`", "'").replace("|", "\\|") + "`" if text else "–"
