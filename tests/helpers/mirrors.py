"""Studies in a database and a worker's handles on their trials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import optuna

from gru_optuna.storage.database.open import open_storage

if TYPE_CHECKING:
    from optuna import Study, Trial

    from gru_optuna.storage.mirror.mirror import Mirror


def make(url: str, name: str = "x") -> Study:
    return optuna.create_study(
        storage=open_storage(url, create=True),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
    )


def claim(mirror: Mirror, count: int = 1, limit: int | None = None) -> list[Trial]:
    """Takes trials and returns handles on them."""
    return [mirror.trial(number) for number, _ in mirror.sync(count, limit).claims]
