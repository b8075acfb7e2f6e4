"""A report of as many trials as anybody makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from helpers.browser import opens_at_once

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helpers.browser import Seen

pytestmark = pytest.mark.soak


def test_ten_thousand_trials_open_at_once(visit: Callable[..., Seen], tmp_path: Path) -> None:
    opens_at_once(visit, tmp_path, 10_000)
