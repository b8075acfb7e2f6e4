"""URLs of databases: shown without anything secret, and read from where ``ps`` doesn't show them.

No URL reaches a message, a log or a command that is suggested without passing `masked`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from gru_optuna.errors import StorageError

SHOWN_OPTIONS = {
    "application_name", "client_encoding", "connect_timeout", "dbname", "gssencmode", "host",
    "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "port",
    "prepared_statements", "sslmode",
    "target_session_attrs", "user",
}  # fmt: skip
"""Options in the query of a URL that hold nothing secret. The values of all others are masked:
``password``, ``sslpassword`` and ``options`` among them."""

_MOST_CHARACTERS = 10_000  # of a file that holds a URL; some files never end

# Bounded, so that a long word isn't searched again from each of its letters: messages quote what
# was wrong, and that may be a megabyte.
_SCHEME = r"[A-Za-z][\w+.-]{0,40}"
_URL = re.compile(rf"(?P<start>{_SCHEME}:/+)(?P<rest>[^\s'\"]*)")
# A password may hold spaces and quotes, though both should be written with %. Up to the last @
# before the next URL; not for pages, where a port follows the colon.
_PASSWORD = re.compile(rf"(?P<start>\b(?!https?:){_SCHEME}:/+[^\s:/'\"]*:)(?:(?!\b{_SCHEME}:/).)*@")
# Of a URL with a mistake in it, such as one without its host.
_ALONE = re.compile(rf"(?P<start>(?:{_SCHEME}:?/+)?)(?P<rest>.*)", re.DOTALL)
_PORT = re.compile(r"\d{0,5}(?!\w)")
_ASSIGNED = re.compile(
    r"(?i)\b((?:\w{0,40}pass\w{0,40}|pwd)\s{0,9}=\s{0,9})('[^']*'|\"[^\"]*\"|[^\s&]+)"
)


def masked(text: str) -> str:
    """A text in which every URL shows neither its password nor an option that may be secret.

    It masks what merely looks like a URL, too: a typing mistake must not betray a password.

    >>> masked("--storage=postgresql://me:se/cr:et@host/db?password=x&sslmode=require")
    '--storage=postgresql://me:***@host/db?password=***&sslmode=require'
    """
    return _ASSIGNED.sub(r"\1***", _URL.sub(_masked_url, _PASSWORD.sub(r"\g<start>***@", text)))


def masked_url(url: str) -> str:
    """A single URL without anything secret, whatever characters it holds.

    >>> masked_url("postgresql://me:my secret@host/db")
    'postgresql://me:***@host/db'
    """
    return masked(_ALONE.sub(_masked_url, url, count=1))


def given_url(text: str) -> str:
    """The URL that a user gives: the text itself, or ``env:VARIABLE``, or ``file:PATH``.

    A command line is public on its machine; the environment and a file needn't be.

    Raises
    ------
    StorageError
        If there is no such variable, or the file can't be read or is empty.
    """
    kind, _, name = text.partition(":")
    if kind == "env":
        if not (url := os.environ.get(name, "").strip()):
            raise StorageError(f"storage {text}: the variable {name} is not set. Set it to a URL.")
        return url
    if kind == "file":
        try:
            with Path(name).open(encoding="utf-8") as file:
                url = file.read(_MOST_CHARACTERS + 1).strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text"
            raise StorageError(f"storage {text}: {reason}. Check the path.") from None
        if not url or "\n" in url or len(url) > _MOST_CHARACTERS:
            raise StorageError(f"storage {text}: the file must hold a URL, in one line.")
        return url
    return text


def _masked_url(found: re.Match[str]) -> str:
    rest = found["rest"]
    user, colon, after = rest.partition(":")
    if colon and "@" in after:
        # To the last @: a password may hold one, though it should be written %40.
        rest = f"{user}:***@{after.rpartition('@')[2]}"
    elif re.fullmatch(r"(?!https?:)[^:]+://", found["start"]) and re.fullmatch(r"[^/?[]+", user):
        rest = rest if _PORT.match(after) else f"{user}:***"
    place, mark, query_text = rest.partition("?")
    options = [_masked_option(option) for option in query_text.split("&")] if mark else []
    return f"{found['start']}{place}{mark}{'&'.join(options)}"


def _masked_option(option: str) -> str:
    key, equals, _ = option.partition("=")
    if not equals:
        return "***" if key else ""
    return option if key in SHOWN_OPTIONS else f"{key}=***"
