"""From texts to tokens: what counts as equal, who the tokenizer sees, and every script alike."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from helpers.workspaces import REPOSITORY
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from gru_optuna import study_file
from gru_optuna.data.load import load_dataset, load_folds
from gru_optuna.data.texts.tokenizer import SPECIAL, TokenizerName, encode, train_tokenizer
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

    from gru_optuna.data.dataset import Dataset, Split

MOVIES = REPOSITORY / "studies" / "data" / "movie_snippets.csv"

GOOD, BAD = ["lovely", "bright", "warm", "kind"], ["awful", "dark", "cold", "rude"]

ROWS = [
    (f"{'a' if row % 3 else 'the'} {words[row % 4]} film number {row // 2}", label)
    for row in range(40)
    for words, label in ((GOOD, "good"), (BAD, "bad"))
]
"""80 texts, half of them good."""

# Reviews as they are written, without spaces: 酒店 hotel, 房间 room, 服务 service, 早餐 breakfast.
CHINESE = [
    (f"{subject}{verdict}，{end}。", label)
    for subject in ("酒店", "房间", "服务", "早餐", "位置", "前台")
    for verdict, label in (
        ("非常好", "pos"),
        ("很不错", "pos"),
        ("太差了", "neg"),
        ("很糟糕", "neg"),
    )
    for end in ("我们住了三天", "价格是两百元")
]


def write(folder: Path, name: str, rows: list[tuple[Any, ...]], *columns: str) -> None:
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns or ("text", "label"), *rows])


def load(folder: Path, seed: int = 0, task: str = "classification", **data: Any) -> Dataset:
    keys = {"train": "train.csv", "text": "text"}
    keys |= {"label": "label"} if task == "classification" else {"target": "target"}
    content = {"name": "x", "seed": seed, "task": task, "data": keys | data}
    return load_dataset(study_file.parse(content, source="x.toml"), folder)


def refusal(folder: Path, **data: Any) -> str:
    """What is said about data that aren't accepted, without their folder."""
    with pytest.raises(DataError) as caught:
        load(folder, **data)
    return str(caught.value).replace(f"{folder}/", "")


def texts(dataset: Dataset, split: Split | None) -> list[str]:
    """The texts of a split, read back from their tokens."""
    assert split is not None
    words = {place: word for word, place in tokenizer_of(dataset).get_vocab().items()}
    return [
        " ".join(words[int(token)] for token in row[:length])
        for row, length in zip(split.batch().values, split.lengths, strict=True)
    ]


def tokenizer_of(dataset: Dataset) -> Tokenizer:
    return Tokenizer.from_str(json.dumps(dataset.preprocessing["tokenizer"]))


@pytest.fixture
def films(tmp_path: Path) -> Path:
    write(tmp_path, "train.csv", ROWS)
    return tmp_path


# --- tokens ---


def test_words_are_runs_of_letters_and_of_everything_else() -> None:
    tokenizer = train_tokenizer("word", ["Don't panic… ＡＢＣ!"] * 2, None)
    assert tokenizer.encode("Don't panic… ＡＢＣ!").tokens == [
        *("don", "'", "t", "panic", "...", "abc", "!")
    ]


def test_characters_stay_as_they_are() -> None:
    tokenizer = train_tokenizer("char", ["Añ b\n"] * 2, None)
    assert tokenizer.encode("Añ b\n").tokens == ["A", "ñ", " ", "b", "\n"]


def test_pieces_of_words_are_merged_and_punctuation_stands_alone() -> None:
    tokenizer = train_tokenizer("bpe", ["film, films and filming."] * 9, None)
    tokens = tokenizer.encode("Film. Film, unfilm").tokens
    assert tokens[:4] == ["▁film", ".", "▁film", ","]


def test_half_of_a_small_vocabulary_are_characters() -> None:
    tokenizer = train_tokenizer("bpe", [text for text, _ in CHINESE], 20)
    characters = [token for token in tokenizer.get_vocab() if len(token) == 1]
    assert len(characters) == (20 - len(SPECIAL)) // 2


@pytest.mark.parametrize("name", ["bpe", "char"])
def test_chinese_is_cut_into_its_words_or_characters(name: TokenizerName) -> None:
    reviews = [text for text, _ in CHINESE]
    tokenizer = train_tokenizer(name, reviews, None)
    assert all(1 not in ids for ids in encode(tokenizer, reviews))
    tokens = tokenizer.encode("早餐非常好，我们住了三天。").tokens
    if name == "char":
        assert tokens == list("早餐非常好，我们住了三天。")
    else:
        assert 3 <= len(tokens) < 13
    # Words that training never saw side by side are still read.
    assert 1 not in tokenizer.encode("前台太差了").ids


def test_a_chinese_vocabulary_leaves_room_for_words() -> None:
    reviews = [text for text, _ in CHINESE]
    tokenizer = train_tokenizer("bpe", reviews, 40)
    words = [token for token in tokenizer.get_vocab() if token not in SPECIAL]
    assert tokenizer.get_vocab_size() <= 40
    assert sum(len(word.strip("▁")) > 1 for word in words) >= 10


@settings(max_examples=40)
@given(
    rows=st.lists(
        st.text(st.characters(exclude_categories=("Cs",)), min_size=1), min_size=1, max_size=20
    ),
    name=st.sampled_from(["bpe", "word", "char"]),
    size=st.sampled_from([None, 3, 10, 60]),
)
def test_whatever_a_text_holds_it_has_tokens_of_the_vocabulary(
    rows: list[str], name: TokenizerName, size: int | None
) -> None:
    tokenizer = train_tokenizer(name, rows, size)
    assert tokenizer.get_vocab_size() <= (size or 8000)
    for ids in encode(tokenizer, [*rows, "something else", "\u200b"]):
        assert ids
        assert all(1 <= token < tokenizer.get_vocab_size() for token in ids)


@pytest.mark.parametrize("name", ["bpe", "word", "char"])
@pytest.mark.parametrize("size", [20, 60, None])
def test_the_same_texts_give_the_same_tokenizer(name: TokenizerName, size: int | None) -> None:
    """Ties included: two workers must give a token the same id."""
    rows = [text for text, _ in [*ROWS, *CHINESE]]
    made = {train_tokenizer(name, rows, size).to_str() for _ in range(8)}
    assert len(made) == 1


def test_lines_of_a_text_are_separated_as_words_are() -> None:
    tokenizer = train_tokenizer("bpe", ["film\n\tfilm film"] * 2, None)
    assert tokenizer.encode("film\n\tfilm film ").tokens == ["▁film"] * 3


# --- the dataset ---


def test_a_row_is_its_tokens_zero_behind_its_length(films: Path) -> None:
    data = load(films, tokenizer="word")
    assert data.train.batch().values.dtype == torch.int64
    behind = torch.arange(data.train.batch().values.shape[1]) >= data.train.lengths[:, None]
    assert (data.train.batch().values[behind] == 0).all()
    assert (data.train.batch().values[~behind] >= 1).all()
    assert (data.channels, data.outputs) == (0, 2)
    for text, target in zip(texts(data, data.train), data.train.targets, strict=True):
        assert bool(set(text.split()) & set(GOOD)) == (data.classes[target] == "good")


def test_labels_are_ordered_and_balanced_and_the_majority_is_told(films: Path) -> None:
    data = load(films, test=0.25, class_weights="balanced")
    assert data.classes == ("bad", "good")
    assert data.baselines == {"majority class": 0.5}
    assert data.class_weights is not None
    torch.testing.assert_close(data.class_weights, torch.ones(2))
    assert data.test is not None
    assert [len(split) for split in (data.train, data.validation, data.test)] == [48, 12, 20]


def test_rare_classes_weigh_more(tmp_path: Path) -> None:
    rows = [(f"common words number {row % 40}{row}", "common") for row in range(90)]
    write(tmp_path, "train.csv", [*rows, *((f"rare words {row}", "rare") for row in range(10))])
    weights = load(tmp_path, class_weights="balanced").class_weights
    assert weights is not None
    # 80 training rows, of which 72 and 8.
    torch.testing.assert_close(weights, torch.tensor([80 / (2 * 72), 80 / (2 * 8)]))


def test_a_number_may_be_predicted_for_a_text(tmp_path: Path) -> None:
    rows = [(text, (label == "good") * 4 + 1) for text, label in ROWS]
    write(tmp_path, "train.csv", rows, "text", "target")
    data = load(tmp_path, task="regression")
    assert data.train.units is not None
    assert (data.outputs, data.classes) == (1, ())
    restored = data.train.units.restore(data.train.targets)
    assert sorted(set(restored.flatten().tolist())) == pytest.approx([1.0, 5.0])


@pytest.mark.parametrize("tokenizer", ["bpe", "char"])
def test_chinese_reviews_make_a_dataset(tmp_path: Path, tokenizer: str) -> None:
    write(tmp_path, "train.csv", CHINESE)
    data = load(tmp_path, tokenizer=tokenizer)
    assert data.vocabulary > 20
    assert int(data.train.lengths.min()) > 1
    assert len(data.train) + len(data.validation) == len(CHINESE)


# --- limits ---


def test_long_texts_are_cut_where_nearly_all_have_ended(tmp_path: Path) -> None:
    rows = [(f"word word {row}", "ab"[row % 2]) for row in range(400)]
    write(tmp_path, "train.csv", [*rows, ("word " * 900, "a"), ("word " * 901, "b")])
    data = load(tmp_path, tokenizer="word", validation=0.1)
    assert data.train.batch().values.shape[1] <= 3


def test_a_limit_is_kept(films: Path) -> None:
    data = load(films, tokenizer="word", max_tokens=2, vocabulary=6)
    assert data.train.batch().values.shape[1] == int(data.train.lengths.max()) == 2
    assert data.vocabulary == 6
    assert int(data.train.batch().values.max()) == 5
    assert data.preprocessing["max_tokens"] == 2


@pytest.mark.parametrize("limits", [[2, 4], {"low": 2, "high": 4}])
def test_limits_to_be_searched_leave_rows_as_long_as_the_longest(films: Path, limits: Any) -> None:
    data = load(films, tokenizer="word", max_tokens=limits)
    assert data.train.batch().values.shape[1] == 4
    assert data.train.cut(2).lengths.tolist() == [2] * len(data.train)
    assert next(data.train.cut(2).batches(8)).values.shape == (8, 2)


# --- equal texts ---


def test_equal_texts_are_kept_once_whatever_the_white_space(tmp_path: Path) -> None:
    copies = [(f"  {text.replace(' ', '  ')}\n", label) for text, label in ROWS[:10]]
    write(tmp_path, "train.csv", ROWS + copies)
    data = load(tmp_path)
    assert len(data.train) + len(data.validation) == len(ROWS)
    assert data.dropped == {"duplicates": 10, "contradictions": 0, "in another part": 0}


def test_a_text_of_two_labels_is_dropped_whole(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", [*ROWS, ("so so", "good"), ("so so", "bad"), ("so  so", "bad")])
    data = load(tmp_path)
    assert data.dropped["contradictions"] == 3
    assert len(data.train) + len(data.validation) == len(ROWS)


def test_what_is_tested_is_not_trained_on(films: Path) -> None:
    write(films, "test.csv", ROWS[:6])
    data = load(films, test="test.csv")
    assert data.test is not None
    assert len(data.test) == 6
    assert data.dropped["in another part"] == 6
    assert len(data.train) + len(data.validation) == len(ROWS) - 6


def test_duplicates_stay_if_asked_for(films: Path) -> None:
    write(films, "train.csv", ROWS + ROWS)
    data = load(films, deduplicate=False)
    assert len(data.train) + len(data.validation) == 2 * len(ROWS)
    assert data.dropped == {}


# --- leaks ---


def test_held_out_texts_change_neither_tokens_nor_tokenizer(films: Path) -> None:
    write(films, "test.csv", ROWS[:4])
    before = load(films, test="test.csv", deduplicate=False)
    write(films, "test.csv", [("全新的词 of words of words", "good")] * 4)
    after = load(films, test="test.csv", deduplicate=False)
    assert torch.equal(before.train.batch().values, after.train.batch().values)
    assert before.preprocessing == after.preprocessing
    assert before.fingerprint != after.fingerprint
    assert after.test is not None
    assert 1 in after.test.batch().values


def test_a_fraction_held_out_changes_nothing_that_training_sees(films: Path) -> None:
    """The held-out rows are found, rewritten in their place, and nothing learned moves."""
    plain = load(films, tokenizer="char", test=0.2)
    held_out = set(texts(plain, plain.test) + texts(plain, plain.validation))
    shown = {text: " ".join(tokenizer_of(plain).encode(text).tokens) for text, _ in ROWS}
    rewritten = [
        (f"other {row} words" if shown[text] in held_out else text, label)
        for row, (text, label) in enumerate(ROWS)
    ]
    assert sum(text.startswith("other") for text, _ in rewritten) == len(held_out) > 0
    write(films, "train.csv", rewritten)
    again = load(films, tokenizer="char", test=0.2)
    assert torch.equal(plain.train.batch().values, again.train.batch().values)
    assert plain.preprocessing == again.preprocessing


def test_folds_validate_every_row_once_and_share_the_test(films: Path) -> None:
    content = {
        "name": "x",
        "data": {
            "train": "train.csv",
            "text": "text",
            "label": "label",
            "tokenizer": "char",
            "test": 0.2,
            "folds": 4,
        },
    }
    folds = load_folds(study_file.parse(content, source="x.toml"), films)
    validated = [text for fold in folds for text in texts(fold, fold.validation)]
    assert len(validated) == len(set(validated)) == 64
    for fold in folds:
        assert len(fold.train) == 48
        assert not set(texts(fold, fold.train)) & set(texts(fold, fold.validation))
        assert fold.test is not None
        assert folds[0].test is not None
        assert fold.test.targets.tolist() == folds[0].test.targets.tolist()


# --- data that can't be trained on ---


def test_an_empty_text_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", [("a", "x"), ("  ", "y")])
    assert refusal(tmp_path) == (
        'train.csv, line 3: column "text" is empty. Fill it in, or remove the row.'
    )


def test_a_column_that_is_not_there_is_answered_with_the_nearest(films: Path) -> None:
    assert 'no column "txt". Did you mean "text"?' in refusal(films, text="txt")
    assert 'no column "lable". Did you mean "label"?' in refusal(films, label="lable")


def test_a_label_that_training_never_saw_is_named_with_its_line(films: Path) -> None:
    write(films, "test.csv", [("fine", "good"), ("meh", "neutral")])
    assert refusal(films, test="test.csv").startswith(
        'test.csv, line 3: label "neutral" is not in the training data (train.csv).'
    )


def test_one_class_is_too_few(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", [(text, "x") for text, _ in ROWS])
    assert 'only one class, "x", in 80 rows' in refusal(tmp_path)


def test_texts_that_share_no_token_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "train.csv", [(f"w{row}", "ab"[row % 2]) for row in range(10)])
    assert "no word token occurs twice" in refusal(tmp_path, tokenizer="word")


def test_a_file_of_nothing_but_test_rows_is_refused(films: Path) -> None:
    write(films, "test.csv", ROWS)
    assert "train.csv: every row contradicts another, or is also in another part" in refusal(
        films, test="test.csv"
    )


# --- real texts ---


@pytest.mark.skipif(not MOVIES.exists(), reason="the sentences are in the repository only")
def test_the_movie_study_loads() -> None:
    study = study_file.load(REPOSITORY / "studies" / "movie-snippets.toml")
    data = load_dataset(study, REPOSITORY / "studies")
    assert len(data.train) + len(data.validation) + len(data.test or ()) == 10566
    assert data.baselines["majority class"] == pytest.approx(0.504, abs=0.001)
    unknown = (data.validation.batch().values == 1).sum() / data.validation.lengths.sum()
    assert float(unknown) < 0.001
