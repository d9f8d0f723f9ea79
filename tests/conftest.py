# SPDX-License-Identifier: MIT
"""Fixtures shared by the tests: toy weights for everything, the shipped ones where a test needs them."""

from pathlib import Path

import pytest
import toy

from gmcodec.models import registry


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with toy weights, made once."""
    return toy.write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def toy_weights(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The codec uses the toy weights during the test."""
    monkeypatch.setenv(registry.VARIABLE, str(toy_folder))
    return toy_folder


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the shipped weights; skips where they are missing."""
    monkeypatch.delenv(registry.VARIABLE, raising=False)
    path = registry.WEIGHTS / "local-rgb.safetensors"
    if not path.is_file():
        pytest.skip(f"the shipped weights are missing: {path.name}")
    return registry.WEIGHTS
