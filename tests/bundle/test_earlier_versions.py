"""Bundles that version 0.1.0 exported open, and predict what it predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import gru_optuna
from gru_optuna.bundle.output import writing

# Each holds a bundle, rows, and the predictions that version 0.1.0 wrote for them.
ASSETS = sorted(path for path in (Path(__file__).parent / "assets").iterdir() if path.is_dir())


@pytest.mark.parametrize("asset", ASSETS, ids=lambda path: path.name)
def test_a_bundle_of_version_0_1_predicts_as_it_did(asset: Path, tmp_path: Path) -> None:
    bundle = gru_optuna.load_bundle(asset / "bundle")
    assert bundle.manifest.versions["gru-optuna"] == "0.1.0"
    (rows,) = asset.glob("rows.*")
    with writing(tmp_path / "predictions.csv") as writer:
        writer.write(bundle.predict_frame(rows))
    got, expected = (
        pl.read_csv(folder / "predictions.csv", schema_overrides={"id": pl.String})
        for folder in (tmp_path, asset)
    )
    assert got.columns == expected.columns
    for name in expected.columns:
        if expected[name].dtype.is_float():
            # Equal on the processor that wrote them; others may round the last digits differently.
            np.testing.assert_allclose(got[name], expected[name], rtol=1e-5)
        else:
            assert got[name].to_list() == expected[name].to_list()


def test_a_searched_vocabulary_of_version_0_1_is_the_winners() -> None:
    """Its study file lists two sizes, which no study may any more; the trial had one of them."""
    bundle = gru_optuna.load_bundle(Path(__file__).parent / "assets/texts-vocabularies/bundle")
    assert bundle.spec.data.vocabulary == [60, 120]
    assert bundle.networks[0].network.vocabulary == 60
    assert bundle.manifest.format == 2
