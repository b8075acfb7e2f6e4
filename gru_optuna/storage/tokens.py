"""Tokens of the service: who may use it. The database holds a token's SHA-256, never the token."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from gru_optuna.errors import UserError, did_you_mean
from gru_optuna.storage.database.open import now
from gru_optuna.storage.database.tables import tokens
from gru_optuna.workspace import is_plain_name

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Engine, Row

_MOST_CHARACTERS = 100
_MOST_DAYS = 36_500
_USE_NOTED = timedelta(minutes=10)
"""A use is written down if the last one was that long ago: a request shouldn't have to write."""


class Role(IntEnum):
    """What somebody may do; a higher role may do everything that a lower one may."""

    VIEWER = 1
    """Sees studies, reports and predictions, and downloads bundles."""
    EDITOR = 2
    """Submits, changes and deletes studies, too."""
    ADMINISTRATOR = 3
    """Manages tokens, too, and may change studies in optuna-dashboard."""

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Token:
    """A token, without its secret; times are UTC, without a zone."""

    name: str
    role: Role
    created_at: datetime
    expires_at: datetime | None  # None: never
    last_used_at: datetime | None
    has_expired: bool


def create_token(engine: Engine, name: str, role: Role, days: float | None = None) -> str:
    """Makes a token, and returns it: nothing shows it a second time.

    Parameters
    ----------
    engine
        The database.
    name
        Whose it is.
    role
        What it allows.
    days
        After how many days it expires; None: never.

    Raises
    ------
    UserError
        If there is a token of this name already, or it is no name.
    """
    if not is_plain_name(name) or len(name) > _MOST_CHARACTERS or name != name.strip():
        raise UserError(
            f"token {name!r}: a name has 1 to {_MOST_CHARACTERS} printable characters, and none of "
            f"/ \\ and :. Name the person or program that uses the token."
        )
    if days is not None and not 0 < days <= _MOST_DAYS:
        raise UserError(f"token {name}: {days:g} days. Give 1 to {_MOST_DAYS} days.")
    secret = secrets.token_urlsafe(32)
    with engine.begin() as connection:
        created = now(connection)
        row = {
            "name": name,
            "role": str(role),
            "sha256": _sha256(secret),
            "created_at": created,
            "expires_at": None if days is None else created + timedelta(days=days),
        }
        try:
            connection.execute(insert(tokens).values(row))
        except IntegrityError:
            raise UserError(
                f'there is a token "{name}" already. Choose another name, or revoke it first: '
                f"gru-optuna token revoke NAME."
            ) from None
    return secret


def list_tokens(engine: Engine) -> list[Token]:
    """All tokens, the oldest first."""
    with engine.connect() as connection:
        rows = connection.execute(select(tokens).order_by(tokens.c.token_id)).all()
        at = now(connection)
    return [_token(row, at) for row in rows]


def revoke_token(engine: Engine, name: str) -> None:
    """Deletes a token: requests that bear it are refused from now on.

    Raises
    ------
    UserError
        If there is no token of this name.
    """
    with engine.begin() as connection:
        if not connection.execute(delete(tokens).where(tokens.c.name == name)).rowcount:
            known = connection.scalars(select(tokens.c.name)).all()
            raise UserError(f'no token "{name}". {did_you_mean(name, known)}')


def has_tokens(engine: Engine) -> bool:
    """Whether there is a token, expired or not."""
    with engine.connect() as connection:
        return connection.scalar(select(tokens.c.token_id).limit(1)) is not None


def find_token(engine: Engine, secret: str) -> Token | None:
    """The token with this secret, which may have expired; None if there is none."""
    wanted = _sha256(secret)
    with engine.connect() as connection:
        row = connection.execute(select(tokens).where(tokens.c.sha256 == wanted)).one_or_none()
        at = now(connection)
    # In constant time: how long a comparison takes must not reveal how many characters match.
    if row is None or not hmac.compare_digest(row.sha256, wanted):
        return None
    if row.last_used_at is None or at - row.last_used_at > _USE_NOTED:
        with engine.begin() as connection:
            mine = tokens.c.token_id == row.token_id
            connection.execute(update(tokens).where(mine).values(last_used_at=at))
    return _token(row, at)


def _token(row: Row[Any], at: datetime) -> Token:
    return Token(
        name=row.name,
        role=Role[row.role.upper()],
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        has_expired=row.expires_at is not None and row.expires_at <= at,
    )


def _sha256(secret: str) -> str:
    # Without salt or stretching: 256 random bits can't be guessed.
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
