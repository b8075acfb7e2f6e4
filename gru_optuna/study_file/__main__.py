"""``python -m gru_optuna.study_file``: the JSON schema of a study file."""

import json

from gru_optuna.study_file.load import json_schema

print(json.dumps(json_schema(), indent=2, ensure_ascii=False))  # noqa: T201
