"""Every endpoint against requests made up from the service's own schema: none is answered with an error of ours.

GLAM_SCHEMA_CASES=5000 .venv/bin/pytest tests/app/service/test_schema.py       thousands of requests an endpoint
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from PIL import Image

import glam
from glam.app.service.app import create_app
from glam.app.service.middleware.auth import Access
from glam.datasets.readers import read_folder
from glam.index import Index, build
from glam.inference.pipeline import Settings

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from hypothesis.errors import Unsatisfiable  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CASES = int(os.environ.get("GLAM_SCHEMA_CASES", "25"))
"""Of each endpoint."""

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance)

PAIRS = ("/attention", "/matches")
"""Endpoints whose answers hold pairs of numbers, of which schemathesis misreads the schema (``prefixItems``)."""


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, serve: Any) -> Iterator["schemathesis.BaseSchema"]:
    """The schema of a running service."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "images").mkdir()
    for seed in range(4):
        Image.effect_noise((64, 48), 20 + 40 * seed).convert("RGB").save(folder / "images" / f"{seed}.png")
    model = glam.load("glam-lite0", "cpu")
    build(folder / "i.glam", read_folder(folder / "images"), model, settings=Settings(64, workers=1))
    app = create_app(Index.open(folder / "i.glam"), model, access=Access(allow_writes=True), owns_index=True)
    with serve(app, 5) as (port, _):
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_that_fits_the_schema_or_not_is_answered_with_an_error_of_ours(
    api: "schemathesis.BaseSchema", mode: GenerationMode
) -> None:
    for found in api.get_all_operations():
        with suppress(Unsatisfiable):  # nothing wrong can be sent to an endpoint without parameters
            ask(found.ok(), mode)


def ask(operation: Any, mode: GenerationMode) -> None:
    """Sends requests made up for an endpoint, and checks the answers."""
    checks = CHECKS if operation.path.endswith(PAIRS) else (*CHECKS, response_schema_conformance)

    @settings(
        max_examples=CASES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: "schemathesis.Case") -> None:
        case.call_and_validate(checks=checks)

    send()
