"""Random streams: addressed by seed, purpose and index, and shared by nothing else."""

from __future__ import annotations

from typing import get_args

import numpy as np
import torch

from gru_optuna import seeds
from gru_optuna.seeds import Purpose

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
ADDRESSES = [
    (seed, purpose, index) for seed in range(20) for purpose in PURPOSES for index in range(20)
]


def test_the_same_address_gives_the_same_stream() -> None:
    first = torch.rand(10, generator=seeds.generator(7, "dropout", 3))
    again = torch.rand(10, generator=seeds.generator(7, "dropout", 3))
    assert torch.equal(first, again)


def test_seed_purpose_and_index_each_lead_to_another_stream() -> None:
    assert len({seeds.seed_for(*address) for address in ADDRESSES}) == len(ADDRESSES)


def test_every_trial_has_its_own_seed_in_every_study() -> None:
    drawn = {seeds.trial_seed(study, number) for study in range(50) for number in range(100)}
    assert len(drawn) == 50 * 100


def test_no_trial_has_the_seed_of_a_purpose_of_its_study() -> None:
    trials = {seeds.trial_seed(study, number) for study in range(20) for number in range(20)}
    assert not trials & {seeds.seed_for(*address) for address in ADDRESSES}


def test_seeds_fit_a_signed_integer_of_64_bits_and_use_all_of_it() -> None:
    drawn = [seeds.trial_seed(0, number) for number in range(2000)]
    assert min(drawn) >= 0
    assert 2**62 < max(drawn) < 2**63
    # Some libraries take the lower 32 bits only.
    assert len({seed % 2**32 for seed in drawn}) == 2000


def test_seeds_never_change_from_release_to_release() -> None:
    # A study that goes on under a newer release must go on with the same numbers.
    assert seeds.seed_for(0, "split") == 8514611595135926838
    assert seeds.seed_for(1, "dropout", 7) == 4012950680046541091
    assert seeds.seed_for(1, "augment", 7) == 9079653791226695313


def test_neighbouring_trials_share_half_of_their_bits_as_chance_would() -> None:
    drawn = np.array([seeds.trial_seed(0, number) for number in range(2001)])
    differing = np.bitwise_count(drawn[1:] ^ drawn[:-1])
    # 63 bits, each differing with probability 1/2: mean 31.5, deviation 4.0 (0.09 of the mean).
    assert abs(differing.mean() - 31.5) < 0.3
    assert abs(differing.std() - np.sqrt(63) / 2) < 0.2


def test_first_draws_of_neighbouring_trials_are_uncorrelated() -> None:
    first = torch.tensor(
        [
            torch.rand((), generator=seeds.generator(seeds.trial_seed(0, n), "initializer")).item()
            for n in range(2001)
        ],
        dtype=torch.float64,
    )
    assert abs(torch.corrcoef(torch.stack([first[1:], first[:-1]]))[0, 1]) < 0.08
    assert abs(first.mean() - 0.5) < 0.03
