"""Optuna's own test cases for storages, on ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from optuna.testing.pytest_storages import StorageTestCase

from gru_optuna.storage.database.open import open_storage

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

pytestmark = pytest.mark.soak


class TestOpenedStorage(StorageTestCase):
    """What `open_storage` returns is a storage of Optuna's in every respect."""

    @pytest.fixture
    def storage(self, database_url: str) -> BaseStorage:
        """A new database."""
        return open_storage(database_url, create=True)
