"""What is wrong with the times of a table: doubled, out of order, missing, of another calendar."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import chain, combinations
from typing import TYPE_CHECKING

import polars as pl

from gru_optuna.data.readers.time_columns import parse_columns
from gru_optuna.inspection.findings import DataFinding, number_of, plain_names
from gru_optuna.inspection.role_words import name_speaks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gru_optuna.data.readers.tables import Table
    from gru_optuna.inspection.roles import Roles
    from gru_optuna.inspection.time_column import TimeColumn

_SOON = timedelta(days=366)  # planned values may lie ahead
_BUDDHIST = ("2443", "2650")  # years: 1900 to 2107 of the Common Era
_PERSIAN = ("1250", "1500")  # also those of the Islamic calendar, today about 50 years ahead
_MOSTLY_COUNTED = 0.9  # of the times have rows that the column counts
_PAIRED = 6  # columns of which two may name the series together
_FEWER = 0.2  # of the doubled rows stay so, if a column nearly tells the series apart
_TURNS = 10  # rows of each series that take turns
_COUNT = "\x1f"  # the name of a column of our own, which no file has


def in_time(table: Table, clock: TimeColumn, roles: Roles) -> Iterator[DataFinding]:
    """Times that are doubled, out of order, missing, or of another calendar."""
    name = next(iter(roles.times), clock.column)
    if clock.first_doubled is not None:
        message = (
            f"{number_of(clock.doubled, 'row repeats', 'rows repeat')} an earlier time, the first "
            f"at {table.at(clock.first_doubled)}: {_about_doubled(table, clock, roles)}"
        )
        yield DataFinding("time", table.source, message, name, blocks=True)
    if clock.first_unordered is not None:
        advice = f"sort the rows by {name}"
        if _have_changed_places(table, roles):
            advice = (
                "days and months have changed places where the day is 12 or less, as spreadsheets "
                "do when they read dates of another country: write the dates anew from their source"
            )
        message = (
            f"{number_of(clock.unordered, 'row is', 'rows are')} earlier than the row above, the "
            f"first at {table.at(clock.first_unordered)}: {advice}"
        )
        yield DataFinding("time", table.source, message, name, blocks=True)
    if roles.series is None and (named := _takes_turns(table, roles)) is not None:
        message = (
            f'"{named}" takes turns with the times, so each of its values may be a series of its '
            f"own: then add --series {named}"
        )
        yield DataFinding("time", table.source, message, named)
    if clock.missing:
        message = (
            f"{number_of(clock.missing, 'step has', 'steps have')} no row, at {clock.step} per "
            f"step; the first follows {clock.first_gap}"
        )
        yield DataFinding("time", table.source, message, name)
    for message in _about_calendar(table, clock, roles, name):
        yield DataFinding("time", table.source, message, name)
    if clock.step is None and clock.steps > 2:
        message = f"the times in {name} have no regular step"
        yield DataFinding("time", table.source, message, name)


def _about_doubled(table: Table, clock: TimeColumn, roles: Roles) -> str:
    """What to do about rows at the same time."""
    if clock.clocks_back is not None:
        return (
            f"it looks like the end of daylight saving time, when clocks go back and show an "
            f"hour twice, as in {clock.clocks_back}: write the times in UTC or with their "
            f"offsets, such as +02:00"
        )
    if (counted := _counted_within(table, roles)) is not None:
        return (
            f'"{counted}" numbers the rows of each time: if it counts steps, add it to the '
            f"times; if it names series, add --series {counted}"
        )
    if _lack_halves_of_the_day(table, roles):
        return "no hour is 0 or above 12, so AM and PM are missing: write hours from 0 to 23"
    return _about_series(table, clock, roles)


def _about_series(table: Table, clock: TimeColumn, roles: Roles) -> str:
    """Which columns tell apart the rows at the same time."""
    if len(names := _names_of_series(table, roles)) == 1:
        return f"{names[0]} seems to name the series: add --series {names[0]}"
    if names:
        return (
            f"{names[0]} and {names[1]} seem to name the series together: join them in one "
            f"column, and name it with --series"
        )
    if (almost := _nearly_names_series(table, roles, clock.doubled)) is not None:
        return (
            f"{almost[0]} seems to name the series, but then {almost[1]:,} rows still repeat "
            f"a time: keep one row for each time of a series, and add --series {almost[0]}"
        )
    or_else = "" if clock.series > 1 else ", or name the column of the series"
    return f"keep one row for each time{or_else}"


def _about_calendar(table: Table, clock: TimeColumn, roles: Roles, name: str) -> Iterator[str]:
    """What looks as if times were counted from another day, or were of another calendar."""
    if clock.last > f"{datetime.now(UTC) + _SOON:%Y-%m-%d}" and _are_counted(table, roles):
        yield (
            f"read as counted from 1970, {name} reaches {clock.last}: if it counts from another "
            f"day, as SAS and Stata do from 1960, write dates"
        )
    if clock.counted and name_speaks(name, "date"):
        yield (
            f"{name} is read as numbers of steps, without a calendar: if these are dates, write "
            f"them as 2024-12-31"
        )
    if clock.counted:
        return
    if _BUDDHIST[0] <= clock.first <= clock.last <= _BUDDHIST[1]:
        yield (
            f"the years of {name} look like those of the Buddhist calendar: subtract 543, or leap "
            f"days and weekdays are wrong"
        )
    within_years = clock.step is not None and "year" not in clock.step
    if within_years and _PERSIAN[0] <= clock.first <= clock.last <= _PERSIAN[1]:
        yield (
            f"the years of {name} look like those of the Persian or the Islamic calendar: write "
            f"Gregorian dates, or months and weekdays are wrong"
        )


def _are_counted(table: Table, roles: Roles) -> bool:
    """Whether the times are numbers counted from 1970."""
    columns = [table.time_column(name) for name in roles.times]
    return any(form.reads.startswith("epoch") for form in parse_columns(columns).forms)


def _counted_within(table: Table, roles: Roles) -> str | None:
    """A column that counts the rows of each time, such as the half-hours of a day."""
    if roles.series is not None:
        return None
    rows = table.frame.select(roles.times)
    for name in plain_names(table):
        taken = name in ("", roles.target, *roles.times) or name_speaks(name, "id")
        if taken or table.count_numbers(name)[1]:
            continue
        counted = rows.with_columns(pl.Series(_COUNT, table.numbers(name)))
        last, rise = (
            counted.group_by(roles.times)
            .agg(
                pl.col(_COUNT).max().alias("last"),
                (pl.col(_COUNT).diff().drop_nulls() == 1).all().alias("rise"),
            )
            .select(pl.col("last").max(), pl.col("rise").mean())
            .row(0)
        )
        if last > 1 and rise > _MOSTLY_COUNTED:
            return name
    return None


def _have_changed_places(table: Table, roles: Roles) -> bool:
    """Whether the rows are in order once day and month change places, where both can."""
    times = pl.Series("time", table.times(*roles.times))
    frame = pl.DataFrame([times, _owner(table, roles)])
    day, month = pl.col("time").dt.day(), pl.col("time").dt.month()
    changed = pl.datetime(pl.col("time").dt.year(), day, month) + (
        pl.col("time") - pl.col("time").dt.truncate("1d")
    )
    frame = frame.with_columns(pl.when(day <= 12).then(changed).otherwise("time").alias("time"))
    steps = frame.select(pl.col("time").diff().over("owner").drop_nulls()).to_series()
    return bool((steps >= timedelta(0)).all() or (steps <= timedelta(0)).all())


def _lack_halves_of_the_day(table: Table, roles: Roles) -> bool:
    """Whether the hours are those of a clock of twelve hours, and all of them occur."""
    hours = pl.Series(values=table.times(*roles.times)).dt.hour()
    return set(hours.unique()) == set(range(1, 13))


def _owner(table: Table, roles: Roles) -> pl.Series:
    """The series of each row (N,)."""
    if roles.series is None:
        return pl.repeat("", len(table), eager=True).alias("owner")
    return table.strings(roles.series).alias("owner")


def _takes_turns(table: Table, roles: Roles) -> str | None:
    """A column of words whose values alternate in rows at even steps, as two sensors may."""
    times = pl.Series("time", table.times(*roles.times))
    usual = times.sort().diff().drop_nulls().mode(maintain_order=True)[0]
    for name in plain_names(table):
        if name in ("", roles.target, *roles.times) or name_speaks(name, "calendar"):
            continue
        values = table.strings(name).alias("owner")
        if table.count_numbers(name)[0] or values.null_count() or values.n_unique() < 2:
            continue
        steps = (
            pl.DataFrame([times, values])
            .sort("time")
            .group_by("owner")
            .agg(
                pl.col("time").diff().drop_nulls().min().alias("least"),
                pl.col("time").diff().drop_nulls().max().alias("most"),
                pl.len().alias("rows"),
            )
        )
        even = (steps["least"] == steps["most"]).all() and (steps["least"] > usual).all()
        if even and steps["least"].n_unique() == 1 and (steps["rows"] >= _TURNS).all():
            return name
    return None


def _may_name_series(table: Table, roles: Roles) -> list[str]:
    """Columns of a few values that are neither the target nor parts of times."""
    taken = ("", roles.target, *roles.times)
    return [
        name
        for name in plain_names(table)
        if name not in taken and 1 < table.strings(name).n_unique() <= len(table) / 4
        if name_speaks(name, "id")
        or not (name_speaks(name, "calendar") or name_speaks(name, "time"))
        if roles.series in (None, name) or table.frame[name].dtype == pl.String
    ]


def _nearly_names_series(table: Table, roles: Roles, doubled: int) -> tuple[str, int] | None:
    """The column of names that leaves the fewest rows at a time of theirs, and their number."""
    left = {
        name: len(table) - table.frame.select(name, *roles.times).n_unique()
        for name in _may_name_series(table, roles)
        if name != roles.series and (name_speaks(name, "id") or not table.count_numbers(name)[0])
    }
    best = min(left, key=lambda name: left[name], default=None)
    return None if best is None or left[best] > _FEWER * doubled else (best, left[best])


def _names_of_series(table: Table, roles: Roles) -> tuple[str, ...]:
    """The column, or else the two columns, that distinguish the rows of each time; may be empty."""
    names = _may_name_series(table, roles)[:_PAIRED]
    for found in chain(combinations(names, 1), combinations(names, 2)):
        if not table.frame.select(*found, *roles.times).is_duplicated().any():
            return found
    return ()
