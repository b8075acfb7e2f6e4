"""What the name of a column says about its role, by whole words of several languages."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache
from importlib.resources import files
from typing import Literal, TypeAlias

Subject: TypeAlias = Literal[
    "label", "class", "target", "id", "step", "time", "date", "calendar", "group", "known"
]  # the sections of role_words.toml

_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WITHOUT_SPACES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


def name_speaks(name: str, subject: Subject) -> int:
    """How clearly a column's name speaks for a role: 2 if all of it does, 1 if a word, 0 if none.

    >>> name_speaks("mainId", "id"), name_speaks("humid", "id"), name_speaks("id", "id")
    (1, 0, 2)
    """
    words = _words(subject)
    parts = _split(name)
    if parts and all(part in words for part in parts):
        return 2
    return int(any(_is_word(part, words) for part in parts))


def name_ends_with(name: str, subject: Subject) -> bool:
    """Whether the last word of a name speaks for a role, as "id" does in "order id"."""
    parts = _split(name)
    return bool(parts) and _is_word(parts[-1], _words(subject))


def _is_word(part: str, words: frozenset[str]) -> bool:
    if part in words or (_WITHOUT_SPACES.search(part) and any(word in part for word in words)):
        return True
    # Two words written together, such as "userid".
    return any(part[:end] in words and part[end:] in words for end in range(2, len(part) - 1))


def _split(name: str) -> list[str]:
    """The words of a name, without case, accents, plurals and numbers at the end."""
    parts = re.findall(r"[^\W_]+", _CAMEL_CASE.sub(" ", unicodedata.normalize("NFKC", name)))
    return [_plain(part) for part in parts]


def _plain(word: str) -> str:
    letters = unicodedata.normalize("NFKD", word.casefold())
    letters = "".join(sign for sign in letters if not unicodedata.combining(sign))
    plain = unicodedata.normalize("NFC", letters)
    plain = plain.rstrip("0123456789") or plain
    if len(plain) > 4 and plain.endswith("ies"):
        return f"{plain[:-3]}y"
    if plain.endswith("sses"):
        return plain[:-2]
    return plain[:-1] if len(plain) > 3 and plain[-1] == "s" != plain[-2] else plain


@cache
def _words(subject: Subject) -> frozenset[str]:
    text = files("gru_optuna.inspection").joinpath("role_words.toml").read_text(encoding="utf-8")
    return frozenset(
        _plain(word) for words in tomllib.loads(text)[subject].values() for word in words.split()
    )
