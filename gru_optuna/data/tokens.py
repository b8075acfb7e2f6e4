"""Texts to token ids, learned from the training rows alone: pieces of words, words, characters.

Id 0 is padding, 1 what the vocabulary doesn't know. ``bpe`` and ``char`` need no spaces between
words, so they suit Chinese, Japanese or Thai as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from gru_optuna.data.dataset import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

TokenizerName = Literal["bpe", "word", "char"]

SPECIAL = ["[PAD]", "[UNK]"]
"""In the order of their ids."""

_TWICE = 2  # what occurs once in the training rows can't be learned: it is unknown, as new words
_LONGEST_PIECE = 16  # characters: without spaces, whole sentences would become pieces
_DEFAULT_SIZES: dict[TokenizerName, int] = {"bpe": 8_000, "word": 20_000, "char": 8_000}


def train_tokenizer(name: TokenizerName, texts: Sequence[str], size: int | None) -> Tokenizer:
    """A tokenizer of texts.

    Parameters
    ----------
    name
        ``bpe``: byte-pair encoding (Sennrich et al. 2016), merged within words and punctuation
        apart; ``word``: runs of letters and digits, and of everything else; ``char``: single
        characters.
    texts
        Of the training rows.
    size
        At most so many token ids, the two special ones included; None: from the data.
    """
    size = size or _DEFAULT_SIZES[name]
    model = models.BPE if name == "bpe" else models.WordLevel
    tokenizer = Tokenizer(model(unk_token=SPECIAL[UNKNOWN]))
    # Full-width letters become plain ones, and capitals small: fewer words, each seen more.
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    match name:
        case "bpe":
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation("isolated")]
            )
        case "word":
            tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        case "char":
            tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
            # Characters are few, and a capital may be what tells two classes apart.
            tokenizer.normalizer = normalizers.NFC()
    tokenizer.train_from_iterator(texts, _trainer(name, size), length=len(texts))
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text, one at least."""
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    return [encoding.ids or [UNKNOWN] for encoding in encodings]


def _trainer(name: TokenizerName, size: int) -> trainers.Trainer:
    if name == "bpe":
        return trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=_TWICE,
            special_tokens=SPECIAL,
            # Thousands of Chinese characters must leave room for words of two.
            limit_alphabet=max(1, (size - len(SPECIAL)) // 2),
            max_token_length=_LONGEST_PIECE,
            show_progress=False,
        )
    return trainers.WordLevelTrainer(
        vocab_size=size, min_frequency=_TWICE, special_tokens=SPECIAL, show_progress=False
    )
