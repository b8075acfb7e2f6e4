"""The study file: one TOML file, one typed object.

`load` reads and checks the whole file and reports every mistake at once, each with its place.
``python -m gru_optuna.study_file`` prints the JSON schema with which editors complete study files.
"""

from gru_optuna.study_file.data_section import Data
from gru_optuna.study_file.load import json_schema, load, loads, parse, read_toml
from gru_optuna.study_file.sections import (
    Budget,
    Confirmation,
    Model,
    Pruner,
    Sampler,
    Search,
    Specification,
    Training,
    section_of,
)
from gru_optuna.study_file.stored import (
    VERSION,
    complete_pruner,
    parse_stored,
    with_defaults_of,
)
from gru_optuna.study_file.tasks import (
    DATA_HYPERPARAMETERS,
    METRICS,
    SIZE,
    Kind,
    Metric,
    Task,
    minimized,
)

__all__ = [
    "DATA_HYPERPARAMETERS",
    "METRICS",
    "SIZE",
    "VERSION",
    "Budget",
    "Confirmation",
    "Data",
    "Kind",
    "Metric",
    "Model",
    "Pruner",
    "Sampler",
    "Search",
    "Specification",
    "Task",
    "Training",
    "complete_pruner",
    "json_schema",
    "load",
    "loads",
    "minimized",
    "parse",
    "parse_stored",
    "read_toml",
    "section_of",
    "with_defaults_of",
]
