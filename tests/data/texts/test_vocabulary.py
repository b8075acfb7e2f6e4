"""Smaller vocabularies of texts that were encoded once: as their own tokenizers encode them."""

from __future__ import annotations

import csv
import json
import random
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

import pytest
import torch
from helpers.text_files import CHINESE, ROWS, load, write
from helpers.workspaces import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gru_optuna import study_file
from gru_optuna.data.dataset import UNKNOWN, Split, starts_of
from gru_optuna.data.load import load_folds
from gru_optuna.data.texts.prepare import MOST_TOKENS
from gru_optuna.data.texts.tokenizer import SPECIAL, TokenizerName, encode, train_tokenizer
from gru_optuna.data.texts.vocabulary import Narrowing, cut_down

if TYPE_CHECKING:
    from pathlib import Path

ENDLESS = 10**6

NAMES = get_args(TokenizerName)

# Few letters make long merges in a few rows: runs of one, ties, parts that overlap.
SCRIPTS = [
    "ab",
    "abc ",
    "aab ,",
    "the film is a dull, long one.",
    "酒店很好不错，差房间",
    "a酒b店 。▁",
]


def words_of(letters: str) -> st.SearchStrategy[str]:
    return st.text(st.sampled_from(letters), min_size=1, max_size=30)


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Texts to train on, and others."""
    letters = draw(st.sampled_from(SCRIPTS))
    rows = draw(st.lists(words_of(letters), min_size=1, max_size=15))
    others = draw(st.lists(words_of(letters + "xyz問"), max_size=5))
    return rows, others


def narrowed(
    tokenizer: Tokenizer, vocabulary: int, texts: list[str], limit: int = ENDLESS
) -> list[list[int]]:
    """Texts that the large tokenizer encodes, narrowed."""
    rows = [ids[:limit] for ids in encode(tokenizer, texts)]
    lengths = torch.tensor([len(ids) for ids in rows])
    tokens = torch.tensor([token for ids in rows for token in ids])
    made, longer = Narrowing.of(json.loads(tokenizer.to_str()), vocabulary).apply(
        tokens, starts_of(lengths), lengths, limit
    )
    return [row.tolist() for row in torch.split(made, longer.tolist())]


def by_hand(tokenizer: Tokenizer, vocabulary: int) -> Tokenizer:
    """The tokenizer with the first ids alone, and of ``bpe`` with the first merges alone."""
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    model = content["model"]
    by_id = sorted(model["vocab"], key=model["vocab"].get)
    model["vocab"] = {token: place for place, token in enumerate(by_id[:vocabulary])}
    if "merges" in model:
        alphabet = len(by_id) - len(model["merges"])  # each merge made one more token
        model["merges"] = model["merges"][: max(0, vocabulary - alphabet)]
    return Tokenizer.from_str(json.dumps(content))


@settings(max_examples=300, deadline=None)
@given(
    corpus=corpora(),
    name=st.sampled_from(NAMES),
    sizes=st.tuples(st.integers(3, 60), st.integers(3, 60), st.integers(3, 60)).map(sorted),
)
def test_narrowing_is_what_the_tokenizer_of_the_first_ids_says(
    corpus: tuple[list[str], list[str]], name: TokenizerName, sizes: list[int]
) -> None:
    rows, others = corpus
    smallest, middle, largest = sizes
    tokenizer = train_tokenizer(name, rows, largest, smallest)
    for vocabulary in (smallest, middle, largest):
        alone = by_hand(tokenizer, vocabulary)
        told = narrowed(tokenizer, vocabulary, rows + others)
        assert told == encode(alone, rows + others)
        assert all(token < vocabulary for ids in told for token in ids)
        assert json.loads(cut_down(tokenizer, vocabulary).to_str()) == json.loads(alone.to_str())


@settings(max_examples=200, deadline=None)
@given(
    corpus=corpora(),
    name=st.sampled_from(NAMES),
    sizes=st.tuples(st.integers(3, 60), st.integers(3, 60)).map(sorted),
)
def test_the_smallest_is_the_tokenizer_that_would_be_trained_alone(
    corpus: tuple[list[str], list[str]], name: TokenizerName, sizes: list[int]
) -> None:
    """Ties included: what occurs equally often stands in one order, whatever the size."""
    rows, _ = corpus
    smallest, largest = sizes
    cut = cut_down(train_tokenizer(name, rows, largest, smallest), smallest)
    assert json.loads(cut.to_str()) == json.loads(train_tokenizer(name, rows, smallest).to_str())


@settings(max_examples=200, deadline=None)
@given(
    corpus=corpora(),
    name=st.sampled_from(NAMES),
    sizes=st.tuples(st.integers(3, 60), st.integers(3, 60)).map(sorted),
    limit=st.integers(1, 12),
)
def test_a_row_that_is_cut_and_narrowed_is_the_narrowed_row_cut(
    corpus: tuple[list[str], list[str]], name: TokenizerName, sizes: list[int], limit: int
) -> None:
    rows, others = corpus
    tokenizer = train_tokenizer(name, rows, sizes[1], sizes[0])
    told = narrowed(tokenizer, sizes[0], rows + others, limit)
    assert told == [ids[:limit] for ids in encode(by_hand(tokenizer, sizes[0]), rows + others)]


def test_more_rows_than_are_narrowed_at_a_time() -> None:
    rows = [text for text, _ in [*ROWS, *CHINESE]]
    tokenizer = train_tokenizer("bpe", rows, 200, 60)
    drawn = random.Random(0)
    many = [" ".join(drawn.choices(rows, k=drawn.randint(1, 3))) for _ in range(20_000)]
    assert narrowed(tokenizer, 60, many) == encode(by_hand(tokenizer, 60), many)


@cache
def real_texts() -> list[str]:
    with (REPOSITORY / "studies" / "data" / "movie_snippets.csv").open(encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)][:3000]


@pytest.mark.parametrize("name", NAMES)
def test_real_texts_in_three_vocabularies(name: TokenizerName) -> None:
    tokenizer = train_tokenizer(name, real_texts(), 8000, 300)
    for vocabulary in (300, 1000, 4000):
        alone = train_tokenizer(name, real_texts(), vocabulary, 300)
        assert narrowed(tokenizer, vocabulary, real_texts()) == encode(alone, real_texts())


def test_what_is_narrowed_is_longer_in_pieces_and_less_known_in_words() -> None:
    texts = real_texts()
    pieces, words = (train_tokenizer(name, texts, 4000, 300) for name in ("bpe", "word"))
    for tokenizer, grows, forgets in ((pieces, True, False), (words, False, True)):
        before, after = encode(tokenizer, texts), narrowed(tokenizer, 300, texts)
        assert (sum(map(len, after)) > 1.3 * sum(map(len, before))) == grows
        unknown = [sum(ids.count(UNKNOWN) for ids in rows) for rows in (before, after)]
        assert (unknown[1] > 2 * unknown[0]) == forgets


def test_all_vocabularies_of_chinese_know_the_characters_of_the_smallest() -> None:
    texts = [text for text, _ in CHINESE]
    large = train_tokenizer("bpe", texts, 80, 20)
    characters = {token for token in large.get_vocab() if len(token) == 1}
    alone = train_tokenizer("bpe", texts, 20).get_vocab()
    assert characters == {token for token in alone if len(token) == 1}
    assert len(characters) == (20 - len(SPECIAL)) // 2


# --- the dataset ---


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    write(tmp_path, "train.csv", [*ROWS, *((text, label[:1]) for text, label in CHINESE)])
    return tmp_path


def rows_of(split: Split | None) -> list[list[int]]:
    assert split is not None
    whole = split.batch()
    return [row[:length].tolist() for row, length in zip(whole.values, whole.lengths, strict=True)]


@pytest.mark.parametrize("name", NAMES)
def test_a_narrowed_dataset_is_the_one_that_is_loaded_with_that_vocabulary(
    reviews: Path, name: str
) -> None:
    keys = {"tokenizer": name, "test": 0.2, "max_tokens": 9}
    searched = load(reviews, vocabulary=[90, 30, 50], **keys)
    alone, small = load(reviews, vocabulary=30, **keys), searched.narrowed(30)
    assert searched.fingerprint == alone.fingerprint == small.fingerprint
    assert small.preprocessing == alone.preprocessing
    assert small.vocabulary == alone.vocabulary == 30 < searched.vocabulary <= 90
    for part in ("train", "validation", "test"):
        one, other = getattr(small, part), getattr(alone, part)
        assert rows_of(one) == rows_of(other)
        assert torch.equal(one.targets, other.targets)


def test_a_dataset_is_narrowed_once_and_to_nothing_larger(reviews: Path) -> None:
    data = load(reviews, vocabulary=[40, 30])
    assert data.narrowed(30) is data.narrowed(30)
    assert data.narrowed(40) is data.narrowed(None) is data.narrowed(99) is data
    moved = data.to(torch.device("cpu"), torch.float64)
    assert moved.narrowed(30) is not data.narrowed(30)
    assert moved.narrowed(30).dtype == torch.float64


def test_the_limit_from_the_data_is_that_of_the_smallest_vocabulary(reviews: Path) -> None:
    several, small, large = (
        load(reviews, vocabulary=choice, validation=0.1)
        for choice in ([90, 30], 30, 90)
    )  # fmt: skip
    limits = [one.preprocessing["max_tokens"] for one in (several, small, large)]
    assert limits[0] == limits[1] > limits[2]
    longest = int(several.narrowed(30).train.lengths.max())
    assert int(several.train.lengths.max()) < longest <= limits[0] < MOST_TOKENS


def test_every_fold_is_narrowed_by_its_own_tokenizer(reviews: Path) -> None:
    keys = {"train": "train.csv", "text": "text", "label": "label", "folds": 3}
    content = {"name": "x", "data": keys | {"tokenizer": "word", "vocabulary": [12, 40]}}
    folds = load_folds(study_file.parse(content, source="x.toml"), reviews)
    words = [tuple(one.narrowed(12).preprocessing["tokenizer"]["model"]["vocab"]) for one in folds]
    assert len(set(words)) > 1
    for fold, known in zip(folds, words, strict=True):
        assert len(known) == 12
        every = fold.preprocessing["tokenizer"]["model"]["vocab"]
        assert known == tuple(sorted(every, key=every.get)[:12])
