"""Everything that the tests share."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stage import Stage


@pytest.fixture(scope="module")
def models() -> list[dict[str, Any]]:
    """LiteLLM's configuration of the models that a file needs besides."""
    return []


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, models: list[dict[str, Any]]) -> Iterator[Stage]:
    """The chain, for all tests of a file; `scripts/test-litellm` names the cluster and the programs."""
    directory = tmp_path_factory.mktemp("stage")
    stage = Stage(directory, Path(os.environ["TEST_CLUSTER"]), Path(os.environ["TEST_PROGRAMS"]), models)
    try:
        yield stage
    finally:
        stage.close()
    stage.require_no_key()
