"""The report in a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna
from made_up import specification, study_of, trial

from gru_optuna.report.page import render_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from browser import Seen


def test_the_page_draws_its_figures_and_asks_for_nothing(
    visit: Callable[..., Seen], tmp_path: Path
) -> None:
    done = optuna.trial.TrialState.COMPLETE
    study = study_of([trial(done, [0.1 * n, 0.1 * n + 0.05], 10.0**-n) for n in range(1, 5)])
    seen = visit(render_report(study, specification(), tmp_path))
    seen.page.wait_for_selector(".plot .main-svg")
    assert not seen.complaints
    assert not seen.requests
