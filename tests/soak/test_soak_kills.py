"""A hundred kills: numbers for what the short form in ``test_kills.py`` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.kill_often import AIMED, ANYWHERE, kill_often
from helpers.processes import SEARCH, check_exact, check_work, curves, undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helpers.processes import Lab

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

SIZE = ("budget.trials=60", "training.epochs=24", "training.patience='off'")


def test_a_hundred_kills_at_the_points_where_it_hurts(
    new_lab: Callable[..., Lab], database_url: str, tmp_path: Path
) -> None:
    lab = new_lab(database_url, *SEARCH, *SIZE)
    deaths = kill_often(lab, kills=100, seed=1)
    print(f"\ndeaths at {dict(deaths)}")
    assert deaths.total() == 100
    assert deaths.keys() >= {ANYWHERE, *AIMED} - {"checkpoint half"}
    check_exact(lab)
    print(f"epochs by how often they were trained: {dict(check_work(lab))}")
    assert curves(lab.trials) == undisturbed(new_lab, tmp_path, *SEARCH, *SIZE)


def test_a_hundred_kills_at_random_moments(
    new_lab: Callable[..., Lab], database_url: str, tmp_path: Path
) -> None:
    lab = new_lab(database_url, *SEARCH, *SIZE)
    deaths = kill_often(lab, kills=100, seed=2, points=[ANYWHERE])
    assert deaths == {ANYWHERE: 100}
    check_exact(lab)
    print(f"\nepochs by how often they were trained: {dict(check_work(lab))}")
    assert curves(lab.trials) == undisturbed(new_lab, tmp_path, *SEARCH, *SIZE)


def test_a_search_that_learns_and_prunes_is_exact_too(
    new_lab: Callable[..., Lab], database_url: str
) -> None:
    search = ("sampler.name=tpe", "pruner.name=asha", "pruner.min_resource=2", *SEARCH[2:])
    lab = new_lab(database_url, *search, "budget.trials=100", "training.epochs=24")
    deaths = kill_often(lab, kills=60, seed=3)
    assert deaths.total() == 60
    check_exact(lab)
    check_work(lab)
    states = {trial.state.name for trial in lab.trials}
    assert states == {"COMPLETE", "PRUNED"}
