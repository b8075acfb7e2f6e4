"""Values, durations and lists have one form each, wherever people read them."""

from __future__ import annotations

import pytest

from gru_optuna.formatting import (
    format_duration,
    format_estimate,
    format_interval,
    format_list,
    format_metric,
    format_rate,
    format_value,
    visible,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.98148, "0.9815"),
        (1, "1.0000"),
        (0.0, "0.0000"),
        (-0.25, "-0.2500"),
        (9.99999, "10.000"),
        (194.612, "194.61"),
        (99_999.9, "100000"),
        (1_234_567.8, "1234568"),
        (0.00123, "0.0012"),
        (0.000_31, "0.00031"),
        (0.000_031_249, "3.12e-5"),
        (float("inf"), "inf"),
        (None, "–"),
    ],
)
def test_a_metric(value: float | None, text: str) -> None:
    assert format_metric(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00600524, "0.006005"),
        (0.5, "0.5"),
        (0.0, "0"),
        (0.00003, "3e-5"),
        (0.000_123_456, "1.235e-4"),
        (20_000.0, "20000"),
        (2_500_000.0, "2.5e6"),
        (128, "128"),
        (1_000_000, "1000000"),
        (True, "true"),
        ("Adam", "Adam"),
        (None, "–"),
    ],
)
def test_the_value_of_a_hyperparameter(value: object, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.418, "0.42 s"),
        (7, "7 s"),
        (9.97, "10 s"),
        (59.6, "1 min"),
        (73.2, "1 min 13 s"),
        (200, "3 min 20 s"),
        (720, "12 min"),
        (7300, "2 h 1 min"),
        (100_000, "27 h 46 min"),
        (180_000, "2 days 2 h"),
    ],
)
def test_a_measured_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3, "a few seconds"),
        (6, "about 10 s"),
        (47, "about 50 s"),
        (58, "about 1 min"),
        (500, "about 8 min"),
        (7200, "about 2 h"),
        (30_000, "about 8 h 20 min"),
    ],
)
def test_an_estimated_duration_is_no_finer_than_it_is_known(seconds: float, text: str) -> None:
    assert format_estimate(seconds) == text


def test_a_rate() -> None:
    assert [format_rate(rate) for rate in (149.3, 4.26, 0.031)] == ["149", "4.3", "0.031"]


def test_an_interval() -> None:
    assert format_interval((0.98, 0.99157)) == "0.9800 to 0.9916"
    assert format_interval([191.2, 201.8], "{:.0f}".format) == "191 to 202"


def test_a_list() -> None:
    assert [format_list(parts) for parts in ("", "a", "ab", "abc")] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert format_list(range(4), most=3) == "0, 1 and 2 more"
    assert format_list(range(3), most=3) == "0, 1 and 2"
    assert format_list(range(9), most=3, last=", ") == "0, 1, 7 more"


def test_no_character_commands_a_terminal_or_turns_text_around() -> None:
    hidden = "\x00\x07\x1b\x7f\x80\x9b\x9f\u061c\u200e\u200f\u2028\u202a\u202e\u2066\u2069\ufeff"
    assert visible(hidden) == "".join(f"\\u{ord(character):04x}" for character in hidden)
    assert visible("a\n\tb é 文 –") == "a\n\tb é 文 –"
