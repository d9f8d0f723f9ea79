# SPDX-License-Identifier: MIT
"""Fixtures shared by the tests: toy weights for everything, the shipped ones where a test needs them."""

import os
from pathlib import Path

import pytest
import toy

from gmcodec.models import registry


def pytest_configure() -> None:
    """Each of several processes gets a processor of its own: all of them would start a thread for every processor, in
    torch and in tiles, and wait for threads that cannot run.  What tests threads asks for them.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {processors[int(worker.removeprefix("gw")) % len(processors)]})


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with toy weights, made once."""
    return toy.write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def toy_weights(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The codec uses the toy weights during the test."""
    monkeypatch.setenv(registry.WEIGHTS_VARIABLE, str(toy_folder))
    return toy_folder


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the shipped weights; skips where they are missing."""
    monkeypatch.delenv(registry.WEIGHTS_VARIABLE, raising=False)
    path = registry.WEIGHTS_FOLDER / "local-rgb.safetensors"
    if not path.is_file():
        pytest.skip(f"the shipped weights are missing: {path.name}")
    return registry.WEIGHTS_FOLDER
