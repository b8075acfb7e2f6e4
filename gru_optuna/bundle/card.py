"""The model card of a bundle, in Markdown (Mitchell et al. 2019, "Model Cards")."""

from __future__ import annotations

import html
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gru_optuna.baselines.lag_ridge import LagRidgeModel
from gru_optuna.data.series.encoder import SeriesEncoder
from gru_optuna.formatting import format_list, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gru_optuna.bundle.bundle import Bundle
    from gru_optuna.bundle.manifest import LinearMember
    from gru_optuna.study.calibration import Calibration
    from gru_optuna.study.confirmation import Decision

_ROWS = {"texts": "texts", "sequences": "sequences of numbers", "series": "series over time"}
_LABELS = 20  # named in the card


class _Line(NamedTuple):
    """One line of the table of metrics."""

    name: str
    value: float
    interval: list[float] | None = None
    note: str = ""


def model_card(bundle: Bundle) -> str:
    """What the model is, how good it is, and how to use it."""
    import jinja2  # heavy: predictions don't need it

    template = Path(__file__).with_name("card.md").read_text(encoding="utf-8")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701 (no HTML)
    environment.filters |= {
        "text": lambda value: _as_text(str(value)),
        "code": lambda value: _as_code(str(value)),
    }
    count, labels = len(bundle.networks), bundle.labels
    more = f" and {len(labels) - _LABELS} more" if len(labels) > _LABELS else ""
    data = bundle.spec.data
    trained_on = "the training"
    if bundle.manifest.refitted:
        trained_on = "all" if bundle.kind == "series" else "the training and validation"
    return environment.from_string(template).render(
        trained_on=trained_on,
        manifest=bundle.manifest,
        spec=bundle.spec,
        rows=_ROWS[bundle.kind],
        networks=_members(count, bundle.manifest.linear),
        reads=_reads(bundle),
        metrics=list(_lines(bundle.manifest.metrics)),
        calibration=str(bundle.manifest.metrics.get("calibration", "")),
        compared=" ".join(map(str, bundle.manifest.metrics.get("compared", ()))),
        size=bundle.networks[0].network.size(),
        labels=", ".join(map(_as_text, labels[:_LABELS])) + more,
        files=_listed([part for part in (data.train, data.test) if isinstance(part, str)]),
    )


def _members(networks: int, linear: Sequence[LinearMember]) -> str:
    if networks == 1 and not linear:
        return "one network"
    parts = [f"{networks} network{'' if networks == 1 else 's'}"]
    names = dict.fromkeys(_as_text(member.name) for member in linear)
    return f"an ensemble of {format_list([*parts, *names])}"


def measured(
    search: float | None,
    baselines: Mapping[str, float],
    confirmed: Decision | None,
    compared: Sequence[str] = (),
    calibration: Calibration | None = None,
) -> dict[str, Any]:
    """A trial's metrics, as a bundle keeps them and its card shows them.

    `compared` says in sentences how it compares with the best simple model.
    """
    found: dict[str, Any] = {"search": search, "baselines": dict(baselines)}
    if compared:
        found["compared"] = list(compared)
    if calibration is not None:
        found["calibration"] = calibration.in_words()
    if confirmed is not None:
        won = confirmed.won
        found["confirmed"] = {"mean": won.mean, "interval": won.interval, "values": won.values}
        if confirmed.test is not None:
            found["test"] = asdict(confirmed.test)
            found["test_uses"] = confirmed.test_uses
    return found


def _reads(bundle: Bundle) -> str:
    data = bundle.spec.data
    if bundle.kind == "series":
        columns = [*data.times, data.target, data.series, *data.covariates, *data.known]
        return (
            f"It reads the columns {_listed(columns)} and predicts the {data.horizon} steps "
            f"after the last value of {_as_code(str(data.target))}, from that value and the "
            f"{_rows_needed(bundle) - 1} rows before it.{''.join(_categories(bundle))}"
        )
    if bundle.kind == "texts":
        return f"It reads the column {_listed([data.text])} of a table, or a list of texts."
    if (channels := bundle.encoder.as_json()["columns"].get("steps")) is not None:
        named = " and ".join(f"{_as_code(each[0])} to {_as_code(each[-1])}" for each in channels)
        return f"It reads the columns {named}, one sequence a row."
    if data.id is None:
        return "It reads `.ts`, `.npz` and arrays (N, T, C)."
    features = bundle.encoder.as_json()["columns"]["features"]
    return f"It reads the columns {_listed([data.id, *data.times, *features])}, one step a row."


def _rows_needed(bundle: Bundle) -> int:
    """How many rows of a series a forecast reads, up to the last value."""
    encoders = [network.preprocessing.encoder for network in bundle.networks]
    needed = [each.plan.first_origin + 1 for each in encoders if isinstance(each, SeriesEncoder)]
    models = [member.predict for member in bundle.linear]
    needed += [each.reading.needed for each in models if isinstance(each, LagRidgeModel)]
    return max(needed)


def _categories(bundle: Bundle) -> Iterator[str]:
    """The values of each categorical column that the network distinguishes."""
    for name, categories in bundle.encoder.as_json().get("words", {}).items():
        others = "treated alike" if categories["rest"] else "ignored"
        kept = ", ".join(map(_as_text, categories["kept"]))
        yield f" In {_as_code(name)} it knows {kept}; other values are {others}."


def _listed(columns: list[str | None]) -> str:
    return ", ".join(_as_code(name) for name in columns if name is not None)


def _as_code(name: str) -> str:
    """A name from a file as code, in which neither Markdown nor HTML means anything."""
    return f"`{_in_one_line(name).replace('`', chr(39))}`"


def _as_text(name: str) -> str:
    """A name from a file as text that is neither Markdown nor HTML."""
    escaped = html.escape(_in_one_line(name), quote=False)
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", escaped)


def _in_one_line(name: str) -> str:
    return visible(name, keep="")


def _lines(metrics: dict[str, Any]) -> Iterator[_Line]:
    """The metrics, from the search's own value to the baselines."""
    if (search := metrics.get("search")) is not None:
        yield _Line("in the search, validation", search, None, "the best of many: optimistic")
    if (confirmed := metrics.get("confirmed")) is not None:
        mean, interval = confirmed["mean"], confirmed["interval"]
        seeds = f"mean of {len(confirmed['values'])} fresh seeds"
        yield _Line("confirmed, validation", mean, interval, seeds)
    if (test := metrics.get("test")) is not None:
        if (ensemble := test.get("ensemble")) is not None:
            yield _Line("test, ensemble", ensemble["value"], ensemble["interval"], "all together")
        note = "one network: the mean over those of the best configuration"
        yield _Line("test, one network", test["value"], test["interval"], note)
    for name, value in metrics.get("baselines", {}).items():
        yield _Line(f"to beat: {name}", value)
