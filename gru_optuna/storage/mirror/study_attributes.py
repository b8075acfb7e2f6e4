"""A study's attributes here and in the database, among them the time worked."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from optuna.storages._rdb import models

from gru_optuna.attributes import WORKED_SECONDS, WORKED_UNTIL
from gru_optuna.storage.database.open import now
from gru_optuna.storage.mirror.optuna_rows import Changes, read_study_attrs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection

LOOK_SECONDS = 1.0
"""Seconds between two reads. In between, only the time worked changes, and rarely the budget."""


@dataclass(frozen=True)
class StudyAttrs:
    """The attributes as they were at the last look.

    Parameters
    ----------
    study_id
        The study's id in the database.
    user, system
        The attributes, as the database has them.
    at
        Monotonic time at which this worker last counted the time worked, seconds; None before
        the first time. It has worked ever since.
    looked
        Monotonic time of its last look, seconds.
    """

    study_id: int
    user: dict[str, Any]
    system: dict[str, Any]
    at: float | None = None
    looked: float = -math.inf

    def worked_seconds(self, at: float) -> float:
        """The time worked until now, if this worker has worked on since the last look."""
        since = 0.0 if self.at is None else at - self.looked
        return float(self.user.get(WORKED_SECONDS, 0.0)) + since

    def look(
        self, connection: Connection, user: Mapping[str, Any], system: Mapping[str, Any], at: float
    ) -> StudyAttrs | None:
        """Reads the attributes now and then; None if some have to be written, under the lock.

        That is so if they changed in memory, or if no worker has counted the time worked for a
        while: among many workers, one does it for all.

        Parameters
        ----------
        connection
            In any transaction.
        user, system
            The attributes in memory.
        at
            Monotonic time, seconds.
        """
        if self.at is None or _changed(self.user, user) or _changed(self.system, system):
            return None
        if at - self.looked < LOOK_SECONDS:
            return self
        user_now, system_now = read_study_attrs(connection, self.study_id)
        if WORKED_UNTIL not in user_now:
            return None
        until = datetime.fromisoformat(user_now[WORKED_UNTIL])
        if not 0 <= (now(connection) - until).total_seconds() < LOOK_SECONDS:
            return None
        return replace(self, user=user_now, system=system_now, looked=at)

    def write(
        self,
        connection: Connection,
        user: Mapping[str, Any],
        system: Mapping[str, Any],
        at: float,
        clocks: Sequence[str] = (WORKED_SECONDS,),
    ) -> StudyAttrs:
        """Reads the attributes, writes those that changed in memory, and counts the time worked.

        Parameters
        ----------
        connection
            In a transaction that holds the study's lock.
        user, system
            The attributes in memory.
        at
            Monotonic time, seconds.
        clocks
            The keys under which the time is counted.
        """
        user_changes, system_changes = _changed(self.user, user), _changed(self.system, system)
        since = math.inf if self.at is None else at - self.at
        clock = now(connection)
        user_before, system_before = read_study_attrs(connection, self.study_id)
        worked = 0.0
        if self.at is not None and WORKED_UNTIL in user_before:
            # Wall time, however many work: what another worker has counted is not counted again,
            # and a gap in which no worker ran is never counted.
            until = datetime.fromisoformat(user_before[WORKED_UNTIL])
            worked = max(0.0, min((clock - until).total_seconds(), since))
        counted: dict[str, Any] = {
            key: round(float(user_before.get(key, 0.0)) + worked, 3) for key in clocks
        }
        counted[WORKED_UNTIL] = clock.isoformat()
        user_after = user_before | user_changes | counted
        system_after = system_before | system_changes
        owner, changes = {"study_id": self.study_id}, Changes()
        changes.attrs(models.StudyUserAttributeModel, owner, user_before, user_after)
        changes.attrs(models.StudySystemAttributeModel, owner, system_before, system_after)
        changes.write(connection)
        return StudyAttrs(self.study_id, user_after, system_after, at, at)


def _changed(before: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in here.items() if key not in before or before[key] != value}
