"""Which trials a report's figures show, if a study has more than a browser can draw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gru_optuna.search.study_view import StudyView
from gru_optuna.study.confirmation import ranked

if TYPE_CHECKING:
    from optuna import Study

    from gru_optuna.study_file import Specification

MOST_TRIALS = 10_000
"""More would make a page of more than ten megabytes."""

BEST = 100
"""The best trials are always shown."""


def thinned(study: Study, spec: Specification) -> tuple[Study, str | None]:
    """The study as figures show it, and a sentence about what they leave out, if anything."""
    trials = study.get_trials(deepcopy=False)
    if len(trials) <= MOST_TRIALS:
        return study, None
    every = -(-len(trials) // (MOST_TRIALS - BEST))
    best = {trial.number for trial in ranked(study, spec)[:BEST]}
    shown = [t for t in trials if t.number % every == 0 or t.number in best]
    view: Any = StudyView(study, shown)
    return view, (
        f"Figures and findings about trials are drawn from {len(shown):,} of {len(trials):,} "
        f"trials: the best {len(best)}, and one in {every} of the others. The result, the counts, "
        f"what pruning saved and the table are those of all trials."
    )
