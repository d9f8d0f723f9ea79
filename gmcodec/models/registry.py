# SPDX-License-Identifier: MIT
"""Models by name and by permanent method id.  Ids are part of the file format: append only, never reuse one."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmcodec import native
from gmcodec.errors import UnknownModelError, WeightsError
from gmcodec.models.graphics.model import GraphicsModel
from gmcodec.models.local.model import LocalModel
from gmcodec.models.online.model import OnlineModel
from gmcodec.models.weights import from_bytes, weights_id

WEIGHTS_FOLDER = Path(__file__).parent.parent / "weights"
WEIGHTS_VARIABLE = "GMCODEC_WEIGHTS"  # the environment variable that names another folder


@dataclass(frozen=True)
class Entry:
    """A model that files name by its method id.

    ``net``: the name of the weights of the net that a model of graphics has as an input.  Such a model codes other
    channels as well, beside the ``channels`` that the net sees.
    ``members``: the nets of a model that learns while it codes, several for an ensemble: the name of each net's weights
    and its rate, an index into online.rules.RATES.  A model without members does not learn; its weights have its name.
    """

    method: int  # permanent id in files, 16 or above
    name: str
    channels: int
    max_pixels: int | None = None  # of an image; larger ones would take too long
    opt_in: bool = False  # used for the groups of an archive only if the user names it
    family: str = ""  # a name that several models share
    depth: int = 8  # bits of samples
    members: tuple[tuple[str, int], ...] = ()
    averaged: bool = False  # members code with running means of their weights
    net: str = ""

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of the weights files."""
        return tuple(source for source, _ in self.members) or (self.net or self.name,)

    @property
    def codes_groups(self) -> bool:
        """Whether the model codes groups of images as well as single ones."""
        return self.depth == 8 and not self.net

    def supports(self, channels: int, pixels: int, depth: int = 8) -> bool:
        """Whether the model codes an image of these channels, pixels and bits a sample."""
        small = self.max_pixels is None or pixels <= self.max_pixels
        fits = channels >= self.channels if self.net else channels == self.channels
        return small and fits and depth == self.depth


_ENSEMBLE = (("learning-rgb", 6), ("learning-rgb-fast", 7))
ENTRIES = (
    Entry(16, "local-rgb", 3),
    Entry(17, "local-grey", 1),
    Entry(18, "pixelcnnpp", 3, max_pixels=1 << 14),
    Entry(19, "agave", 3, max_pixels=1 << 14, opt_in=True),
    Entry(20, "agave-rgb", 3, opt_in=True, family="agave"),
    Entry(21, "ade", 3, opt_in=True),
    Entry(22, "av-ade", 3, opt_in=True),
    Entry(23, "local-rgb-fast", 3, opt_in=True),
    Entry(24, "learning-rgb-fast", 3, opt_in=True, members=(("learning-rgb-fast", 5),)),
    Entry(25, "learning-rgb", 3, opt_in=True, members=(("learning-rgb", 4),)),
    Entry(26, "learning-grey", 1, opt_in=True, members=(("learning-grey", 4),)),
    Entry(27, "learning-rgb16-fast", 3, opt_in=True, depth=16, members=(("local-rgb-fast", 5),)),
    Entry(28, "learning-rgb16", 3, opt_in=True, depth=16, members=(("learning-rgb16", 3),)),
    Entry(29, "learning-grey16", 1, opt_in=True, depth=16, members=(("learning-grey", 4),)),
    Entry(30, "pair-rgb", 3, opt_in=True, members=_ENSEMBLE, averaged=True),
    Entry(31, "averaged-grey", 1, opt_in=True, members=(("learning-grey", 7),), averaged=True),
    Entry(32, "averaged-rgb16", 3, opt_in=True, depth=16, members=(("learning-rgb16", 5),), averaged=True),
    Entry(33, "averaged-grey16", 1, opt_in=True, depth=16, members=(("learning-grey", 6),), averaged=True),
    Entry(34, "graphics-rgb", 3, max_pixels=1 << 24, opt_in=True, net="local-rgb-fast"),
    Entry(35, "graphics-grey", 1, max_pixels=1 << 24, opt_in=True, net="local-grey"),
)
BY_METHOD = {e.method: e for e in ENTRIES}


# by channels, depth and effort: names of the models that an effort tries besides those of the effort before
MODELS_OF_EFFORTS: dict[tuple[int, int], dict[str, tuple[str, ...]]] = {
    (3, 8): {"fast": ("local-rgb-fast",), "default": ("learning-rgb-fast",), "best": ("pair-rgb",)},
    (1, 8): {"fast": ("local-grey",), "default": ("learning-grey",), "best": ("averaged-grey",)},
    (3, 16): {"fast": ("learning-rgb16-fast",), "default": (), "best": ("averaged-rgb16",)},
    (1, 16): {"fast": ("learning-grey16",), "default": (), "best": ("averaged-grey16",)},
}


@dataclass(frozen=True)
class Loaded:
    """A model ready to code, and the id of its weights."""

    entry: Entry
    model: Any  # of a class that has a coder in coders.py
    weights_id: bytes


# -- entries by name ---------------------------------------------------------------------------------------


def folder() -> Path:
    """The folder of the weights."""
    return Path(os.environ.get(WEIGHTS_VARIABLE) or WEIGHTS_FOLDER)


def default(channels: int) -> Entry:
    """The default model for groups of small images of 1 (grey) or 3 (RGB) channels."""
    return next(e for e in ENTRIES if e.channels == channels)


def by_name(name: str) -> list[Entry]:
    """The models of this name, or of this family.  Raises ValueError for an unknown name."""
    found = [e for e in ENTRIES if name in (e.name, e.family)]
    if not found:
        raise ValueError(f"unknown model {name!r}; choose from {', '.join(e.name for e in ENTRIES)}")
    return found


def models_of_effort(channels: int, effort: str, depth: int = 8) -> list[Entry]:
    """The models that an effort tries, the fastest first; they include those of the lower efforts."""
    by_effort = MODELS_OF_EFFORTS[channels, depth]
    efforts = list(by_effort)
    return [by_name(name)[0] for e in efforts[: efforts.index(effort) + 1] for name in by_effort[e]]


def graphics_with_net(colours: int) -> Entry:
    """The model of graphics whose net sees 1 (grey) or 3 (RGB) colours."""
    return next(e for e in ENTRIES if e.net and e.channels == colours)


def paths(entry: Entry, where: Path | None = None) -> list[Path]:
    """The paths of a model's weights files."""
    return [(where or folder()) / f"{name}.safetensors" for name in entry.sources]


def is_installed(entry: Entry) -> bool:
    """Whether all of a model's weights files exist."""
    return all(path.is_file() for path in paths(entry))


# -- loaded models -----------------------------------------------------------------------------------------


def for_channels(channels: int) -> Loaded:
    """Load the default model of 1 or 3 channels."""
    return load(default(channels).method)


def named(name: str) -> Loaded:
    """Load a model by name.  Raises ValueError for an unknown name, else what ``load`` raises."""
    return load(by_name(name)[0].method)


def installed(channels: int, pixels: int) -> list[Loaded]:
    """Load the default model for an image, then the others that are installed.  Raises what ``load`` raises."""
    others = (e for e in ENTRIES if e.supports(channels, pixels) and e != default(channels) and not e.opt_in)
    return [for_channels(channels), *(load(e.method) for e in others if is_installed(e))]


def load(method: int) -> Loaded:
    """Load the model of a method id.  Raises UnknownModelError; WeightsError when a file is missing or damaged."""
    if method not in BY_METHOD:
        raise UnknownModelError(f"model {method} is not known to this release")
    # the instruction set is part of the cache's key, since tests and ``doctor`` change it between calls
    return _load(BY_METHOD[method], folder(), native.core())


@functools.lru_cache(maxsize=8)
def _load(entry: Entry, where: Path, core: native.Core) -> Loaded:
    files = [_read(path, entry.name) for path in paths(entry, where)]
    found = [_model(data, path, where, core) for data, path in zip(files, paths(entry, where), strict=True)]
    for model, path in zip(found, paths(entry, where), strict=True):
        if model.channels != entry.channels:
            raise WeightsError(f"{path} has {model.channels} channels, {entry.name} needs {entry.channels}")
        if (entry.members or entry.net) and not isinstance(model, LocalModel):
            raise WeightsError(f"{entry.name} needs a local model")
    ids = [weights_id(data) for data in files]
    if entry.net:
        return Loaded(entry, GraphicsModel(core, found[0]), ids[0])
    if not entry.members:
        return Loaded(entry, found[0], ids[0])
    online = OnlineModel(found, [rate for _, rate in entry.members], entry.averaged)
    return Loaded(entry, online, ids[0] if len(ids) == 1 else weights_id(b"".join(ids)))


def _read(path: Path, name: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"the weights of {name} cannot be read: {error.strerror or error}") from error


def _model(data: bytes, path: Path, where: Path, core: native.Core) -> Any:
    """The frozen model of a weights file; loads its base too, if it has one."""

    def base(name: str) -> tuple[bytes, Any]:
        if name == path.stem:
            raise WeightsError(f"{path} names itself as the weights it needs")
        (entry,) = by_name(name)
        if entry.members or entry.net:
            raise WeightsError(f"{path} needs the weights of a model that does not learn, {name} does")
        found = _load(entry, where, core)
        return found.weights_id, found.model

    return from_bytes(data, base)
