"""The sections of a study file, each with its keys, their bounds and defaults."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from gru_optuna.errors import did_you_mean
from gru_optuna.hyperparameters import (
    DECAY_PARAMETERS,
    Decay,
    EmbeddingInitializer,
    Initializer,
    Optimizer,
    Pooling,
    Value,
)
from gru_optuna.study_file.checks import (
    check_data,
    check_hyperparameters,
    idle_hyperparameters,
    kind_of,
)
from gru_optuna.study_file.data_section import Data, StudySection, _Share, is_stored
from gru_optuna.study_file.searchable import Number, Option, Range, Searchable
from gru_optuna.study_file.tasks import (
    DATA_HYPERPARAMETERS,
    MAXIMIZED,
    METRICS,
    SIZE,
    Kind,
    Metric,
    Task,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# Letters of any script, digits and . _ - because a name is also a folder and a command's argument.
_NAME = re.compile(r"\w[\w.-]*")
_CONSTRAINT = re.compile(r"\s*network_parameters\s*<=\s*[1-9](_?\d){0,15}\s*")
_AN_EXAMPLE = '"network_parameters <= 20000"'
_SIZES: list[Value] = [32, 64, 128]
_BATCH_SIZES: list[Value] = [16, 32, 64, 128]
_NAME_BYTES = 100  # a file name holds 255, and ours append to it


def section_of(hyperparameter: str) -> Literal["model", "search", "data"]:
    """The section of a study file in which a hyperparameter stands."""
    if hyperparameter in DATA_HYPERPARAMETERS:
        return "data"
    return "model" if hyperparameter in Model.model_fields else "search"


class Model(StudySection):
    """``[model]``: the structure of the network."""

    embedding_size: Annotated[Searchable, Number(integer=True, at_least=1, at_most=4096)] = Field(
        _SIZES, description="texts: numbers that a token becomes."
    )
    hidden_size: Annotated[Searchable, Number(integer=True, at_least=1, at_most=4096)] = Field(
        _SIZES, description="Size of the state of each layer and direction."
    )
    layers: Annotated[Searchable, Number(integer=True, at_least=1, at_most=16)] = Field(
        1, description="Number of stacked GRU layers."
    )
    bidirectional: Annotated[Searchable, Option((False, True))] = Field(
        False, description="A second GRU in each layer reads the row backwards."
    )
    pooling: Annotated[Searchable, Option(get_args(Pooling))] = Field(
        "last",
        description="What the head reads of the last layer's outputs. last: the state after the "
        "last step; mean, max: over all steps; mean_max: both, side by side.",
    )


class Search(StudySection):
    """``[search]``: how the network is trained. A key left out is searched as shown here."""

    newer = ("embedding_initializer", "label_smoothing", "word_dropout")

    learning_rate: Annotated[Searchable, Number(above=0)] = Field(
        Range(low=1e-4, high=1e-1, log=True), description="Learning rate of the first epoch."
    )
    optimizer: Annotated[Searchable, Option(get_args(Optimizer))] = Field(
        list(get_args(Optimizer)), description="With PyTorch's default settings."
    )
    decay: Annotated[Searchable, Option(get_args(Decay))] = Field(
        list(get_args(Decay)), description="How the learning rate changes from epoch to epoch."
    )
    decay_rate: Annotated[Searchable, Number(at_least=0)] = Field(
        Range(low=1e-2, high=1.0, log=True),
        description="decay time: epoch e has the learning rate divided by 1 + decay_rate * e.",
    )
    decay_drop: Annotated[Searchable, Number(above=0, at_most=1)] = Field(
        Range(low=0.1, high=0.9), description="decay step: the factor of each drop."
    )
    decay_every: Annotated[Searchable, Number(integer=True, at_least=1)] = Field(
        Range(low=2, high=20), description="decay step: epochs from one drop to the next."
    )
    decay_gamma: Annotated[Searchable, Number(above=0, at_most=1)] = Field(
        Range(low=0.8, high=0.999), description="decay exponential: the factor of each epoch."
    )
    decay_floor: Annotated[Searchable, Number(at_least=0, at_most=1)] = Field(
        Range(low=1e-3, high=0.5, log=True),
        description="decay cosine: where it ends, as a share of the learning rate.",
    )
    clip_norm: Annotated[Searchable, Number(above=0, may_be_off=True)] = Field(
        Range(low=0.1, high=10.0, log=True),
        description="The norm to which all gradients together are clipped; off: no clipping.",
    )
    # he_uniform differs from he_normal in its tails only; it is searched where it is listed.
    initializer: Annotated[Searchable, Option(get_args(Initializer))] = Field(
        [name for name in get_args(Initializer) if name != "he_uniform"],
        description="How initial weights are drawn, gate by gate; biases start at zero.",
    )
    embedding_initializer: Annotated[Searchable, Option(get_args(EmbeddingInitializer))] = Field(
        "uniform",
        description="texts: where embeddings start. uniform: at random; ppmi: from the tokens "
        "that occur together in the training rows.",
    )
    l1: Annotated[Searchable, Number(at_least=0)] = Field(
        Range(low=1e-8, high=1e-3, log=True),
        description="Penalty on the sum of the absolute weights; biases and embeddings have none.",
    )
    l2: Annotated[Searchable, Number(at_least=0)] = Field(
        Range(low=1e-8, high=1e-2, log=True),
        description="Penalty on the sum of the squared weights; biases and embeddings have none.",
    )
    dropout: Annotated[Searchable, Number(at_least=0, below=1)] = Field(
        Range(low=0.0, high=0.6),
        description="Dropout on the output of each layer, with one mask for all steps of a row.",
    )
    label_smoothing: Annotated[Searchable, Number(at_least=0, below=1)] = Field(
        0.0,
        description="classification: share of a training row's target that is spread evenly over "
        "all classes.",
    )
    batch_size: Annotated[Searchable, Number(integer=True, at_least=1)] = Field(
        _BATCH_SIZES, description="Rows of a batch; the last one of an epoch may be smaller."
    )
    token_insertion: _Share = Field(
        0.0, description="texts: share of random tokens that are inserted into a training row."
    )
    token_deletion: _Share = Field(
        0.0, description="texts: share of a training row's tokens that are removed."
    )
    token_swap: _Share = Field(
        0.0, description="texts: share of a training row's tokens that are exchanged."
    )
    word_dropout: _Share = Field(
        0.0, description="texts: share of a training row's tokens that become the unknown token."
    )
    jitter: Annotated[Searchable, Number(at_least=0)] = Field(
        0.0, description="sequences, series: deviation of the noise on each step in training."
    )
    scaling: Annotated[Searchable, Number(at_least=0)] = Field(
        0.0, description="sequences, series: deviation of each channel's factor in training."
    )
    time_masking: _Share = Field(
        0.0,
        description="sequences, series: the longest stretch of a training row that becomes 0, as a "
        "share of it.",
    )


class Training(StudySection):
    """``[training]``: how long one trial trains."""

    epochs: int = Field(40, ge=1, le=100_000, description="Epochs of a trial at most.")
    patience: Annotated[int, Field(ge=1)] | Literal["off"] = Field(
        5, description="Epochs without a better validation metric after which a trial stops."
    )


class Budget(StudySection):
    """``[budget]``: how long the study searches. It may be raised at any time."""

    newer = ("epochs",)

    trials: int | None = Field(None, ge=1, description="Trials in total, over all runs.")
    epochs: int | None = Field(
        None, ge=1, description="Epochs of all trials together, over all runs."
    )
    hours: float | None = Field(None, gt=0, description="Hours of tuning in total, over all runs.")

    @model_validator(mode="before")
    @classmethod
    def _has_an_end(cls, content: Any) -> Any:
        return content or {"trials": 100}


class Sampler(StudySection):
    """``[sampler]``: what proposes the next trial; names and options are Optuna's."""

    name: Literal["tpe", "gp", "random", "grid", "qmc", "cmaes"] = Field(
        "tpe", description="tpe, gp: model the results; grid: each configuration of lists once."
    )
    n_startup_trials: int = Field(
        10, ge=0, description="Random trials before tpe or gp build a model."
    )


class Pruner(StudySection):
    """``[pruner]``: what ends or pauses a trial early; all names but thaw are Optuna's."""

    newer = ("first_rung",)

    name: Literal["asha", "thaw", "hyperband", "median", "percentile", "none"] = Field(
        "asha",
        description="asha: asynchronous successive halving; thaw: the same, but trials are paused "
        "and may continue; none: no trial is pruned.",
    )
    min_resource: int | None = Field(
        None,
        ge=1,
        description="asha, hyperband: epochs before the first cut; else 6% of the epochs.",
    )
    reduction_factor: int | None = Field(
        None,
        ge=2,
        description="asha, thaw, hyperband: one in this many continues; else 4, 4, 3.",
    )
    first_rung: int | None = Field(
        None,
        ge=1,
        description="thaw: epochs before the first comparison; else as many as 7 updates take.",
    )
    percentile: float = Field(
        25.0, gt=0, lt=100, description="percentile: the percentage that continues."
    )
    n_startup_trials: int = Field(
        5, ge=0, description="median, percentile: first trials that are never pruned."
    )
    n_warmup_steps: int = Field(
        0, ge=0, description="median, percentile: first epochs without pruning."
    )


class Confirmation(StudySection):
    """``[confirmation]``: how the best trials are confirmed after the search."""

    candidates: int = Field(
        5, ge=0, le=1000, description="Best configurations that are trained again; 0: none."
    )
    seeds: int = Field(5, ge=1, le=1000, description="Fresh seeds that each of them is trained on.")


def _or_two_goals(schema: dict[str, Any]) -> None:
    """Adds to the metric's schema that a list of a metric and the size is possible, too."""
    names = {"enum": schema.pop("enum"), "type": schema.pop("type")}
    two = {"type": "array", "prefixItems": [names, {"const": SIZE}], "minItems": 2, "maxItems": 2}
    schema["anyOf"] = [names, two]


class Specification(StudySection):
    """A whole study file."""

    name: str = Field(description="The study's name in the database, the report and commands.")
    task: Task = Field(
        "classification",
        description="Classes or numbers for texts and sequences, or forecasts of series.",
    )
    metric: Metric = Field(
        default_factory=lambda checked: METRICS[checked["task"]][0],
        description="Measured on validation rows after each epoch, and improved by the search; "
        'with small networks as a second goal, ["accuracy", "network_parameters"].',
        json_schema_extra=_or_two_goals,
    )
    _two_goals: bool = PrivateAttr(default=False)
    seed: int = Field(
        0, ge=0, lt=2**31, description="Determines everything that is drawn at random."
    )
    data: Data
    model: Model = Model()
    search: Search = Search()
    training: Training = Training()
    budget: Budget = Budget()
    sampler: Sampler = Sampler()
    pruner: Pruner = Pruner()
    confirmation: Confirmation = Confirmation()
    constraints: list[str] = Field(
        [],
        description='What a configuration must satisfy, such as "network_parameters <= 20000". '
        "One that doesn't is never trained.",
    )
    tries: list[dict[str, Value]] = Field(
        [],
        alias="try",
        description="Configurations to try first, one for each table [[try]]; hyperparameters that "
        "a table leaves out are proposed.",
    )
    baselines: dict[str, float] = Field(
        {},
        description="Values of the metric to beat, by name, which are printed next to the result.",
    )
    fit_baselines: bool = Field(
        True,
        description="Fit simple models to the training rows while the search runs, and compare "
        "the winner with the best of them.",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _reads_two_goals(
        cls, content: Any, validate: ModelWrapValidatorHandler[Specification]
    ) -> Specification:
        # Everything that reads one metric reads the first goal; the second is the same in all
        # studies that have one.
        goals = content.get("metric") if isinstance(content, dict) else None
        if not isinstance(goals, list):
            return validate(content)
        content = {**content, "metric": next((goal for goal in goals if goal != SIZE), None)}
        if content["metric"] is None:
            del content["metric"]
        if isinstance(pruner := content.get("pruner", {}), dict):
            content["pruner"] = {"name": "thaw"} | pruner
        spec = validate(content)
        if goals[1:] != [SIZE]:
            raise ValueError(
                f"metric = {json.dumps(goals)}: a list names two goals, first a metric, then the "
                f'size of the network. Write metric = ["{spec.metric}", "{SIZE}"], or one metric.'
            )
        if spec.pruner.name not in ("thaw", "none"):
            raise ValueError(
                f'pruner "{spec.pruner.name}" compares trials by one goal, and this study has two. '
                f'Choose "thaw", which pauses trials, or "none".'
            )
        if spec.sampler.name == "cmaes":
            raise ValueError(
                'sampler "cmaes" searches for one goal, and this study has two. Choose "tpe" or '
                '"gp".'
            )
        spec._two_goals = True
        return spec

    @model_serializer(mode="wrap")
    def _without_newer_keys(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Version 0.1.0 refuses keys that it doesn't know, so only studies that need one have it.
        content: dict[str, Any] = serialize(self)
        if self._two_goals and "metric" in content:
            content["metric"] = self.goals
        tries = content.pop("tries", [])
        if not self.constraints:
            content.pop("constraints", None)
        content = {k: v for k, v in content.items() if k != "fit_baselines" or not v}
        return content | ({"try": tries} if tries else {})

    @field_validator("constraints")
    @classmethod
    def _can_be_checked(cls, constraints: list[str]) -> list[str]:
        for constraint in constraints:
            if not _CONSTRAINT.fullmatch(constraint):
                raise ValueError(
                    f"{json.dumps(constraint)} is not a constraint that can be checked before a "
                    f"network is trained. Write one such as {_AN_EXAMPLE}."
                )
        return constraints

    @field_validator("tries", mode="before")
    @classmethod
    def _holds_single_values(cls, tries: object) -> object:
        tables = tries if isinstance(tries, list) else [tries]
        for number, table in enumerate(tables, 1):
            if not isinstance(tries, list) or not isinstance(table, dict):
                raise ValueError("is a list of tables. Write [[try]] and hyperparameters below it.")
            for name, value in table.items():
                if not isinstance(value, bool | int | float | str):
                    raise ValueError(
                        f"table {number}: {name} needs one value, not {json.dumps(value)}."
                    )
        return tries

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if len(name.encode()) > _NAME_BYTES:
            raise ValueError(f"name is longer than {_NAME_BYTES} bytes. Shorten it.")
        if not _NAME.fullmatch(name):
            raise ValueError(
                f'name = "{name}" also names a folder. Use letters, digits, dots, '
                f"dashes and underscores, and begin with a letter or digit."
            )
        return name

    @field_validator("metric")
    @classmethod
    def _measures_the_task(cls, metric: Metric, info: ValidationInfo) -> Metric:
        task = info.data.get("task")
        if task is not None and metric not in METRICS[task]:
            tasks = " and ".join(other for other in METRICS if metric in METRICS[other])
            raise ValueError(
                f'"{metric}" measures {tasks}, but the task here is {task}. '
                f"{did_you_mean('', METRICS[task])}"
            )
        return metric

    @field_validator("data")
    @classmethod
    def _fits_the_task(cls, data: Data, info: ValidationInfo) -> Data:
        if task := info.data.get("task"):
            check_data(data, task, stored=is_stored(info))
        return data

    @model_validator(mode="after")
    def _hyperparameters_matter(self, info: ValidationInfo) -> Specification:
        if not is_stored(info):
            sections = {"model": self.model, "search": self.search}
            check_hyperparameters(sections, self.task, self.kind)
        return self

    @model_validator(mode="after")
    def _grid_needs_lists_alone(self) -> Specification:
        if self.sampler.name == "grid":
            for key, value in self.searchable():
                if isinstance(value, Range):
                    raise ValueError(
                        f"[search.{key}] is a range, but sampler grid needs lists. "
                        f"Write {key} = [{value.low}, …, {value.high}], or choose another sampler."
                    )
            if self.tries:
                raise ValueError(
                    "sampler grid tries each configuration of its lists once, so nothing is tried "
                    "first. Remove [[try]], or choose another sampler."
                )
        return self

    @property
    def most_parameters(self) -> int | None:
        """The most numbers that a network may learn; None: as many as it has."""
        limits = [c.partition("<=")[2].replace("_", "") for c in self.constraints]
        return min(map(int, limits), default=None)

    @property
    def two_goals(self) -> bool:
        """Whether small networks are a second goal, next to the metric."""
        return self._two_goals

    @property
    def goals(self) -> list[str]:
        """What the search improves, the metric first."""
        return [self.metric, SIZE] if self.two_goals else [self.metric]

    def with_goals_of(self, other: Specification) -> Specification:
        """This specification with as many goals as another one has."""
        changed = self.model_copy()
        changed._two_goals = other.two_goals
        return changed

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """The direction of every goal, the metric's first, as Optuna takes them."""
        return [self.direction, "minimize"] if self.two_goals else [self.direction]

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """Whether the metric is minimized or maximized."""
        return "maximize" if self.metric in MAXIMIZED else "minimize"

    def as_loss(self, value: float) -> float:
        """A value of the metric with its sign turned, if need be, so that lower is better."""
        return -value if self.direction == "maximize" else value

    @property
    def kind(self) -> Kind:
        """Whether the rows are texts, sequences or series."""
        return kind_of(self.data, self.task)

    def searchable(self) -> Iterator[tuple[str, Searchable]]:
        """All hyperparameters that can have an effect, fixed ones too, by name.

        The parameters of a decay that isn't among the choices are left out, and so are
        hyperparameters that have no effect on this kind of rows.
        """
        decays = self.search.decay if isinstance(self.search.decay, list) else [self.search.decay]
        idle = {
            name
            for decay, names in DECAY_PARAMETERS.items()
            if decay not in decays
            for name in names
        }
        idle |= idle_hyperparameters(self.task, self.kind)
        for section in (self.model, self.search):
            for name in type(section).model_fields:
                if name not in idle and not section.is_idle(name):
                    yield name, getattr(section, name)
        for name in DATA_HYPERPARAMETERS:
            if (value := getattr(self.data, name)) is not None:
                yield name, value
