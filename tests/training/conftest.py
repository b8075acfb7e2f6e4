"""The study and the rows of the tests of pools; files may have fixtures of these names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from helpers.pools import CPU, make_spec, some_vowels

if TYPE_CHECKING:
    from gru_optuna.data.dataset import Dataset
    from gru_optuna.study_file import Specification


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Specification:
    return make_spec(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def vowels(spec: Specification) -> Dataset:
    return some_vowels(spec)


@pytest.fixture(scope="module")
def single(vowels: Dataset) -> Dataset:
    return vowels.to(CPU, torch.float32)
