"""Forecasts of the steps after the newest rows, by the winner trained again on all rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from gru_optuna.attributes import FUTURE
from gru_optuna.bundle.rows import CHUNK, read_rows, series_of_tables
from gru_optuna.data.readers.in_memory import open_table
from gru_optuna.data.series.encoder import SeriesEncoder
from gru_optuna.errors import UserError
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.predictions import ForecastSeries, describe_future, stored_predictions
from gru_optuna.study.study import load_study
from gru_optuna.study.summary import summarize
from gru_optuna.tuning.export import make_winner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from threading import Event

    from optuna import Study

    from gru_optuna.bundle.rows import RowsToPredict
    from gru_optuna.data.series.series import Series
    from gru_optuna.tuning.confirm import Place


def make_forecast(
    name: str, place: Place, stop: Event, *, rows: Path | None = None, steps: int | None = None
) -> pl.DataFrame:
    """The winner's forecasts of the steps after the newest rows, for every series.

    Parameters
    ----------
    name
        The study's name.
    place
        Where the study is.
    stop
        Set it to leave.
    rows
        A file of the rows up to the present, and of what is known of the steps ahead; None: the
        study's own rows.
    steps
        How many steps ahead; None: the study's horizon.

    Returns
    -------
    polars.DataFrame
        A row for each step: the series' name, its time, ``prediction``, and if the winner is
        confirmed and there are enough validation rows, ``low_80``, ``high_80``, ``low_95`` and
        ``high_95``.

    Raises
    ------
    UserError
        If the study doesn't forecast or has no winner, its data aren't there, or `steps` is more
        than its horizon.
    Abandoned
        If `stop` was set.
    """
    study, spec = load_study(open_storage(place.url), name)
    horizon = spec.data.horizon
    if spec.task != "forecasting" or horizon is None:
        raise UserError(
            f'study "{name}" is for {spec.task}, so it has no future to forecast. '
            f"Try: gru-optuna export {name}."
        )
    if steps is not None and steps > horizon:
        raise UserError(
            f'study "{name}" forecasts {horizon} steps at once, and {steps} were asked for. Tune a '
            f"study with horizon = {steps} under [data]."
        )
    winner = summarize(study, spec).best
    bundle = make_winner(name, place, stop, refit=True)
    encoder = bundle.encoder
    assert isinstance(encoder, SeriesEncoder)
    frames: list[pl.DataFrame] = []
    observed: list[Series] = []
    for part in _rows(encoder, place.folder, rows):
        observed += part.rows
        frame = bundle.predict_rows(part, bundle.levels)
        frames.append(frame.filter(pl.int_range(pl.len()) % horizon < (steps or horizon)))
    forecasts = pl.concat(frames)
    if winner is not None:
        _keep(study, winner.number, observed, forecasts, encoder)
    return forecasts


def _keep(
    study: Study,
    number: int,
    observed: list[Series],
    forecasts: pl.DataFrame,
    encoder: SeriesEncoder,
) -> None:
    """Keeps some of the forecasts for the report, which draws them."""
    kept = stored_predictions(study, number) or {}
    shown = (kept.get("test") or kept.get("validation") or {}).get("forecast", {})
    names = [stretch["name"] for stretch in shown.get("stretches", ()) if "name" in stretch]
    about = ForecastSeries(list(encoder.scales), encoder.plan.frequency)
    future = describe_future(observed, forecasts, about, names)
    study.set_user_attr(FUTURE, {"number": number, **future})


def _rows(encoder: SeriesEncoder, folder: Path, file: Path | None) -> Iterator[RowsToPredict]:
    if file is not None:
        yield from (rows for rows, _ in read_rows(file, encoder))
        return
    data = encoder.data
    files = (data.train, data.validation, data.test)
    tables = [open_table(folder, f, encoder.formats) for f in files if isinstance(f, str)]
    rows = series_of_tables(tables, encoder)
    for start in range(0, len(rows), CHUNK):
        yield rows.part(start, start + CHUNK)
