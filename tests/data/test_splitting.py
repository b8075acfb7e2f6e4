"""Rows are split, and channels measured, as by scikit-learn, which is the oracle here."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from gru_optuna.data.sequences.scaler import measure_channels
from gru_optuna.data.splitting import draw_halves

SEEDS = st.integers(0, 2**32 - 1)


@given(st.integers(2, 300), st.floats(0, 1), SEEDS)
def test_rows_are_held_out_as_by_train_test_split(count: int, share: float, seed: int) -> None:
    held_out = min(max(1, round(share * count)), count - 1)

    halves = draw_halves(count, held_out, None, seed)

    expected = train_test_split(np.arange(count), test_size=held_out, random_state=seed)
    for half, wanted in zip(halves, expected, strict=True):
        assert_array_equal(half, wanted)


@given(st.lists(st.integers(2, 60), min_size=1, max_size=12), st.floats(0, 1), SEEDS)
def test_each_class_gets_its_share_as_by_train_test_split(
    sizes: list[int], share: float, seed: int
) -> None:
    strata = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    held_out = min(max(len(sizes), round(share * len(strata))), len(strata) - len(sizes))

    halves = draw_halves(len(strata), held_out, strata, seed)

    expected = train_test_split(
        np.arange(len(strata)), test_size=held_out, stratify=strata, random_state=seed
    )
    for half, wanted in zip(halves, expected, strict=True):
        assert_array_equal(half, wanted)


@given(
    st.integers(1, 500),
    st.lists(
        st.tuples(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1e-9, 1.0, 1e5])),
        min_size=1,
        max_size=5,
    ),
    SEEDS,
)
def test_channels_are_measured_as_by_standard_scaler(
    count: int, channels: list[tuple[float, float]], seed: int
) -> None:
    noise = np.random.default_rng(seed).standard_normal((count, len(channels)))
    steps = np.array([mean for mean, _ in channels]) + noise * [spread for _, spread in channels]

    means, deviations = measure_channels(steps)

    scaler = StandardScaler().fit(steps)
    assert_array_equal(means, scaler.mean_)
    assert_array_equal(deviations, scaler.scale_)
