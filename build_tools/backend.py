# SPDX-License-Identifier: MIT
"""The build backend (PEP 517 and 660): setuptools, with a compiler from the package index if the machine has none.

pip install .                                                    # this machine's compiler, or that of ziglang
pip wheel --config-settings target=aarch64-linux-musl .          # for another platform, with ziglang
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import compiler
import setup_commands
from setuptools import build_meta
from setuptools.build_meta import build_sdist, get_requires_for_build_sdist

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

Settings = Mapping[str, Any] | None


def _target(settings: Settings) -> None:
    """Set the environment variable of the setting ``target``, because the steps of setuptools read only that."""
    if settings and (triple := settings.get("target")):
        os.environ[setup_commands.TARGET_VARIABLE] = str(triple)


def _requires(requires: list[str]) -> list[str]:
    needed = setup_commands.requested_target() or compiler.system() is None
    return [*requires, compiler.ZIGLANG] if needed else requires


def get_requires_for_build_wheel(config_settings: Settings = None) -> list[str]:
    _target(config_settings)
    return _requires(build_meta.get_requires_for_build_wheel(config_settings))


def get_requires_for_build_editable(config_settings: Settings = None) -> list[str]:
    return _requires(build_meta.get_requires_for_build_editable(config_settings))


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Settings = None) -> str:
    _target(config_settings)
    return build_meta.prepare_metadata_for_build_wheel(metadata_directory, config_settings)


def prepare_metadata_for_build_editable(metadata_directory: str, config_settings: Settings = None) -> str:
    return build_meta.prepare_metadata_for_build_editable(metadata_directory, config_settings)


def build_wheel(wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None) -> str:
    _target(config_settings)
    return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)


def build_editable(
    wheel_directory: str, config_settings: Settings = None, metadata_directory: str | None = None
) -> str:
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
