# SPDX-License-Identifier: MIT
"""Models by name and by permanent id.  Ids are part of the file format: append only, never reuse."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from gmcodec import native
from gmcodec.errors import UnknownModelError, WeightsError
from gmcodec.models.ade.model import AdeModel
from gmcodec.models.agave.latent_state import Factored
from gmcodec.models.agave.model import AgaveModel
from gmcodec.models.local.frozen import LocalModel
from gmcodec.models.online.model import PairModel
from gmcodec.models.pixelcnnpp.model import PixelCNNModel
from gmcodec.models.weights import Model, from_bytes, weights_id

WEIGHTS = Path(__file__).parent.parent / "weights"
VARIABLE = "GMCODEC_WEIGHTS"  # a folder to use instead of the shipped one


@dataclass(frozen=True)
class Entry:
    """A model that files may name by ``form``."""

    form: int  # permanent id in the file, 16 or above
    name: str
    channels: int
    max_pixels: int | None = None  # of an image; larger ones would take too long
    asked: bool = False  # groups of an archive get it only where it is asked for
    family: str = ""  # a name by which any of several may be asked for
    weights: str = ""  # whose file the weights are in, if not its own
    depth: int = 8  # bits of samples
    rate: int | None = None  # of online.rules.RATES, of a model that learns from every tile it codes
    averaged: bool = False  # codes with means of its weights then
    members: tuple[tuple[str, int], ...] = ()  # of a pair: models that learn side by side, averaged, and their rates

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the files of its weights."""
        return tuple(called(name)[0].sources[0] for name, _ in self.members) or (self.weights or self.name,)

    def takes(self, channels: int, pixels: int, depth: int = 8) -> bool:
        """Whether the model codes an image of so many channels and pixels, of so many bits a sample."""
        small = self.max_pixels is None or pixels <= self.max_pixels
        return small and (channels, depth) == (self.channels, self.depth)


ENTRIES = (
    Entry(16, "local-rgb", 3),
    Entry(17, "local-grey", 1),
    Entry(18, "pixelcnnpp", 3, max_pixels=1 << 14),
    Entry(19, "agave", 3, max_pixels=1 << 14, asked=True),
    Entry(20, "agave-rgb", 3, asked=True, family="agave"),
    Entry(21, "ade", 3, asked=True),
    Entry(22, "av-ade", 3, asked=True),
    Entry(23, "local-rgb-fast", 3, asked=True),
    Entry(24, "learning-rgb-fast", 3, asked=True, rate=5),
    Entry(25, "learning-rgb", 3, asked=True, rate=4),
    Entry(26, "learning-grey", 1, asked=True, rate=4),
    Entry(27, "learning-rgb16-fast", 3, asked=True, weights="local-rgb-fast", depth=16, rate=5),
    Entry(28, "learning-rgb16", 3, asked=True, depth=16, rate=3),
    Entry(29, "learning-grey16", 1, asked=True, weights="learning-grey", depth=16, rate=4),
    Entry(30, "pair-rgb", 3, asked=True, members=(("learning-rgb", 6), ("learning-rgb-fast", 7))),
    Entry(31, "averaged-grey", 1, asked=True, weights="learning-grey", rate=7, averaged=True),
    Entry(32, "averaged-rgb16", 3, asked=True, weights="learning-rgb16", depth=16, rate=5, averaged=True),
    Entry(33, "averaged-grey16", 1, asked=True, weights="learning-grey", depth=16, rate=6, averaged=True),
)
BY_FORM = {e.form: e for e in ENTRIES}


# by channels, depth and effort: what each effort tries beyond the one before, by name
LADDERS: dict[tuple[int, int], dict[str, tuple[str, ...]]] = {
    (3, 8): {"fast": ("local-rgb-fast",), "default": ("learning-rgb-fast",), "best": ("pair-rgb",)},
    (1, 8): {"fast": ("local-grey",), "default": ("learning-grey",), "best": ("averaged-grey",)},
    (3, 16): {"fast": ("learning-rgb16-fast",), "default": (), "best": ("averaged-rgb16",)},
    (1, 16): {"fast": ("learning-grey16",), "default": (), "best": ("averaged-grey16",)},
}


@dataclass(frozen=True)
class Loaded:
    """A model ready to code, and the id of its weights."""

    entry: Entry
    model: Model | PairModel
    weights_id: bytes

    @property
    def learns(self) -> bool:
        """Whether it learns from every tile that it codes."""
        return self.entry.rate is not None or bool(self.entry.members)

    @property
    def latents(self) -> AgaveModel | AdeModel | None:
        """The model, if images are coded with latents: by coding/chain.py and coding/strips.py."""
        return self.model if isinstance(self.model, AgaveModel | AdeModel) else None

    @property
    def is_flow(self) -> bool:
        """Whether it codes by way of a flow."""
        return isinstance(self.model, AdeModel)

    @property
    def pixels(self) -> LocalModel | PairModel | PixelCNNModel | Factored:
        """The model, without its latents if it has any: for coding/autoregressive.py."""
        return self.model.plain if isinstance(self.model, AgaveModel | AdeModel) else self.model

    @property
    def learner(self) -> LocalModel:
        """The local model, for coding/high_depth.py and for pairs.  Raises WeightsError for another architecture."""
        if not isinstance(self.model, LocalModel):
            raise WeightsError(f"{self.entry.name} needs a local model")
        return self.model


def folder() -> Path:
    """Where weights are looked for."""
    return Path(os.environ.get(VARIABLE) or WEIGHTS)


def default(channels: int) -> Entry:
    """The model that codes groups of small images of 1 (grey) or 3 (RGB) channels unless another is smaller."""
    return next(e for e in ENTRIES if e.channels == channels)


def for_channels(channels: int) -> Loaded:
    """The default model, ready."""
    return load(default(channels).form)


def ladder(channels: int, effort: str, depth: int = 8) -> list[Entry]:
    """What an effort tries, the fastest first: all that lower efforts try, and more."""
    rungs = LADDERS[channels, depth]
    efforts = list(rungs)
    return [called(name)[0] for e in efforts[: efforts.index(effort) + 1] for name in rungs[e]]


def installed(channels: int, pixels: int) -> list[Loaded]:
    """The models for an image, ready: the default one, then others that are installed.  Raises as ``load``."""
    others = (e for e in ENTRIES if e.takes(channels, pixels) and e != default(channels) and not e.asked)
    return [for_channels(channels), *(load(e.form) for e in others if is_installed(e))]


def is_installed(entry: Entry) -> bool:
    """Whether the files of its weights are there."""
    return all(path.is_file() for path in paths(entry))


def called(name: str) -> list[Entry]:
    """The models that a name stands for: one, or a family.  Raises ValueError for an unknown name."""
    found = [e for e in ENTRIES if name in (e.name, e.family)]
    if not found:
        raise ValueError(f"unknown model {name!r}; choose from {', '.join(e.name for e in ENTRIES)}")
    return found


def named(name: str) -> Loaded:
    """The model called ``name``.  Raises ValueError for an unknown name, else what ``load`` raises."""
    return load(called(name)[0].form)


def paths(entry: Entry, where: Path | None = None) -> list[Path]:
    """The files of a model's weights."""
    return [(where or folder()) / f"{name}.safetensors" for name in entry.sources]


def load(form: int) -> Loaded:
    """The model of a form.  Raises UnknownModelError, or WeightsError when its file is missing or damaged."""
    if form not in BY_FORM:
        raise UnknownModelError(f"model {form} is not known to this release")
    # the instruction set is part of the key: it may be forced anew between two calls (tests, doctor)
    return _load(form, folder(), native.core())


@functools.lru_cache(maxsize=8)
def _load(form: int, where: Path, core: native.Core) -> Loaded:
    entry = BY_FORM[form]
    if entry.members:
        found = [named(name) for name, _ in entry.members]
        first, second = (
            f.learner.learning(rate).averaging() for f, (_, rate) in zip(found, entry.members, strict=True)
        )
        return Loaded(entry, PairModel(first, second), weights_id(b"".join(f.weights_id for f in found)))
    (file,) = paths(entry, where)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise WeightsError(f"the weights of {entry.name} cannot be read: {error.strerror or error}") from error

    def other(name: str) -> tuple[bytes, Model]:
        if name == entry.name:
            raise WeightsError(f"{file} names itself as the weights it needs")
        found = named(name)
        if isinstance(found.model, PairModel):
            raise WeightsError(f"{file} needs the weights of one model, {name} has two")
        return found.weights_id, found.model

    model = from_bytes(data, other)
    if entry.rate is not None and isinstance(model, LocalModel):
        model = model.learning(entry.rate)
        model = model.averaging() if entry.averaged else model
    if model.channels != entry.channels:
        raise WeightsError(f"{file} has {model.channels} channels, {entry.name} needs {entry.channels}")
    return Loaded(entry, model, weights_id(data))
