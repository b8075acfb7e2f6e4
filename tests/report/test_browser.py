"""The report in a real browser: drawn, brushed, switched, followed, printed, on a small screen."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest
from helpers.browser import draw, opens_at_once
from helpers.report_studies import small_study, specification, study_of, trial
from optuna.trial import TrialState

from gru_optuna import study_file
from gru_optuna.attributes import PREDICTIONS
from gru_optuna.report.page import render_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from helpers.browser import Seen

    Visit = Callable[..., Seen]

ALERT = "<script>alert(1)</script>"
UPWARDS = "../../etc"
LINK = "<a href='javascript:alert(1)'>link</a>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small study's, its names hostile wherever a user can choose them."""
    study = small_study()
    study.set_user_attr("baselines", {ALERT: 0.2, UPWARDS: 0.3, "<b>bold</b>": 0.4, LINK: 0.5})
    confusion = {"classes": [ALERT, UPWARDS], "counts": [[40, 2], [5, 60]]}
    part = {"rows": 107, "value": 0.93, "interval": [0.88, 0.97], "confusion": confusion}
    study.set_user_attr(PREDICTIONS, {"number": 3, "test": part})
    study.set_user_attr("test", {"number": 3, "value": 0.93})
    spec = specification(data={"train": f"{ALERT}.csv", "test": UPWARDS})
    return render_report(study, spec, tmp_path_factory.mktemp("report"), pages=True)


def test_every_figure_is_drawn_and_hostile_names_stay_text(visit: Visit, report: Path) -> None:
    asked: list[str] = []
    seen = visit(report)
    seen.page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    draw(seen)
    assert seen.page.locator(".plot").count() >= 14
    assert not seen.complaints
    assert not seen.requests
    assert not asked
    for text in (ALERT, UPWARDS, "<b>bold</b>", LINK):
        assert text in seen.page.locator("#comparison .plot").inner_text()
    assert ALERT in seen.page.locator("#predictions .plot").inner_text()
    assert ALERT in seen.page.locator("#result").inner_text()
    assert not seen.page.locator(f"a[href*='{UPWARDS}']").count()
    assert not seen.page.locator("a[*|href^='javascript']").count()


def test_brushing_an_axis_keeps_the_trials_that_pass_there(visit: Visit, report: Path) -> None:
    seen = visit(report)
    draw(seen, "parallel_coordinates")
    plot, status = seen.page.locator("#parallel_coordinates-0"), seen.page.get_by_role("status")
    plot.scroll_into_view_if_needed()
    # Along the upper half of the first axis, the learning rate.
    axis = plot.locator(".axis-brush").first.bounding_box()
    assert axis is not None
    x = axis["x"] + axis["width"] / 2
    seen.page.mouse.move(x, axis["y"] + 0.05 * axis["height"])
    seen.page.mouse.down()
    seen.page.mouse.move(x, axis["y"] + 0.5 * axis["height"], steps=5)
    seen.page.mouse.up()
    status.filter(has_text="of 5 trials pass").wait_for()
    low, high = plot.evaluate("e => e.data[0].dimensions[0].constraintrange.flat()")
    assert -3 < low < high <= -1
    passing = [place for place in (-4, -2, -1, -1.5229, -3.699) if low <= place <= high]
    assert status.inner_text().startswith(f"{len(passing)} of 5 trials pass")
    # The same by keyboard.
    seen.page.get_by_role("button", name="Keep all").click()
    form = seen.page.locator(".brush")
    form.get_by_label("Keep trials with").select_option(label="decay")
    form.locator("[data-from]").select_option(label="step")
    form.locator("[data-to]").select_option(label="step")
    seen.page.get_by_role("button", name="Keep", exact=True).press("Enter")
    status.filter(has_text="the best of them is trial 6 with accuracy 0.8").wait_for()
    assert status.inner_text().startswith("2 of 5 trials pass")
    assert not seen.complaints


def test_the_theme_is_switched_and_stays(visit: Visit, report: Path) -> None:
    seen = visit(report)
    draw(seen, "importance")
    paper = "getComputedStyle(document.body).backgroundColor"
    bar = "document.querySelector('#importance-0 .bars path').style.fill"
    before = seen.page.evaluate(paper), seen.page.evaluate(bar)
    seen.page.get_by_role("button", name="Switch to the dark theme").click()
    after = seen.page.evaluate(paper), seen.page.evaluate(bar)
    assert before[0] == "rgb(255, 255, 255)"
    assert after[0] == "rgb(20, 23, 27)"
    assert before[1] != after[1]
    seen.page.reload()
    assert seen.page.evaluate(paper) == after[0]
    assert not seen.complaints


def test_links_lead_to_sections_figures_and_numbers(visit: Visit, report: Path) -> None:
    seen = visit(report)
    sections = seen.page.locator("nav a").all()
    for link in sections:
        assert seen.page.locator(str(link.get_attribute("href"))).count() == 1
    seen.page.get_by_role("link", name="Importance").click()
    assert seen.page.url.endswith("#importance")
    seen.page.locator("#importance").get_by_role("link", name="Figure on its own page").click()
    seen.page.wait_for_selector("#importance-0 .main-svg")
    assert seen.page.get_by_role("heading", level=1).inner_text() == "Importance"
    assert not seen.complaints


def test_the_configuration_is_copied_as_toml(visit: Visit, report: Path) -> None:
    seen = visit(report, permissions=["clipboard-read", "clipboard-write"])
    seen.page.get_by_role("button", name="Copy").click()
    seen.page.get_by_role("button", name="Copied").wait_for()
    copied = tomllib.loads(seen.page.evaluate("navigator.clipboard.readText()"))
    assert copied["search"]["learning_rate"] == 0.1
    study_file.parse({"name": "again", "data": {"train": "x.ts"}} | copied, source="the page")


def test_a_small_screen_scrolls_figures_and_not_the_page(visit: Visit, report: Path) -> None:
    seen = visit(report, width=400, height=800)
    draw(seen, "parallel_coordinates")
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 400
    wide = "e => e.scrollWidth > e.clientWidth"
    assert seen.page.locator("#parallel_coordinates .scroll").evaluate(wide)
    assert seen.page.locator("#trials .scroll").evaluate(wide)


def test_paper_gets_every_figure_in_light_colours(visit: Visit, report: Path) -> None:
    seen = visit(report, scheme="dark")
    seen.page.wait_for_selector("html[data-ready]")
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    drawn = seen.page.locator(".plot").evaluate_all("all => all.map(e => e.childElementCount > 0)")
    assert all(drawn)
    assert seen.page.pdf(format="A4").startswith(b"%PDF")
    seen.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert seen.page.evaluate("document.documentElement.dataset.theme") == ""
    assert not seen.complaints


def test_the_table_sorts_by_what_is_meant(visit: Visit, report: Path) -> None:
    seen = visit(report)
    table = seen.page.locator("table.trials")
    table.get_by_role("button", name="learning_rate").click()
    rates = table.locator("tbody tr td:nth-child(6)").all_inner_texts()
    assert rates == ["1e-4", "2e-4", "3e-4", "0.001", "0.01", "0.03", "0.1", "0.1"]
    heading = table.locator("th", has_text="learning_rate")
    assert heading.get_attribute("aria-sort") == "ascending"


@pytest.mark.parametrize(
    "picture",
    [
        {"points": {"truth": [1.0, 2.0, None], "predicted": [1.1, 1.9, 3.0]}},
        {
            "forecast": {
                "horizon": 2,
                "truth": [1.0, None, 3.0, 4.0],
                "windows": [{"start": 0, "values": [1.0, 2.0]}, {"start": 2, "values": [3.0, 4.0]}],
                "errors": [0.5, 0.7],
                "rows": 9,
            }
        },
    ],
    ids=["regression", "forecasting"],
)
def test_numbers_are_drawn_beside_the_truth(
    visit: Visit, tmp_path: Path, picture: dict[str, object]
) -> None:
    study = study_of([trial(TrialState.COMPLETE, [0.5], 1e-3)])
    part = {"rows": 9, "value": 0.5, "interval": None} | picture
    study.set_user_attr(PREDICTIONS, {"number": 0, "validation": part})
    seen = visit(render_report(study, specification(), tmp_path))
    draw(seen, "predictions")
    assert seen.page.locator("#predictions .scatterlayer .trace").count() >= 2
    assert not seen.complaints


@pytest.mark.usefixtures("browser")
def test_every_panel_becomes_a_picture_and_goes_with_the_next_rendering(tmp_path: Path) -> None:
    study = study_of([trial(TrialState.COMPLETE, [0.1, 0.2], 1e-3)])
    render_report(study, specification(), tmp_path, images="png")
    pictures = {path.name for path in (tmp_path / "figures").glob("*.png")}
    assert {"comparison.png", "parallel_coordinates.png", "slices-0.png", "health.png"} <= pictures
    assert all(
        (tmp_path / "figures" / name).read_bytes().startswith(b"\x89PNG") for name in pictures
    )
    render_report(study, specification(), tmp_path)
    assert not list((tmp_path / "figures").glob("*.png"))


def test_an_empty_study_has_a_page(visit: Visit, tmp_path: Path) -> None:
    seen = visit(render_report(study_of([]), specification(), tmp_path))
    seen.page.wait_for_selector("html[data-ready]")
    assert "No trial has trained an epoch" in seen.page.locator("#result").inner_text()
    assert not seen.complaints


def test_a_thousand_trials_open_at_once(visit: Visit, tmp_path: Path) -> None:
    opens_at_once(visit, tmp_path, 1_000)
