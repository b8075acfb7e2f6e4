"""``python -m gru_optuna.spec``: the JSON schema of a study file."""

import json

from gru_optuna.spec.loading import json_schema

print(json.dumps(json_schema(), indent=2, ensure_ascii=False))  # noqa: T201
