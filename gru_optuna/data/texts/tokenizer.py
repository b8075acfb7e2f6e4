"""Tokenizers that learn from the training rows: pieces of words, words, or characters.

Id 0 is padding, and id 1 stands for unknown tokens. ``bpe`` and ``char`` need no spaces between
words, so they suit Chinese, Japanese or Thai.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from gru_optuna.data.dataset import UNKNOWN
from gru_optuna.data.mapped_tensors import Growing
from gru_optuna.data.readers.column_formats import TableFormats

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

TokenizerName = Literal["bpe", "word", "char"]

SPECIAL = ["[PAD]", "[UNK]"]
"""In the order of their ids."""

_SPACE = "▁"  # stands before a word, as Metaspace writes it
_SPACES, _CHARACTER = r"\s+", r"[\s\S]"  # the only patterns; others could take forever
_TWICE = 2  # a token that occurs once in the training rows can't be learned: it stays unknown
_BATCH = 1 << 20  # characters that are encoded at a time: each token takes a hundred bytes then
_LONGEST_PIECE = 16  # characters: without spaces, whole sentences would become pieces
_DEFAULT_SIZES: dict[TokenizerName, int] = {"bpe": 8_000, "word": 20_000, "char": 8_000}


@dataclass(frozen=True)
class TextEncoder:
    """Encodes texts as token ids, with a tokenizer that has learned from the training rows."""

    tokenizer: Tokenizer
    limit: int  # number of tokens of a text to keep: the most that a trial may read
    column: str | None  # of the texts, in a table
    formats: TableFormats = field(default_factory=TableFormats)

    @property
    def vocabulary(self) -> int:
        """The number of token ids."""
        return int(self.tokenizer.get_vocab_size())

    def encode(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The tokens (M,) of all texts, one after another, and their lengths (N,)."""
        steps, lengths = Growing(), Growing()
        for batch in encode_in_batches(self.tokenizer, texts):
            kept = [ids[: self.limit] for ids in batch]
            steps.append(torch.tensor(list(chain.from_iterable(kept))))
            lengths.append(torch.tensor([len(ids) for ids in kept]))
        return steps.whole(), lengths.whole()

    def as_json(self) -> dict[str, Any]:
        """Everything that encoding needs."""
        return {
            "kind": "texts",
            "columns": {"text": self.column},
            "tokenizer": json.loads(self.tokenizer.to_str()),
            "max_tokens": self.limit,
            **self.formats.in_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TextEncoder:
        """The encoder that `as_json` wrote.

        Raises
        ------
        ValueError
            If its tokenizer has a regular expression that isn't one of ours.
        """
        _refuse_other_patterns(content["tokenizer"])
        tokenizer = Tokenizer.from_str(json.dumps(content["tokenizer"]))
        formats = TableFormats.from_json(content.get("formats"))
        return cls(tokenizer, content["max_tokens"], content["columns"]["text"], formats)


def train_tokenizer(name: TokenizerName, texts: Sequence[str], size: int | None) -> Tokenizer:
    """Learns a tokenizer from the training rows.

    Parameters
    ----------
    name
        ``bpe``: byte-pair encoding (Sennrich et al. 2016), merged within words and punctuation
        apart; ``word``: runs of letters and digits, and of everything else; ``char``: single
        characters.
    texts
        The training rows.
    size
        The most token ids, the two special ones included; None: the tokenizer's default.
    """
    size = size or _DEFAULT_SIZES[name]
    model = models.BPE if name == "bpe" else models.WordLevel
    tokenizer = Tokenizer(model(unk_token=SPECIAL[UNKNOWN]))
    # Full-width letters become plain ones, and capitals small: fewer words, each seen more often.
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(_SPACES), " "),
            normalizers.Strip(),
        ]
    )
    match name:
        case "bpe":
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")]
            )
        case "word":
            tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        case "char":
            tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_CHARACTER), "isolated")
            # Characters are few, and capitals may distinguish two classes.
            tokenizer.normalizer = normalizers.NFC()
    trainer: trainers.Trainer = trainers.WordLevelTrainer(
        vocab_size=size, min_frequency=_TWICE, special_tokens=SPECIAL, show_progress=False
    )
    if name == "bpe":
        # Thousands of Chinese characters must leave room for words of two.
        alphabet = _alphabet(tokenizer, texts, most=max(1, (size - len(SPECIAL)) // 2))
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=_TWICE,
            special_tokens=SPECIAL,
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            max_token_length=_LONGEST_PIECE,
            show_progress=False,
        )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Token ids of each text, at least one."""
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [encoding.ids or [UNKNOWN] for encoding in encodings]


def encode_in_batches(tokenizer: Tokenizer, texts: Sequence[str]) -> Iterator[list[list[int]]]:
    """Token ids of each text, about a million characters at a time."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text) + 1
        if characters >= _BATCH:
            yield encode(tokenizer, batch)
            batch, characters = [], 0
    if batch:
        yield encode(tokenizer, batch)


def _refuse_other_patterns(tokenizer: object) -> None:
    parts = [tokenizer]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            pattern = part.get("Regex")
            # A vocabulary may hold this word, with a number.
            if isinstance(pattern, str) and pattern not in (_SPACES, _CHARACTER):
                raise ValueError(f"the regular expression {pattern[:100]!r} isn't one of ours")
            parts += part.values()
        elif isinstance(part, list):
            parts += part


def _alphabet(tokenizer: Tokenizer, texts: Sequence[str], most: int) -> list[str]:
    """The most frequent characters of normalized texts; ties go to the earlier in Unicode.

    Left to itself, the trainer breaks ties by chance, and no two workers would agree.
    """
    counts = Counter({_SPACE: len(texts)})
    for text in texts:
        counts.update(tokenizer.normalizer.normalize_str(text).replace(" ", _SPACE))
    return sorted(counts, key=lambda character: (-counts[character], character))[:most]
