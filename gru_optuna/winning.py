"""A study in the database to its winner: confirmed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gru_optuna import confirming
from gru_optuna.digest import describe_at
from gru_optuna.joining import Settings, choose_device, load_data, make_pool
from gru_optuna.search import confirmation
from gru_optuna.search import study as studies
from gru_optuna.storage.database import open_storage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from threading import Event as Flag

    from optuna import Study

    from gru_optuna.search.confirmation import Confirmation
    from gru_optuna.spec import Specification
    from gru_optuna.worker.events import Event

__all__ = ["Place", "Settings", "confirm"]


@dataclass(frozen=True)
class Place:
    """Where a study is, and where it trains."""

    url: str  # of the database
    folder: Path  # what the paths of its data are relative to
    settings: Settings


def confirm(
    name: str,
    place: Place,
    candidates: int | None,
    seeds: int | None,
    stop: Flag,
    on_event: Callable[[Event], None] = lambda event: None,
) -> tuple[Study, Specification, Confirmation | None]:
    """The decision about the best trials of a study, made if it isn't there yet.

    Parameters
    ----------
    name
        The study's.
    place
        Where it is.
    candidates, seeds
        In place of the last decision's, or the study file's. None: as those say; where that is
        none, the default.
    stop, on_event
        As ``confirming.confirm``.

    Raises
    ------
    UserError
        If the study or its data aren't there.
    StudyFailed
        If every run fails.
    """
    study, spec = studies.load(open_storage(place.url), name)
    found = confirmation.read(study)
    if found is not None:
        candidates, seeds = candidates or found.asked_candidates, seeds or found.asked_seeds
    spec = with_confirmation(spec, candidates, seeds)
    if confirmation.is_current(found, study, spec) or not confirmation.finalists(study, spec):
        return study, spec, found
    device = choose_device(place.settings.device)
    datasets = [data.to(device) for data in load_data(study, spec, place.folder)]
    pool, ready = make_pool(spec, datasets, place.settings)
    found = confirming.confirm(study, place.url, spec, pool, ready.slots, stop, on_event)
    describe_at(study, place.url)
    return study, spec, found


def with_confirmation(
    spec: Specification, candidates: int | None, seeds: int | None
) -> Specification:
    """The specification with so many candidates and seeds, one candidate at least."""
    asked = spec.confirmation
    count = candidates or asked.candidates or type(asked)().candidates
    changed = asked.model_copy(update={"candidates": count, "seeds": seeds or asked.seeds})
    return spec.model_copy(update={"confirmation": changed})
