"""The marker in a place of files: that it is ours, and which database it belongs to.

A copy of a database names the place of the original. Were it to sweep there, the original would
lose the checkpoints that the copy doesn't know.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MARKER = ".gru-optuna-checkpoints"
"""The name of the marker: hidden, and unlike those of our other files."""

_SENTENCE = "gru-optuna keeps its files here and removes them. It touches no others.\n"
_FORMER = "gru-optuna keeps checkpoints here and removes them. It touches no other files.\n"


@dataclass(frozen=True)
class Owner:
    """The database whose checkpoints or uploads a place keeps."""

    name: str
    """For people: the path of its file, or its URL without a password."""
    facts: Mapping[str, str]
    """The facts that distinguish it from its copies, by kind."""

    def is_same(self, other: Owner) -> bool:
        """Whether at least two facts agree.

        A SQLite file that was moved keeps its host and inode; one that was restored from a backup,
        its host and path; one that a container mounts, its path and inode. A copy keeps only one
        of the three.
        """
        return sum(other.facts.get(kind) == fact for kind, fact in self.facts.items()) >= 2


def marker_content(owner: Owner | None) -> bytes:
    """The content of a marker; without an owner, the first database that writes there owns it."""
    return (_SENTENCE + (f"{json.dumps(asdict(owner))}\n" if owner else "")).encode()


def owner_in(content: bytes) -> Owner | None:
    """The owner that a marker names; None if it names none.

    A line that can't be read names no database, so that a damaged marker protects the place.
    """
    text = content.decode(errors="replace")
    line = text.removeprefix(_SENTENCE).removeprefix(_FORMER).strip()
    if not line:
        return None
    try:
        read = json.loads(line)
        return Owner(str(read["name"]), {str(k): str(v) for k, v in read["facts"].items()})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Owner("a marker that can't be read", {})
