"""The OpenAPI document against the service: generated requests, right and wrong, for each role."""

from __future__ import annotations

from contextlib import suppress

import pytest
import schemathesis
from helpers.services import Service, add_trials, serving, submit
from hypothesis import Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gru_optuna.storage.tokens import Role

schemathesis.serializer.alias("application/toml", "text/plain")

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def service(tmp_path_factory, nursery):
    folder = tmp_path_factory.mktemp("service")
    with serving(folder, roles=True, nursery=nursery) as running:
        yield running


def check_all_operations(service: Service, role: Role, examples: int) -> int:
    """Sends generated requests to every operation; returns how many."""
    with service.client(role) as client:
        schema = schemathesis.openapi.from_dict(client.get("/v1/openapi.json").json())
    schema.config.update(base_url=service.address.rstrip("/"))
    headers = {"Authorization": f"Bearer {service.tokens[role]}"}
    sent = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        # A study that exists has a stream that never ends.
        names = [{}, {"name": "films"}] if "/studies/{name}" in operation.path else [{}]
        for known in names if not operation.path.endswith("/events") else [{}]:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

                @seed(1)
                @settings(
                    max_examples=examples,
                    database=None,
                    phases=[Phase.generate],
                    deadline=None,
                )
                @given(operation.as_strategy(mode, path_parameters=known or None))
                def send(case: schemathesis.Case) -> None:
                    nonlocal sent
                    sent += 1
                    case.call_and_validate(headers=headers, checks=CHECKS)

                with suppress(Unsatisfiable):  # where nothing can be wrong
                    send()
    return sent


@pytest.mark.parametrize("role", Role, ids=str)
@pytest.mark.parametrize(
    "examples", [3, pytest.param(50, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])]
)
def test_every_answer_to_a_generated_request_is_declared(service, role, examples) -> None:
    with service.client(Role.ADMINISTRATOR) as client:
        if client.get("/v1/studies/films").status_code == 404:
            submit(client)
            add_trials(service, "films", 2)
    assert check_all_operations(service, role, examples) > 15 * examples
