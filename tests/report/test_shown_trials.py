"""The figures of a very large study show some of its trials, and the page says which."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from helpers.report_studies import many_trials, specification

from gru_optuna.report import shown_trials
from gru_optuna.report.page import render_report
from gru_optuna.report.shown_trials import thinned
from gru_optuna.study.confirmation import ranked

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SPEC = specification(training={"epochs": 40})


def test_a_study_that_a_browser_can_draw_is_shown_whole() -> None:
    study = many_trials(30)
    assert thinned(study, SPEC) == (study, None)


def test_the_page_of_a_larger_one_says_what_its_figures_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown_trials, "MOST_TRIALS", 50)
    monkeypatch.setattr(shown_trials, "BEST", 10)
    study = many_trials(300)
    best = {trial.number for trial in ranked(study, SPEC)[:10]}
    expected = sorted(best | set(range(0, 300, 8)))
    shown, sentence = thinned(study, SPEC)
    assert [trial.number for trial in shown.get_trials()] == expected
    assert sentence is not None
    assert sentence.startswith(
        f"Figures and findings about trials are drawn from {len(expected)} of 300 trials: the "
        f"best 10, and one in 8 of the others."
    )
    page = render_report(study, SPEC, tmp_path)
    text = page.read_text()
    assert sentence in text
    for count in ("complete", "pruned", "failed"):
        assert f"{sum(t.state.name.lower()[:4] == count[:4] for t in study.trials)} {count}" in text
    drawn = json.loads((tmp_path / "figures" / "optimization_history.json").read_text())
    assert len(drawn["trials"] if isinstance(drawn, dict) else drawn) < 60
    pruning = json.loads((tmp_path / "figures" / "pruning.json").read_text())
    assert pruning["trials"] > 200  # of all trials, the failed ones aside
