"""A study with two goals, from its file to the networks that are chosen from its front."""

from __future__ import annotations

import json
import re
import threading
from typing import TYPE_CHECKING, Any

import optuna
import pytest
from helpers.storage_rows import invoke, run
from helpers.workspaces import TINY_STUDY, write_tiny_study
from optuna.study import StudyDirection
from optuna.trial import TrialState

from gru_optuna import GRUClassifier, GRUObjective, load_bundle, tune
from gru_optuna.errors import StudyError, StudyFileError
from gru_optuna.report.figures.front import list_fronts
from gru_optuna.report.figures.importance import measure_importance
from gru_optuna.report.figures.parallel_coordinates import place_trials
from gru_optuna.storage.database.open import open_storage
from gru_optuna.study.confirmation import finalists, read_decision
from gru_optuna.study.study import create_or_resume, load_study
from gru_optuna.study.summary import summarize, summarize_stored
from gru_optuna.study.warm_start import Source, begin_from
from gru_optuna.study_file.load import parse
from gru_optuna.tuning.confirm import Place
from gru_optuna.tuning.export import make_winner
from gru_optuna.worker.run import WorkerSettings

if TYPE_CHECKING:
    from pathlib import Path

    from optuna import Study

    from gru_optuna.study_file import Specification
    from gru_optuna.tuning.tune import TuningResult

GOALS = (
    "metric=['accuracy', 'network_parameters']", "model.hidden_size=[2, 4, 8, 16]",
    "pruner.first_rung=1", "pruner.reduction_factor=2", "sampler.n_startup_trials=4",
    "training.epochs=8", "training.patience='off'",
    "confirmation.candidates=4", "confirmation.seeds=2",
)  # fmt: skip


def url_of(path: Path) -> str:
    return f"sqlite:///{path.parent / 'study.db'}"


def go(path: Path, trials: int, *overrides: str) -> TuningResult:
    return tune(
        path, storage=url_of(path), device="cpu", threads=1, slots=2, trials=trials,
        overrides=[*GOALS, *overrides], report=path.parent / "report",
    )  # fmt: skip


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study ``tiny`` with two goals, tuned and confirmed."""
    path = write_tiny_study(tmp_path_factory.mktemp("goals") / "study")
    go(path, 14)
    return path


def opened(path: Path) -> tuple[Study, Specification]:
    return load_study(open_storage(url_of(path)), "tiny")


def place_of(path: Path) -> Place:
    return Place(url_of(path), path.parent, WorkerSettings("cpu", threads=1, slots=2))


def test_optuna_sees_both_goals_of_every_complete_trial(tuned: Path) -> None:
    study, _ = opened(tuned)
    assert study.directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    complete = study.get_trials(states=[TrialState.COMPLETE])
    assert len(complete) >= 4
    for trial in complete:
        best = max(trial.intermediate_values.values())
        assert trial.values == [best, trial.user_attrs["network_parameters"]]
    assert {trial.number for trial in study.best_trials} <= {trial.number for trial in complete}


def test_trials_are_paused_and_the_front_trains_on(tuned: Path) -> None:
    study, _ = opened(tuned)
    ended = [t for t in study.trials if t.state == TrialState.PRUNED]
    assert ended
    assert all(t.user_attrs["outcome"].startswith("paused after epoch ") for t in ended)
    sizes = {t.user_attrs["network_parameters"] for t in study.trials if t.state.name == "COMPLETE"}
    assert len(sizes) > 1  # accuracy alone would complete the largest ones


def test_the_confirmation_covers_the_front_and_the_winner_has_the_best_metric(tuned: Path) -> None:
    study, spec = opened(tuned)
    decision, summary = read_decision(study), summarize(study, spec)
    assert decision is not None
    assert [c.number for c in decision.candidates] == [t.number for t, _ in finalists(study, spec)]
    # Of the front in the search, each member has been trained again, or four of its members.
    searched = {m.number for m in list_fronts(study, spec, []).searched}
    compared = {c.number for c in decision.candidates}
    assert len(searched & compared) == min(4, len(searched))
    front = summary.front
    means = [member.mean for member in front]
    assert None not in means
    assert means == sorted(means)  # type: ignore[type-var]
    sizes = [member.network_parameters for member in front]
    assert sizes == sorted(set(sizes))
    assert summary.best is not None
    assert summary.best.number == decision.winner
    assert decision.members.baselines == []
    assert len(decision.members.networks) == 1  # an ensemble isn't small


def test_a_summary_without_reading_all_trials_is_the_same(tuned: Path) -> None:
    study, spec = opened(tuned)
    assert summarize_stored(study, spec) == summarize(study, spec)


def test_commands_name_both_goals(tuned: Path) -> None:
    url = url_of(tuned)
    listed = json.loads(invoke("studies", "--json", "--storage", url, code=0).stdout)[0]
    best = json.loads(invoke("best", "tiny", "--json", "--storage", url, code=0).stdout)
    status = json.loads(invoke("status", "tiny", "--json", "--storage", url, code=0).stdout)
    assert listed["front"] == best["front"] == status["front"]
    assert {*best["front"][0]} == {"number", "value", "network_parameters", "mean", "interval"}
    assert status["metric"] == "accuracy"
    text = invoke("status", "tiny", "--storage", url, code=0).stdout
    assert "tiny: maximize accuracy, minimize network_parameters (classification)" in text
    for shown in (text, invoke("best", "tiny", "--storage", url, code=0).stdout):
        assert re.search(r"front +parameters +accuracy +confirmed", shown)
        for member in best["front"]:
            assert f"{member['network_parameters']:,}" in shown
    assert f"front of {len(best['front'])}" in invoke("studies", "--storage", url, code=0).stdout


def test_the_report_shows_the_front(tuned: Path) -> None:
    figures = tuned.parent / "report" / "figures"
    numbers = json.loads((figures / "front.json").read_text())
    study, spec = opened(tuned)
    assert len(numbers["trials"]) == 14
    assert numbers["limit"] is None
    front = [member.number for member in summarize(study, spec).front]
    assert [member["number"] for member in numbers["confirmed"]] == front
    page = (tuned.parent / "report" / "index.html").read_text()
    assert "network_parameters, lower is better" in page
    assert "no other one beats in both goals" in page
    parallel = place_trials(study, spec).columns
    assert [axis.scale.name for axis in parallel[-2:]] == ["parameters", "accuracy"]
    importance = measure_importance(study)
    assert importance.missing is None
    assert sum(importance.shares.values()) == pytest.approx(1)
    assert "importance is that for the first one, accuracy" in page


def test_the_note_shows_the_front(tuned: Path) -> None:
    study, spec = opened(tuned)
    system = study._storage.get_study_system_attrs(study._study_id)
    note = "".join(system[key] for key in sorted(system) if key.startswith("dashboard:note_str:"))
    assert "maximize **accuracy** on validation rows, and minimize **network_parameters**" in note
    for member in summarize(study, spec).front:
        assert f"| trial {member.number} | {member.network_parameters:,} |" in note
    assert system["dashboard:objective_names"] == ["accuracy", "network_parameters"]


def test_export_takes_the_best_confirmed_network_that_is_small_enough(
    tuned: Path, tmp_path: Path
) -> None:
    decision = read_decision(opened(tuned)[0])
    assert decision is not None
    url, data = url_of(tuned), str(tuned.parent)
    for most in {candidate.parameters for candidate in decision.candidates}:
        out = tmp_path / str(most)
        invoke(
            "export", "tiny", "--max-parameters", str(most), "--out", str(out),
            "--storage", url, "--data", data, "--device", "cpu", code=0,
        )  # fmt: skip
        manifest = load_bundle(out).manifest
        (member,) = manifest.members
        fitting = {c.number: c for c in decision.candidates if c.parameters <= most}
        chosen = fitting[manifest.trial]
        best = max(c.mean for c in fitting.values() if c.mean is not None)
        assert chosen.mean is not None
        assert chosen.mean + 2 * sum(c.error for c in fitting.values()) >= best
        assert member.validation in chosen.values


def test_export_says_which_sizes_there_are_if_none_is_small_enough(
    tuned: Path, tmp_path: Path
) -> None:
    with pytest.raises(StudyError) as caught:
        make_winner("tiny", place_of(tuned), threading.Event(), max_parameters=3)
    message = str(caught.value)
    assert message.startswith('--max-parameters 3: study "tiny" has confirmed no network so small')
    assert 'constraints = ["network_parameters <= 3"]' in message
    refusal = invoke(
        "export", "tiny", "--ensemble", "--max-parameters", "900", "--out", str(tmp_path / "b"),
        "--storage", url_of(tuned), code=2,
    ).output  # fmt: skip
    assert refusal == "--max-parameters chooses one network. Drop --ensemble.\n"
    assert not (tmp_path / "b").exists()


def test_a_study_resumes_and_its_copy_does_too(tuned: Path, tmp_path: Path) -> None:
    backup, target = tmp_path / "backup.db", f"sqlite:///{tmp_path / 'copy.db'}"
    run("backup", "--storage", url_of(tuned), "--out", str(backup))
    run("copy", f"sqlite:///{backup}", target)
    run("check", "--storage", target)
    before = [t.values for t in opened(tuned)[0].trials]
    copied, _ = load_study(open_storage(target), "tiny")
    assert [t.values for t in copied.trials] == before
    assert copied.directions == opened(tuned)[0].directions
    path = write_tiny_study(tmp_path / "study")
    result = tune(
        path, storage=target, device="cpu", threads=1, slots=2, trials=18, overrides=GOALS,
        report=tmp_path / "report",
    )  # fmt: skip
    assert sum(result.summary.trials.values()) == 18
    assert result.best is not None
    assert result.best.confirmed is not None
    assert [t.values for t in load_study(open_storage(target), "tiny")[0].trials][:14] == before


def test_a_constraint_limits_the_front(tmp_path: Path) -> None:
    path = write_tiny_study(tmp_path / "study")
    result = go(path, 6, "constraints=['network_parameters <= 500']", "confirmation.candidates=0")
    assert result.best is not None
    assert all(0 < m.network_parameters <= 500 for m in result.summary.front)
    numbers = json.loads((tmp_path / "study" / "report" / "figures" / "front.json").read_text())
    assert numbers["limit"] == 500
    assert numbers["confirmed"] == []


def test_a_study_with_one_goal_starts_from_the_best_metric_and_one_with_two_from_the_front(
    tuned: Path,
) -> None:
    study, spec = opened(tuned)
    source = Source("tiny", study, spec)

    def taken(content: dict[str, Any]) -> list[int]:
        whole = {**spec.model_dump(mode="json"), "name": "next", **content}
        new = parse(whole, "next")
        made = create_or_resume(optuna.storages.InMemoryStorage(), new, "data")
        start = begin_from(made, new, source)
        assert start is not None
        return [trial["number"] for trial in start.trials]

    values = {t.number: max(t.intermediate_values.values()) for t in study.trials}
    winner, *others = taken({"metric": "accuracy"})
    assert [values[n] for n in others] == sorted((values[n] for n in others), reverse=True)
    assert taken({})[0] == winner
    front = {m.number for m in list_fronts(study, spec, []).searched}
    assert front & {*taken({})[1:]}


def test_a_study_is_refused_to_a_file_with_one_goal(tuned: Path) -> None:
    content = opened(tuned)[1].model_dump(mode="json")
    spec = parse({**content, "metric": "accuracy"}, "x")
    with pytest.raises(StudyError, match="metric: \\['accuracy', 'network_parameters'\\] in the"):
        create_or_resume(open_storage(url_of(tuned)), spec, "x")


def test_estimators_and_objectives_have_one_goal(tmp_path: Path) -> None:
    two = ["accuracy", "network_parameters"]
    rows = [[[0.0], [1.0]], [[1.0], [0.0]]] * 10
    classifier = GRUClassifier(metric=two)
    with pytest.raises(ValueError, match=r"GRUClassifier: metric = .*: an estimator has one"):
        classifier.fit(rows, [0, 1] * 10)
    text = TINY_STUDY.replace('name = "tiny"', f'name = "tiny"\nmetric = {json.dumps(two)}')
    path = write_tiny_study(tmp_path / "study", text)
    with pytest.raises(StudyFileError, match="GRUObjective returns one value"):
        GRUObjective(path)
    assert GRUObjective(path, metric="accuracy").direction == "maximize"
