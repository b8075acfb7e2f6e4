"""The study file: what it may say, and what it answers when it says something wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from helpers.workspaces import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

from gru_optuna import study_file
from gru_optuna.errors import StudyFileError
from gru_optuna.search import space
from gru_optuna.study_file import Specification
from gru_optuna.study_file.searchable import Number, Range, Searchable

if TYPE_CHECKING:
    from pathlib import Path

MINIMAL = 'name = "x"\n[data]\ntrain = "x.ts"\n'
DEMO = REPOSITORY / "studies" / "japanese-vowels.toml"


def load(folder: Path, text: str, *overrides: str) -> Specification:
    path = folder / "x.toml"
    path.write_text(text, encoding="utf-8")
    return study_file.load(path, overrides)


def refusal(folder: Path, text: str, *overrides: str) -> str:
    """What is said about a study file that isn't accepted, without the temporary folder."""
    with pytest.raises(StudyFileError) as caught:
        load(folder, text, *overrides)
    return str(caught.value).replace(f"{folder}/", "")


# --- files that are accepted ---


def test_the_demo_study_loads() -> None:
    study = study_file.load(DEMO)
    assert study.name == "japanese-vowels"
    assert study.model.hidden_size == [32, 64]
    assert study.model.layers == 1
    assert study.search.learning_rate == Range(low=1e-4, high=1e-1, log=True)
    assert study.budget.trials == 60


def test_a_specification_survives_being_stored_as_json() -> None:
    study = study_file.load(DEMO)
    stored = json.dumps(study.model_dump(mode="json"))
    assert study_file.parse(json.loads(stored), source="stored") == study


def test_a_name_and_training_rows_are_enough(tmp_path: Path) -> None:
    study = load(tmp_path, MINIMAL)
    assert (study.task, study.metric, study.direction) == ("classification", "accuracy", "maximize")
    assert (study.data.test, study.data.validation, study.data.standardize) == (None, 0.2, True)
    assert (study.sampler.name, study.pruner.name) == ("tpe", "asha")
    assert study.budget.trials == 100
    assert study.seed == 0


def test_a_loss_is_minimized(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL, "metric=log_loss").direction == "minimize"


def test_a_budget_of_hours_has_no_limit_of_trials(tmp_path: Path) -> None:
    budget = load(tmp_path, MINIMAL + "[budget]\nhours = 2\n").budget
    assert (budget.trials, budget.hours) == (None, 2.0)


def test_an_empty_budget_is_the_default_one(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL + "[budget]\n").budget.trials == 100


def test_clipping_may_be_off_or_one_of_the_choices(tmp_path: Path) -> None:
    off = load(tmp_path, MINIMAL + '[search]\nclip_norm = "off"\n')
    assert off.search.clip_norm == "off"
    choice = load(tmp_path, MINIMAL + '[search]\nclip_norm = ["off", 1]\n')
    assert choice.search.clip_norm == ["off", 1.0]


def test_parameters_of_a_decay_that_is_not_among_the_choices_do_not_matter(tmp_path: Path) -> None:
    study = load(tmp_path, MINIMAL + '[search]\ndecay = ["constant", "step"]\n')
    decays = {name for name, _ in study.searchable() if name.startswith("decay_")}
    assert decays == {"decay_drop", "decay_every"}


def test_a_name_may_be_written_in_any_script(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL.replace('"x"', '"母音-1.b_2"')).name == "母音-1.b_2"


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + MINIMAL).name == "x"


# --- files that are not there, or not TOML ---


def test_a_missing_file_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "vowels.toml").write_text(MINIMAL)
    with pytest.raises(StudyFileError, match=r'vowel\.toml: no such file\. .*"vowels\.toml"\?'):
        study_file.load(tmp_path / "vowel.toml")


def test_a_missing_file_is_looked_for_in_studies_too(tmp_path: Path) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "vowels.toml").write_text(MINIMAL)
    with pytest.raises(StudyFileError, match=r"studies/vowels\.toml"):
        study_file.load(tmp_path / "vowels.toml")


def test_a_missing_folder_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match=r"There is no folder .*/none either\."):
        study_file.load(tmp_path / "none" / "x.toml")


def test_a_folder_is_no_study_file(tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match=r"is a folder\. No study file"):
        study_file.load(tmp_path)


def test_bytes_that_are_not_utf8_are_counted(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b'name = "\xff"')
    with pytest.raises(StudyFileError, match=r"byte 8 is not UTF-8\. Save the file as UTF-8\."):
        study_file.load(tmp_path / "x.toml")


def test_malformed_toml_is_named_with_its_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, 'name = "x"\n[data\n')
    assert message.startswith("x.toml: not valid TOML: ")
    assert "line 2" in message


# --- files that say something wrong ---

MISTAKES = [
    # keys
    ("[search]\ndropuot = 0.1", '[search]: unknown key "dropuot". Did you mean "dropout"?'),
    ("[search]\nepochs = 5", '[search]: unknown key "epochs". It belongs under [training].'),
    ("[seach]\nl1 = 0", 'x.toml: unknown key "seach". Did you mean "search"?'),
    ("[[search]]\nl1 = 0", "[search]: is a section. Write [search] and its keys below."),
    # ranges
    (
        "[search]\ndropout = { low = 0.6, high = 0.1 }",
        "x.toml [search.dropout]: low = 0.6 exceeds high = 0.1. "
        "Swap them, or give one value: dropout = 0.1.",
    ),
    (
        "[search]\nl1 = { low = 0, high = 1, log = true }",
        "[search.l1]: low = 0 with log = true: a log scale has no zero",
    ),
    ("[search]\nl1 = { low = 0 }", "[search.l1]: high missing. Write l1 = { low = …, high = … }."),
    ("[search]\nl1 = { lo = 0, high = 1 }", '[search.l1]: unknown key "lo". Did you mean "low"?'),
    ("[search]\nl1 = { low = 0, high = inf }", "[search.l1]: high = inf must be finite."),
    ("[search]\nl1 = { low = 0, high = 1, log = 1 }", "log = 1 is not true or false."),
    ("[search]\nl1 = { low = 0, high = 1, step = 0 }", "step = 0 must be above 0."),
    (
        "[search]\nl1 = { low = 0.1, high = 1, step = 0.1, log = true }",
        "step and log = true exclude each other. Drop one of them.",
    ),
    ("[search]\noptimizer = { low = 1, high = 2 }", 'optimizer = ["adam", "rmsprop"].'),
    # lists
    ("[search]\nl1 = []", "[search.l1]: l1 = [] leaves nothing to choose from."),
    ("[search]\nl1 = [1, 1.0]", "[search.l1]: l1 lists 1.0 twice. Remove one of them."),
    ('[search]\nl1 = [0, "x"]', '[search.l1]: l1 = "x" is not a number.'),
    # values
    ('[search]\ndropout = "0.2"', '[search.dropout]: dropout = "0.2" is not a number.'),
    ("[search]\ndropout = true", "[search.dropout]: dropout = true is not a number."),
    ("[search]\ndropout = 1.0", "[search.dropout]: dropout = 1.0 must be below 1."),
    ("[search]\ndropout = nan", "[search.dropout]: dropout = nan must be finite."),
    ('[search]\nclip_norm = "of"', 'clip_norm = "of" is not a number or "off".'),
    ("[model]\nhidden_size = 32.5", "hidden_size = 32.5 is not a whole number. Try hidden_size ="),
    ("[model]\nhidden_size = 5000", "[model.hidden_size]: hidden_size = 5000 must be at most 4096"),
    ("[model]\nbidirectional = 1", "[model.bidirectional]: bidirectional = 1. Known: false, true."),
    ("[training]\nepochs = 0", "[training.epochs]: got 0, needs greater than or equal to 1."),
    ('[training]\nepochs = "40"', '[training.epochs]: got "40", needs a valid integer.'),
    ("[training]\npatience = true", "[training.patience]: got true, needs"),
    ("[budget]\nhours = nan", "[budget.hours]: got NaN"),
    # options
    ('[search]\noptimizer = "adm"', 'optimizer = "adm". Did you mean "adam"?'),
    ('[sampler]\nname = "tp"', '[sampler.name]: got "tp". Did you mean "tpe"?'),
    ('[pruner]\nname = "x"', "Known: asha, hyperband, median, none, percentile, thaw."),
    (
        '[sampler]\nname = "grid"',
        "[search.learning_rate] is a range, but sampler grid needs lists. "
        "Write learning_rate = [0.0001, …, 0.1], or choose another sampler.",
    ),
]


@pytest.mark.parametrize(("written", "answer"), MISTAKES)
def test_a_mistake_is_answered_with_its_place_and_a_way_out(
    tmp_path: Path, written: str, answer: str
) -> None:
    message = refusal(tmp_path, f"{MINIMAL}{written}\n")
    assert message.startswith("x.toml")
    assert answer in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".hidden", "", "a b", "a\\\\b"])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    message = refusal(tmp_path, MINIMAL.replace('"x"', f'"{name}"'))
    assert message.startswith("x.toml [name]: ")
    assert "also names a folder. Use letters, digits" in message


@pytest.mark.parametrize("name", ["x" * 101, "音" * 34])
def test_a_name_that_makes_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    message = refusal(tmp_path, MINIMAL.replace('"x"', f'"{name}"'))
    assert message == "x.toml [name]: name is longer than 100 bytes. Shorten it."


def test_a_step_that_does_not_meet_high_is_refused(tmp_path: Path) -> None:
    """Optuna would lower `high` with a warning."""
    written = "[search]\nbatch_size = { low = 8, high = 64, step = 5 }\n"
    assert refusal(tmp_path, MINIMAL + written) == (
        "x.toml [search.batch_size]: step = 5 from low = 8 doesn't meet high = 64. Try high = 63."
    )


def test_a_step_of_next_to_nothing_is_refused(tmp_path: Path) -> None:
    written = "[search]\ndropout = { low = 0.0, high = 0.5, step = 1e-320 }\n"
    assert "step = 1e-320 is too small" in refusal(tmp_path, MINIMAL + written)


def test_what_every_study_needs_is_asked_for(tmp_path: Path) -> None:
    assert refusal(tmp_path, "").splitlines() == [
        'x.toml [name]: missing. Write name = "my-study" at the top.',
        'x.toml [data]: missing. Write [data] with train = "FILE" below it.',
    ]
    assert refusal(tmp_path, 'name = "x"\n[data]\n') == (
        'x.toml [data.train]: missing. Write train = "FILE" below [data].'
    )


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    message = refusal(
        tmp_path,
        'nam = "x"\nmetric = "acuracy"\n[data]\ntrain = "x.ts"\nvalidation = 1.5\n'
        '[search]\nl1 = -1\noptimizer = "sgd"\n',
    )
    assert [line.partition(":")[0] for line in message.splitlines()] == [
        "x.toml [name]",
        "x.toml [metric]",
        "x.toml [data.validation]",
        "x.toml [search.optimizer]",
        "x.toml [search.l1]",
        "x.toml",
    ]


def test_endless_hours_are_no_budget(tmp_path: Path) -> None:
    assert "[budget.hours]: got Infinity" in refusal(tmp_path, MINIMAL + "[budget]\nhours = inf\n")


def test_a_validation_file_has_a_name(tmp_path: Path) -> None:
    assert "[data.validation]" in refusal(tmp_path, MINIMAL + 'validation = ""\n')


def test_an_empty_file_name_is_answered_in_english(tmp_path: Path) -> None:
    assert "needs String" not in refusal(tmp_path, 'name = "x"\n[data]\ntrain = ""\n')


def test_a_mistyped_off_is_answered_with_off(tmp_path: Path) -> None:
    assert "off" in refusal(tmp_path, MINIMAL + '[training]\npatience = "of"\n')


def test_an_integer_beyond_all_floats_is_refused(tmp_path: Path) -> None:
    assert "[search.l1]" in refusal(tmp_path, f"{MINIMAL}[search]\nl1 = 1{'0' * 400}\n")


# --- three tasks ---

TEXT = 'name = "x"\n[data]\ntrain = "x.csv"\ntext = "t"\nlabel = "l"\n'
SERIES = (
    'name = "x"\ntask = "forecasting"\n[data]\ntrain = "x.csv"\ntime = "t"\ntarget = "y"\n'
    "horizon = 24\n"
)
REGRESSION = 'name = "x"\ntask = "regression"\n[data]\ntrain = "x.npz"\n'


@pytest.mark.parametrize(
    ("text", "kind", "metric", "direction"),
    [
        (MINIMAL, "sequences", "accuracy", "maximize"),
        (TEXT, "texts", "accuracy", "maximize"),
        (REGRESSION, "sequences", "rmse", "minimize"),
        (SERIES, "series", "mae", "minimize"),
    ],
)
def test_a_task_has_its_metric_and_its_kind_of_rows(
    tmp_path: Path, text: str, kind: str, metric: str, direction: str
) -> None:
    study = load(tmp_path, text)
    assert (study.kind, study.metric, study.direction) == (kind, metric, direction)


@pytest.mark.parametrize("metric", ["r2", "roc_auc", "balanced_accuracy", "macro_f1"])
def test_what_is_better_the_higher_is_maximized(tmp_path: Path, metric: str) -> None:
    text = REGRESSION if metric == "r2" else MINIMAL
    assert load(tmp_path, text, f"metric={metric}").direction == "maximize"


TWO = 'metric = ["accuracy", "network_parameters"]\n'


def test_small_networks_may_be_a_second_goal(tmp_path: Path) -> None:
    study = load(tmp_path, TWO + MINIMAL)
    assert (study.metric, study.direction) == ("accuracy", "maximize")
    assert study.goals == ["accuracy", "network_parameters"]
    assert study.directions == ["maximize", "minimize"]
    assert study.pruner.name == "thaw"  # asha, the default of others, compares single values
    stored = study.model_dump(mode="json")
    assert stored["metric"] == ["accuracy", "network_parameters"]
    assert study_file.parse_stored(json.loads(json.dumps(stored)), "stored").two_goals
    assert study_file.with_defaults_of(1, study, "x") == study_file.parse_stored(stored, "x")
    assert study.model_copy(update={"seed": 1}).two_goals
    one = load(tmp_path, MINIMAL)
    assert (one.two_goals, one.goals, one.directions) == (False, ["accuracy"], ["maximize"])
    assert one.with_goals_of(study).two_goals
    assert one != one.with_goals_of(study)


def test_a_metric_that_is_overridden_may_have_two_goals(tmp_path: Path) -> None:
    study = load(tmp_path, MINIMAL, "metric=['log_loss', 'network_parameters']")
    assert study.directions == ["minimize", "minimize"]


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            '["accuracy"]',
            ': metric = ["accuracy"]: a list names two goals, first a metric, then the size of '
            'the network. Write metric = ["accuracy", "network_parameters"], or one metric.',
        ),
        (
            '["network_parameters", "log_loss"]',
            ': metric = ["network_parameters", "log_loss"]: a list names two goals, first a '
            "metric, then the size of the network. Write "
            'metric = ["log_loss", "network_parameters"], or one metric.',
        ),
        (
            '["accuracy", "macro_f1"]',
            ': metric = ["accuracy", "macro_f1"]: a list names two goals, first a metric, then '
            'the size of the network. Write metric = ["accuracy", "network_parameters"], or one '
            "metric.",
        ),
        (
            "[]",
            ": metric = []: a list names two goals, first a metric, then the size of the network. "
            'Write metric = ["accuracy", "network_parameters"], or one metric.',
        ),
        (
            '["acuracy", "network_parameters"]',
            ' [metric]: got "acuracy". Did you mean "accuracy"?',
        ),
        (
            '["rmse", "network_parameters"]',
            ' [metric]: "rmse" measures regression and forecasting, but the task here is '
            "classification. Known: accuracy, balanced_accuracy, log_loss, macro_f1, roc_auc.",
        ),
    ],
)
def test_a_list_of_metrics_that_is_no_pair_of_goals_is_refused(
    tmp_path: Path, metric: str, message: str
) -> None:
    assert refusal(tmp_path, f"metric = {metric}\n{MINIMAL}") == f"x.toml{message}"


def test_pruners_and_samplers_of_one_goal_are_refused_for_two(tmp_path: Path) -> None:
    assert refusal(tmp_path, TWO + MINIMAL, "pruner.name=asha") == (
        'x.toml: pruner "asha" compares trials by one goal, and this study has two. Choose '
        '"thaw", which pauses trials, or "none".'
    )
    assert refusal(tmp_path, TWO + MINIMAL, "sampler.name=cmaes") == (
        'x.toml: sampler "cmaes" searches for one goal, and this study has two. Choose "tpe" or '
        '"gp".'
    )
    assert load(tmp_path, TWO + MINIMAL, "pruner.name=none").pruner.name == "none"


def test_every_task_survives_being_stored_as_json(tmp_path: Path) -> None:
    for text in (MINIMAL, TEXT, REGRESSION, SERIES):
        study = load(tmp_path, text)
        stored = json.dumps(study.model_dump(mode="json"))
        assert study_file.parse(json.loads(stored), source="stored") == study


def test_a_study_stored_by_the_first_release_still_loads() -> None:
    stored = study_file.load(DEMO).model_dump(mode="json")
    old = {"train", "test", "validation", "standardize"}
    stored["data"] = {key: value for key, value in stored["data"].items() if key in old}
    del stored["model"]["embedding_size"]
    for key in ("token_insertion", "token_deletion", "token_swap"):
        del stored["search"][key]
    for key in ("jitter", "scaling", "time_masking"):
        del stored["search"][key]
    assert study_file.parse(stored, source="stored") == study_file.load(DEMO)


@pytest.mark.parametrize(
    ("key", "off", "on"),
    [
        ("word_dropout", 0, 0.2),
        ("label_smoothing", 0, [0.0, 0.1]),
        ("embedding_initializer", "uniform", ["uniform", "ppmi"]),
    ],
)
def test_a_hyperparameter_that_the_first_release_lacks_is_stored_where_it_is_used(
    key: str, off: object, on: object
) -> None:
    data = {"train": "x.csv", "text": "t", "label": "l"}

    def parse(**search: object) -> Specification:
        return study_file.parse({"name": "x", "data": data, "search": search}, source="x")

    plain = parse()
    assert parse(**{key: off}) == plain
    assert key not in plain.model_dump(mode="json")["search"]
    assert key not in dict(plain.searchable())
    used = parse(**{key: on})
    assert used.model_dump(mode="json")["search"][key] == on
    assert dict(used.searchable())[key] == on
    assert study_file.parse_stored(used.model_dump(mode="json"), "x").search == used.search


def test_only_what_can_matter_is_a_hyperparameter(tmp_path: Path) -> None:
    of_text = {"embedding_size", "token_insertion", "token_deletion", "token_swap"}
    of_numbers = {"jitter", "scaling", "time_masking"}
    everything = of_text | of_numbers
    for text, expected in ((TEXT, of_text), (MINIMAL, of_numbers), (SERIES, of_numbers)):
        names = {name for name, _ in load(tmp_path, text).searchable()}
        assert names & everything == expected
        assert not names & {"vocabulary", "max_tokens"}


def test_a_length_of_texts_is_searched_where_it_has_choices(tmp_path: Path) -> None:
    study = load(tmp_path, TEXT + "max_tokens = [32, 64]\n")
    assert dict(study.searchable())["max_tokens"] == [32, 64]
    study = load(tmp_path, TEXT, "data.max_tokens={ low = 16, high = 64, log = true }")
    assert dict(study.searchable())["max_tokens"] == Range(low=16, high=64, log=True)


def test_a_vocabulary_is_a_hyperparameter_where_it_is_given(tmp_path: Path) -> None:
    study = load(tmp_path, TEXT + "vocabulary = 2_000\nmax_tokens = { low = 1, high = 9 }\n")
    assert dict(study.searchable())["vocabulary"] == 2000
    assert list(space.searched(study))[-1] == "max_tokens"
    assert "vocabulary" not in space.searched(study)


def test_a_stored_study_may_have_searched_its_vocabulary(tmp_path: Path) -> None:
    content = load(tmp_path, TEXT).model_dump(mode="json")
    content["data"]["vocabulary"] = [2000, 8000]
    stored = study_file.parse(content, "stored", stored=True)
    assert (
        space.hyperparameters(
            dict.fromkeys(space.searched(stored), 1) | {"vocabulary": 8000}, stored
        ).vocabulary
        == 8000
    )


MISFITS = [
    (MINIMAL, "horizon = 3", "horizon is for forecasting, but the task here is classification."),
    (MINIMAL, "horizon = 3", 'Remove it, or write task = "forecasting" at the top.'),
    (MINIMAL, 'target = "y"', "target is for regression and forecasting, but the task here is"),
    (MINIMAL, "max_tokens = 9", "max_tokens is for texts, but the rows here are sequences."),
    (MINIMAL, "max_tokens = 9", 'or name the column of texts: text = "COLUMN" under [data].'),
    (TEXT, "standardize = false", "standardize is for sequences, but the rows here are texts."),
    (TEXT, 'id = "i"', "id is for sequences, but the rows here are texts. Remove it."),
    (TEXT, 'time = "i"', "time is for sequences and series, but the rows here are texts."),
    (SERIES, 'text = "t"', "text is for classification and regression, but the task here is"),
    (SERIES, 'class_weights = "balanced"', "class_weights is for classification, but the task"),
    (SERIES, 'label = "y"', "label is for classification, but the task here is forecasting."),
    (SERIES, "window = 12", "window = 12 is shorter than horizon = 24: its last 24 steps carry"),
    (
        SERIES,
        'test = 0.1\nvalidation = "y.csv"',
        'test = 0.1 is a part of the training rows, but the rows of validation = "y.csv" follow',
    ),
    (MINIMAL, "test = 100", "test = 100 is a number of rows, which only forecasting takes."),
    (MINIMAL, "folds = 5\nvalidation = 0.3", "folds and validation exclude each other"),
    (
        SERIES,
        "folds = 3\nvalidation = 0.3",
        "validation = 0.3 with folds = 3: each fold validates on a number of steps, such as "
        "validation = 24.",
    ),
    (MINIMAL, "folds = 1", "[data.folds]: got 1, needs greater than or equal to 2."),
    (TEXT, 'tokenizer = "words"', '[data.tokenizer]: got "words". Did you mean "word"?'),
    (TEXT, "max_tokens = 0", "max_tokens = 0 must be at least 1."),
    (TEXT, "vocabulary = 2", "[data.vocabulary]: vocabulary = 2 must be at least 3."),
    (TEXT, "vocabulary = [9, 2]", "[data.vocabulary]: vocabulary = 2 must be at least 3."),
    (
        TEXT,
        "vocabulary = [1000, 8000]",
        "x.toml [data.vocabulary]: vocabulary = [1000, 8000]: one study reads one vocabulary. "
        "Give a single size, or tune one study for each.",
    ),
    (TEXT, "vocabulary = 9.5", "vocabulary = 9.5 is not a whole number."),
    (
        TEXT,
        "vocabulary = { low = 2000, high = 8000, log = true }",
        "vocabulary = { low, high }: one study reads one vocabulary. Give a single size",
    ),
    (MINIMAL, "vocabulary = 99", "vocabulary is for texts, but the rows here are sequences."),
    (SERIES, "[search]\nlabel_smoothing = 0.1", "[search.label_smoothing] is for classification"),
    (TEXT, "[search]\njitter = 0.1", "[search.jitter] is for sequences and series, but the rows"),
    (MINIMAL, "[search]\ntoken_swap = 0.1", "[search.token_swap] is for texts, but the rows here"),
    (MINIMAL, "[model]\nembedding_size = 8", "[model.embedding_size] is for texts, but the rows"),
    (
        TEXT,
        "[search]\ntoken_swap = 1.5",
        "[search.token_swap]: token_swap = 1.5 must be at most 1.",
    ),
    (TEXT, 'txt = "x"', '[data]: unknown key "txt". Did you mean "text"?'),
    (
        MINIMAL,
        "[[try]]\nlearning_rat = 1",
        'x.toml [[try]] 1 [search]: unknown key "learning_rat". Did you mean "learning_rate"?',
    ),
    (
        MINIMAL,
        "[[try]]\n[[try]]\nlearning_rate = -1",
        "x.toml [[try]] 2 [search.learning_rate]: learning_rate = -1 must be above 0.",
    ),
    (MINIMAL, "[[try]]\nlayers = [1, 2]", "x.toml [try]: table 1: layers needs one value, not [1,"),
    (
        MINIMAL.replace("[data]", '[sampler]\nname = "grid"\n[data]'),
        '[search]\nlearning_rate = [0.1]\ndecay = "constant"\nclip_norm = 1.0\nl1 = 0\nl2 = 0\n'
        "dropout = 0\n[[try]]\nlearning_rate = 0.1",
        "nothing is tried first. Remove [[try]], or choose another sampler.",
    ),
    (MINIMAL, "[try]\nlayers = 1", "x.toml [try]: is a list of tables. Write [[try]] and"),
    (MINIMAL, "[[try]]\nepochs = 3", 'unknown key "epochs". It belongs under [training].'),
    (MINIMAL, "[[try]]\ntoken_swap = 0.1", "[search.token_swap] is for texts, but the rows here"),
]


def test_configurations_to_try_are_kept_as_they_are_written() -> None:
    tables = [{"learning_rate": 1e-3, "layers": 2}, {}, {"decay": "cosine"}]
    content = {"name": "x", "data": {"train": "x.npz"}, "try": tables}
    spec = study_file.parse(content, "x.toml")
    assert spec.tries == tables
    stored = spec.model_dump(mode="json")
    assert study_file.parse_stored(stored, "x").tries == tables
    # A study that version 0.1.0 can read has no such key.
    assert "try" not in spec.model_copy(update={"tries": []}).model_dump(mode="json")


@pytest.mark.parametrize(("study", "written", "answer"), MISFITS)
def test_what_does_not_fit_the_task_is_answered_with_what_it_is_for(
    tmp_path: Path, study: str, written: str, answer: str
) -> None:
    message = refusal(tmp_path, f"{study}{written}\n")
    assert message.startswith("x.toml")
    assert answer in message
    assert "\n" not in message


def test_a_metric_of_another_task_is_answered_with_those_of_this_one(tmp_path: Path) -> None:
    assert refusal(tmp_path, MINIMAL, "metric=rmse") == (
        'x.toml [metric]: "rmse" measures regression and forecasting, but the task here is '
        "classification. Known: accuracy, balanced_accuracy, log_loss, macro_f1, roc_auc."
    )


@pytest.mark.parametrize(
    ("text", "key"), [(TEXT, "label"), (SERIES, "time"), (SERIES, "target"), (SERIES, "horizon")]
)
def test_what_a_task_needs_is_asked_for(tmp_path: Path, text: str, key: str) -> None:
    lines = [line for line in text.splitlines() if not line.startswith(f"{key} =")]
    message = refusal(tmp_path, "\n".join(lines))
    assert message.startswith(f"x.toml [data]: {key} is missing. Write {key} = ")


@pytest.mark.parametrize("task", ["clasification", 3, ["regression"], {}])
def test_a_task_that_is_none_is_refused(task: Any) -> None:
    content = {"name": "x", "task": task, "data": {"train": "x.ts"}}
    with pytest.raises(StudyFileError, match=r"x\.toml \[task\]: got"):
        study_file.parse(content, source="x.toml")


# --- --set ---


def test_an_override_is_a_toml_value(tmp_path: Path) -> None:
    search = load(
        tmp_path,
        MINIMAL + "[search]\ndropout = 0.1\n",
        "search.dropout=0.2",
        "search.l1 = { low = 1e-6, high = 1e-3, log = true }",
        "search.batch_size=[16, 32]",
    ).search
    assert search.dropout == 0.2
    assert search.l1 == Range(low=1e-6, high=1e-3, log=True)
    assert search.batch_size == [16, 32]


def test_an_override_may_be_a_bare_word_for_shells_that_eat_quotes(tmp_path: Path) -> None:
    study = load(tmp_path, MINIMAL, "search.optimizer=adam", "data.train=y.ts", "name=y")
    assert (study.search.optimizer, study.data.train, study.name) == ("adam", "y.ts", "y")


def test_the_last_override_of_a_key_wins(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL, "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize("override", ["search.dropout", "=1", "search.=1", ".dropout=1"])
def test_an_override_without_key_or_value_is_refused(tmp_path: Path, override: str) -> None:
    message = refusal(tmp_path, MINIMAL, override)
    assert message == f"--set {override}: write --set section.key=value."


def test_an_override_below_a_value_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, MINIMAL, "name.first=1")
    assert message == "--set name.first=1: name is a value, not a section."


def test_an_override_is_checked_like_the_file(tmp_path: Path) -> None:
    message = refusal(tmp_path, MINIMAL, "search.dropuot=0.2")
    assert message == 'x.toml [search]: unknown key "dropuot". Did you mean "dropout"?'


# --- any valid hyperparameter ---

POSITIVE = st.floats(min_value=0, exclude_min=True, allow_nan=False, allow_infinity=False)
WHOLE = st.integers(1, 4096)


def written(values: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    """What a study file may say: one value, a list, a range."""
    extra = st.sampled_from(["", "log", "step"])
    ranges = st.tuples(values, values, extra).map(_range_of)
    return values | st.lists(values, min_size=1, unique=True) | ranges


def _range_of(drawn: tuple[float, float, str]) -> dict[str, float]:
    low, high = sorted(drawn[:2])
    if drawn[2] == "log":
        return {"low": low, "high": high, "log": True}
    # One step from end to end always meets both.
    return {"low": low, "high": high} | ({"step": high - low} if drawn[2] and high > low else {})


def dump(parsed: Searchable) -> Any:
    return parsed.model_dump() if isinstance(parsed, Range) else parsed


@given(raw=written(POSITIVE) | st.just("off"))
def test_any_number_survives_storage_unchanged(raw: Any) -> None:
    number = Number(above=0, may_be_off=True)
    parsed = number.parse(raw, "x")
    assert dump(parsed) == raw
    assert repr(number.parse(json.loads(json.dumps(dump(parsed))), "x")) == repr(parsed)


@given(raw=written(WHOLE))
def test_any_whole_number_survives_storage_unchanged(raw: Any) -> None:
    number = Number(integer=True, at_least=1, at_most=4096)
    parsed = number.parse(raw, "x")
    assert dump(parsed) == raw
    assert repr(number.parse(json.loads(json.dumps(dump(parsed))), "x")) == repr(parsed)


# --- the schema for editors ---


def test_the_schema_next_to_the_studies_is_the_codes() -> None:
    text = (REPOSITORY / "studies" / "study.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == study_file.json_schema(), "run: make schema"


def test_the_schema_knows_every_key_and_no_other() -> None:
    schema = study_file.json_schema()
    fields = Specification.model_fields.items()
    assert set(schema["properties"]) == {field.alias or name for name, field in fields}
    assert set(schema["required"]) == {"name", "data"}
    for part in (schema, *schema["$defs"].values()):
        assert part["additionalProperties"] is False
    for section in ("Data", "Model", "Search", "Training", "Budget", "Sampler", "Pruner"):
        keys = getattr(study_file, section).model_fields
        assert set(schema["$defs"][section]["properties"]) == set(keys)


def test_the_schema_describes_every_key() -> None:
    schema = study_file.json_schema()
    sections = {name: part for name, part in schema["$defs"].items() if name != "Range"}
    undescribed = [
        f"{name}.{key}"
        for name, part in {"": schema, **sections}.items()
        for key, field in part["properties"].items()
        if not field.get("description") and "$ref" not in field
    ]
    assert undescribed == []


def test_the_schema_offers_a_value_a_list_or_a_range() -> None:
    one, many, table = study_file.json_schema()["$defs"]["Search"]["properties"]["dropout"]["anyOf"]
    assert one == {"type": "number", "minimum": 0, "exclusiveMaximum": 1}
    assert many == {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}
    assert table["properties"]["low"] == table["properties"]["high"] == one
    assert table["required"] == ["low", "high"]
    assert table["additionalProperties"] is False


def test_the_schema_lists_the_options() -> None:
    search = study_file.json_schema()["$defs"]["Search"]["properties"]
    assert search["optimizer"]["anyOf"][0] == {"enum": ["adam", "rmsprop"]}
    assert {"const": "off"} in search["clip_norm"]["anyOf"][0]["anyOf"]


def test_the_schema_is_titled_for_editors() -> None:
    assert study_file.json_schema()["title"] == "gru-optuna study"
