"""What optuna-dashboard shows of a study: read back with its own functions, from both databases."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import optuna
import plotly.io
import pytest
from helpers.mirrors import claim, make
from helpers.workspaces import TINY_STUDY
from optuna.trial import TrialState, create_trial
from optuna_dashboard import get_note, save_note
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from optuna_dashboard._note import get_note_from_system_attrs

import gru_optuna
from gru_optuna import study_file
from gru_optuna.report.notes.describe import make_note_writer
from gru_optuna.report.notes.key_figures import key_figures
from gru_optuna.report.notes.note import study_note, trial_note
from gru_optuna.storage.database.open import open_engine, open_storage
from gru_optuna.storage.mirror.dashboard_notes import (
    MOST_TRIALS,
    Description,
    NoteWriter,
    write_description,
    write_trial_notes,
)
from gru_optuna.storage.mirror.mirror import Mirror
from gru_optuna.storage.mirror.study_attributes import StudyAttrs
from gru_optuna.storage.workers.leases import Host, Registration
from gru_optuna.study.summary import summarize

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study
    from optuna.trial import FrozenTrial

SPEC = study_file.parse(tomllib.loads(TINY_STUDY), source="tiny.toml")


def trial(curve: list[float], state: TrialState, outcome: str = "") -> FrozenTrial:
    return create_trial(
        state=state,
        value=max(curve) if state == TrialState.COMPLETE else None,
        intermediate_values=dict(enumerate(curve, start=1)),
        user_attrs={"outcome": outcome},
    )


@pytest.fixture
def study() -> Study:
    """Made up: two complete trials, two pruned, one failed; in memory."""
    made = optuna.create_study(study_name="tiny", direction="maximize")
    made.set_user_attr("specification", SPEC.model_dump(mode="json"))
    made.set_user_attr("baselines", {"majority class": 0.25})
    made.add_trials(
        [
            trial([0.5, 0.7, 0.6], TrialState.COMPLETE, "trained all 3 epochs"),
            trial([0.2], TrialState.PRUNED, "pruned after epoch 1"),
            trial([0.6, 0.9, 0.95], TrialState.COMPLETE, "trained all 3 epochs"),
            trial([0.3, 0.4], TrialState.PRUNED, "pruned after epoch 2"),
            trial([], TrialState.FAIL, "diverged in epoch 1"),
        ]
    )
    return made


def trial_notes(study: Study) -> list[str]:
    """As optuna-dashboard reads them."""
    attrs = study._storage.get_study_system_attrs(study._study_id)
    return [get_note_from_system_attrs(attrs, t._trial_id)["body"] for t in study.trials]


def figures(study: Study) -> dict[str, Any]:
    """As optuna-dashboard reads them."""
    attrs = study._storage.get_study_system_attrs(study._study_id)
    return {name: json.loads(text) for name, text in get_plotly_graph_objects(attrs).items()}


# --- words and numbers ---


def test_a_note_says_why_a_trial_was_pruned_or_failed(study: Study) -> None:
    assert [trial_note(study, one) for one in study.trials] == [
        None,
        "Pruned after epoch 1, at 0.2000. Of 3 other trials that reached this epoch, 3 had a "
        "better value; the best was 0.6000.",
        None,
        "Pruned after epoch 2, at 0.4000. Of 2 other trials that reached this epoch, 2 had a "
        "better value; the best was 0.9000.",
        "**Failed**: `diverged in epoch 1`",
    ]


def test_of_a_loss_less_is_better() -> None:
    made = optuna.create_study(direction="minimize")
    made.add_trials([trial([0.2], TrialState.COMPLETE), trial([0.5], TrialState.PRUNED)])
    words = trial_note(made, made.trials[1])
    assert words is not None
    assert words.endswith(
        "Of 1 other trial that reached this epoch, 1 had a better value; the best was 0.2000."
    )


def test_figures_by_hand(study: Study) -> None:
    drawn = {
        name: json.loads(text)
        for name, text in key_figures(study, SPEC, summarize(study, SPEC)).items()
    }
    best, majority = drawn["best-so-far"]["data"]
    assert (best["x"], best["y"]) == ([0, 2, 4], [0.7, 0.95, 0.95])
    assert majority["y"] == [0.25, 0.25]
    names = [line["name"] for line in drawn["learning-curves"]["data"]]
    assert names == ["trial 2", "trial 0", "median of 2 pruned"]
    assert drawn["learning-curves"]["data"][2]["y"] == [0.25, 0.4]
    # Complete trials trained 3 on average, so would the two that were pruned.
    assert drawn["what-pruning-saved"]["data"][0]["y"] == [4, 3, 2]
    title = drawn["what-pruning-saved"]["layout"]["title"]["text"]
    assert title == "9 epochs trained; without pruning about 12"


def test_a_study_of_thousands_fits_into_a_few_pieces() -> None:
    made = optuna.create_study(direction="maximize")
    made.set_user_attr("specification", SPEC.model_dump(mode="json"))
    for number in range(2000):
        value = 1 - 1 / (number + 2)
        made.add_trial(trial([value / 3, value / 2, value], TrialState.COMPLETE))
    texts = key_figures(made, SPEC, summarize(made, SPEC)).values()
    assert all(len(text) < 3 * 2045 for text in texts)
    for text in texts:
        plotly.io.from_json(text)


def test_the_note_of_a_large_study_says_that_later_trials_have_none() -> None:
    made = optuna.create_study(direction="maximize")
    made.set_user_attr("specification", SPEC.model_dump(mode="json"))
    made.add_trials([trial([0.5], TrialState.COMPLETE)] * MOST_TRIALS)
    said = "Only the first 300 trials have notes of their own"
    assert said not in study_note(made, SPEC, summarize(made, SPEC))
    made.add_trial(trial([0.5], TrialState.COMPLETE))
    assert said in study_note(made, SPEC, summarize(made, SPEC))


def test_what_users_name_stays_text() -> None:
    hostile = "`|</code><script>alert(1)</script>\n# x"
    spec = SPEC.model_copy(update={"data": SPEC.data.model_copy(update={"train": hostile})})
    made = optuna.create_study(direction="maximize")
    made.set_user_attr("baselines", {hostile: 0.5})
    note = study_note(made, spec, summarize(made, spec))
    code = "`'\\|</code><script>alert(1)</script> # x`"
    assert note.count(code) == 2
    assert "alert" not in note.replace(code, "")


# --- in the database ---


def test_a_tuned_study_has_all_of_it(tmp_path: Path) -> None:
    file, url = tmp_path / "tiny.toml", f"sqlite:///{tmp_path / 'x.db'}"
    data = gru_optuna.__path__[0] + "/../studies/data/japanese_vowels"
    file.write_text(TINY_STUDY.replace("data/japanese_vowels", data))
    gru_optuna.tune(file, trials=4, storage=url, report=tmp_path / "report")
    study = optuna.load_study(study_name="tiny", storage=url)
    note = get_note(study)
    for part in (
        "**4 of 4 trials** have ended",
        "[Full report](/report/tiny/)",
        f"**{study.best_value:.4f}**",
        f"**{study.user_attrs['test']['value']:.2f}",
        "mean of 5 fresh seeds, on validation rows",
        "to beat: `majority class`",
        study.user_attrs["fingerprint"][:12],
        *(f"| {name} | " for name in study.best_params),
    ):
        assert part in note
    assert figures(study).keys() == {"best-so-far", "learning-curves", "what-pruning-saved"}
    for one, words in zip(study.trials, trial_notes(study), strict=True):
        assert bool(words) == (one.state != TrialState.COMPLETE)


def describe_now(url: str, study: Study, note: str, **figures: str) -> None:
    with open_engine(url).begin() as connection:
        write_description(connection, study._study_id, Description(note, figures))


def test_a_note_changes_with_its_study(database_url: str) -> None:
    study = make(database_url)
    long = "€" * 5000
    for note, figure in ((long, json.dumps(long)), ("short", '"x"'), (long, '"y"'), ("s", '""')):
        describe_now(database_url, study, note, one=figure)
        assert get_note(study) == note
        assert figures(study) == {"one": json.loads(figure)}


def test_a_note_that_somebody_edited_is_left_alone(database_url: str) -> None:
    study = make(database_url)
    describe_now(database_url, study, "ours", one="1")
    save_note(study, "mine")
    describe_now(database_url, study, "ours again", one="2")
    assert get_note(study) == "mine"
    assert figures(study) == {"one": 2}
    save_note(study, "")
    describe_now(database_url, study, "ours again", one="2")
    assert get_note(study) == "ours again"
    save_note(study, "mine again")  # optuna-dashboard's count of edits goes on
    assert get_note(study) == "mine again"


def test_a_note_of_a_trial_that_somebody_wrote_is_left_alone(database_url: str) -> None:
    study = make(database_url)
    first, second = study.ask(), study.ask()
    save_note(first, "mine")
    with open_engine(database_url).begin() as connection:
        notes = {first._trial_id: "ours", second._trial_id: "ours"}
        write_trial_notes(connection, study._study_id, notes)
    assert trial_notes(study) == ["mine", "ours"]


# --- with a worker's transactions ---


def described_mirror(url: str, describing: NoteWriter) -> Mirror:
    study, engine = make(url), open_engine(url)
    registration = Registration(engine, study._study_id, Host.here("cpu", 8))
    return Mirror(study, engine, registration, describing)


def test_trials_get_their_notes_with_the_commit_that_ends_them(database_url: str) -> None:
    mirror = described_mirror(
        database_url, NoteWriter(lambda study: Description("n", {}), trial_note)
    )
    pruned, failed, complete = claim(mirror, 3)
    for one in (pruned, failed, complete):
        one.report(0.5, 1)
    before = mirror.transactions
    for one, state in ((pruned, TrialState.PRUNED), (failed, TrialState.FAIL)):
        one.set_user_attr("outcome", "diverged")
        mirror.study.tell(one, state=state)
    mirror.study.tell(complete, 0.5)
    mirror.sync()
    assert mirror.transactions == before + 1
    notes = trial_notes(make(database_url))
    assert notes[0].startswith("Diverged, at 0.5000. Of 2 other trials")
    assert notes[1:] == ["**Failed**: `diverged`", ""]


def test_who_lost_a_trial_writes_no_note_of_it(database_url: str) -> None:
    words = NoteWriter(lambda study: Description("n", {}), lambda study, trial: "late")
    late, other = (described_mirror(database_url, words) for _ in range(2))
    (mine,) = claim(late)
    late.sync(give_back=[mine.number])
    assert [number for number, _ in other.sync(1).claims] == [0]
    late.study.tell(mine, state=TrialState.FAIL)
    late.sync()
    assert trial_notes(make(database_url)) == [""]


def test_a_study_is_described_now_and_then_by_whoever_comes_first(database_url: str) -> None:
    written: list[str] = []

    def words(name: str) -> NoteWriter:
        def describe(study: Study) -> Description:
            written.append(name)
            return Description(f"{name} {len(written)}", {})

        return NoteWriter(describe, lambda study, trial: None)

    first, second = (described_mirror(database_url, words(name)) for name in ("first", "second"))
    for _ in range(5):
        first.sync()
        second.sync()
    # The second one read before the first one wrote, once.
    assert written in (["first"], ["first", "second"])
    assert get_note(make(database_url)) == f"{written[-1]} {len(written)}"


def test_who_leaves_describes_nothing(database_url: str) -> None:
    """It has seconds to leave, and drawing figures may take longer."""
    mirror = described_mirror(
        database_url, NoteWriter(lambda study: Description("n", {}), trial_note)
    )
    mirror.sync(leaving=True)
    assert get_note(make(database_url)) == ""
    mirror.sync()
    assert get_note(make(database_url)) == "n"


def test_the_pause_is_as_long_as_words_are_dear() -> None:
    words = NoteWriter(lambda study: Description("n", {}), trial_note)
    made = optuna.create_study()
    assert words.if_due(made, StudyAttrs(1, {}, {})) is not None
    seen = StudyAttrs(
        1,
        {"worked_until": "2026-01-01T00:00:20"},
        {"gru_optuna:described_at": "2026-01-01T00:00:01"},
    )
    assert words.if_due(made, seen) is not None
    words.pause = 60.0
    assert words.if_due(made, seen) is None


def test_a_note_that_cannot_be_made_stops_no_worker(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> Any:
        raise KeyError("a bug")

    mirror = described_mirror(database_url, NoteWriter(broken, broken))
    (one,) = claim(mirror)
    mirror.study.tell(one, state=TrialState.FAIL)
    mirror.sync()
    assert make(database_url).trials[0].state == TrialState.FAIL
    assert "could not write the notes" in caplog.text


def test_a_note_goes_along_when_a_study_is_copied(tmp_path: Path) -> None:
    from gru_optuna.storage.maintenance.copy import copy_studies

    source, target = (f"sqlite:///{tmp_path / name}.db" for name in ("source", "target"))
    for _ in range(3):
        make(target, "other").ask()  # so that ids differ
    mirror = described_mirror(source, make_note_writer())
    (one,) = claim(mirror)
    one.set_user_attr("outcome", "diverged in epoch 1")
    mirror.study.tell(one, state=TrialState.FAIL)
    mirror.sync()
    copy_studies(source, target, ["x"])
    copied = optuna.load_study(study_name="x", storage=open_storage(target))
    assert trial_notes(copied) == ["**Failed**: `diverged in epoch 1`"]
