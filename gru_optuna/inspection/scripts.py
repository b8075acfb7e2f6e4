"""The scripts that texts are written in, and whether they put spaces between words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_SAMPLE = 5000  # number of texts to read
_SCRIPTS = (
    "Latin", "Han", "Hiragana", "Katakana", "Hangul", "Cyrillic", "Greek", "Arabic", "Hebrew",
    "Devanagari", "Bengali", "Tamil", "Telugu", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan",
    "Georgian", "Armenian", "Ethiopic",
)  # fmt: skip
_WITHOUT_SPACES = frozenset(
    {"Han", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"}
)
_NOTEWORTHY = 0.005  # of the letters


def scripts_of(texts: pl.Series) -> dict[str, float]:
    """The share of each script among the letters, largest first; small shares are left out."""
    texts = texts.drop_nulls()
    if len(texts) > _SAMPLE:
        texts = texts.gather_every(len(texts) // _SAMPLE)
    letters = {
        script: int(texts.str.count_matches(rf"\p{{{script}}}").sum() or 0) for script in _SCRIPTS
    }
    total = sum(letters.values())
    shares = {script: count / total for script, count in letters.items() if count}
    return {
        script: round(share, 4)
        for script, share in sorted(shares.items(), key=lambda item: -item[1])
        if share >= _NOTEWORTHY
    }


def without_spaces(scripts: dict[str, float]) -> bool:
    """Whether most letters belong to scripts that put no spaces between words."""
    return sum(share for script, share in scripts.items() if script in _WITHOUT_SPACES) > 0.5
