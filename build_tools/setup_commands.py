# SPDX-License-Identifier: MIT
"""Commands of setuptools: they build the native library, and a wheel is for one platform and any Python 3.

``pyproject.toml`` names these classes.  ``GMCODEC_NATIVE_TARGET``, a triple of ``targets.SHIPPED``, selects the
platform of a cross-compiled wheel.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import compiler
import targets
from setuptools import Command
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from targets import Target

TARGET_VARIABLE = "GMCODEC_NATIVE_TARGET"
# Files of an sdist besides the packages; wheels do not contain them.
SDIST_FILES = ("build_tools/*.py", "gmcodec/native/*.cpp", "gmcodec/native/*.h*")


def requested_target() -> Target | None:
    """The platform that GMCODEC_NATIVE_TARGET selects, or None."""
    triple = os.environ.get(TARGET_VARIABLE, "")
    if triple and triple not in targets.SHIPPED:
        raise SystemExit(f"{TARGET_VARIABLE}={triple}: wheels are made for {', '.join(targets.SHIPPED)}")
    return targets.SHIPPED[triple] if triple else None


class Build(build):
    """Builds in a new folder for each platform, so that no wheel gets old files or another platform's library."""

    sub_commands = [("build_native", None), *build.sub_commands]  # noqa: RUF012  # the step that can fail comes first

    def initialize_options(self) -> None:
        super().initialize_options()
        target = requested_target() or targets.here()
        self.build_base = str(Path("build", "wheel", target.folder))

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class BuildNative(Command):
    """Compiles the library into the folder of the wheel or, for an editable installation, into the sources."""

    description = "compile the native library"
    user_options: list[tuple[str, str | None, str]] = []  # noqa: RUF012

    def initialize_options(self) -> None:
        self.build_lib: str = None  # type: ignore[assignment]  # "build" fills in None only
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        target = requested_target()
        try:
            if target:
                compiler.build(target, compiler.find(target), self._library(target))
            else:
                compiler.build_here(self._library(targets.here()))
        except compiler.BuildError as error:
            raise SystemExit(f"\n{error}\n") from None

    def _library(self, target: Target) -> Path:
        folder = compiler.ROOT if self.editable_mode else Path(self.build_lib)
        return folder / "gmcodec" / "native" / target.library

    def get_source_files(self) -> list[str]:
        return sorted(path.relative_to(compiler.ROOT).as_posix() for s in SDIST_FILES for path in compiler.ROOT.glob(s))

    def get_outputs(self) -> list[str]:
        return [str(self._library(requested_target() or targets.here()))]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class Wheel(bdist_wheel):
    """A wheel ``py3-none-<platform>``: ctypes calls the library, which does not depend on Python."""

    def finalize_options(self) -> None:
        # Tells setuptools that the wheel depends on the platform, although there is no extension module.
        self.distribution.has_ext_modules = lambda: True
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        target = requested_target() or targets.here()
        return "py3", "none", target.tag or super().get_tag()[2]
