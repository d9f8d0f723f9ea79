# SPDX-License-Identifier: MIT
"""Fixtures shared by the tests: toy weights for everything, the shipped ones where a test needs them."""

import os
from pathlib import Path

import array_types
import numpy as np
import pytest

array_types.install()  # before anything of gmcodec is imported

import toy
from PIL import Image

from gmcodec.models import registry


def pytest_configure() -> None:
    """Each of several processes gets a processor of its own: all of them would start a thread for every processor, in
    torch and in tiles, and wait for threads that cannot run.  What tests threads asks for them.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        processors = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {processors[int(worker.removeprefix("gw")) % len(processors)]})


DOT = 100  # tests that pass are shown by one dot: thousands of dots would fill several screens
_passed = 0


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: pytest.TestReport, config: pytest.Config) -> tuple[str, str, str] | None:
    """One dot for DOT tests that pass; failures, errors and skips are shown as ever."""
    global _passed
    if config.get_verbosity() > 0 or not (report.passed and report.when == "call") or hasattr(report, "wasxfail"):
        return None
    _passed += 1
    return "passed", "." if _passed % DOT == 0 else "", "PASSED"


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


@pytest.fixture(scope="session")
def labelled_mosaics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mosaic of 300 squares of 16x16 pixels in three classes."""
    folder, random = tmp_path_factory.mktemp("mosaics"), np.random.default_rng(0)
    squares = np.stack([toy.smooth(random, (3, 16, 16)) for _ in range(300)])
    page = squares.reshape(15, 20, 3, 16, 16).transpose(0, 3, 1, 4, 2).reshape(240, 320, 3)
    Image.fromarray(np.ascontiguousarray(page)).save(folder / "train_0.png")
    np.save(folder / "train_0_labels.npy", np.arange(300) % 3)
    return folder
