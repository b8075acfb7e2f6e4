"""TOML that is written has the content that is read back."""

from __future__ import annotations

import pytest
from helpers.workspaces import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

from gru_optuna.toml import parse_toml, write_toml

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.dates()
    | st.datetimes()
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=5
)


@given(st.dictionaries(texts, values))
def test_what_is_written_is_read_back(content) -> None:
    assert parse_toml(write_toml(content)) == content


@pytest.mark.parametrize("file", sorted((REPOSITORY / "studies").glob("*.toml")), ids=str)
def test_a_study_file_keeps_its_content(file) -> None:
    content = parse_toml(file.read_text())
    assert parse_toml(write_toml(content)) == content
