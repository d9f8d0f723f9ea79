# SPDX-License-Identifier: MIT
"""Steps of setuptools that differ here: the native library is built, and a wheel is for a platform and any Python 3.

``pyproject.toml`` names these classes.  A cross-compiled wheel is asked for by ``GMCODEC_NATIVE_TARGET``, a triple of
``targets.SHIPPED``.
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

VARIABLE = "GMCODEC_NATIVE_TARGET"
# What an sdist needs beside the packages; the C++ sources are in no wheel.
SOURCES = ("build_tools/*.py", "gmcodec/native/*.cpp", "gmcodec/native/*.h*")


def asked() -> Target | None:
    """The platform that a wheel is asked for, if it is another than this one."""
    triple = os.environ.get(VARIABLE, "")
    if triple and triple not in targets.SHIPPED:
        raise SystemExit(f"{VARIABLE}={triple}: wheels are made for {', '.join(targets.SHIPPED)}")
    return targets.SHIPPED[triple] if triple else None


class Build(build):
    """A folder for each platform, so that no wheel gets the library of another, nor a file that is no more."""

    sub_commands = [("build_native", None), *build.sub_commands]  # noqa: RUF012  # what can fail comes first

    def initialize_options(self) -> None:
        super().initialize_options()
        target = asked() or targets.here()
        self.build_base = str(Path("build", "wheel", target.folder))

    def run(self) -> None:
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


class BuildNative(Command):
    """Compile the library into what becomes the wheel, or, for an editable installation, into the sources."""

    description = "compile the native library"
    user_options: list[tuple[str, str | None, str]] = []  # noqa: RUF012

    def initialize_options(self) -> None:
        self.build_lib: str = None  # type: ignore[assignment]  # only None is filled in by "build"
        self.editable_mode = False

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def run(self) -> None:
        target = asked()
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
        return sorted(path.relative_to(compiler.ROOT).as_posix() for s in SOURCES for path in compiler.ROOT.glob(s))

    def get_outputs(self) -> list[str]:
        return [str(self._library(asked() or targets.here()))]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


class Wheel(bdist_wheel):
    """``py3-none-<platform>``: the library is called by ctypes and knows nothing of Python."""

    def finalize_options(self) -> None:
        # This is how setuptools learns that the files depend on the platform; there is no extension module to tell it.
        self.distribution.has_ext_modules = lambda: True
        super().finalize_options()

    def get_tag(self) -> tuple[str, str, str]:
        target = asked() or targets.here()
        return "py3", "none", target.tag or super().get_tag()[2]
