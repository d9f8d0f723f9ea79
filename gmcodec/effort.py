# SPDX-License-Identifier: MIT
"""Which code an image gets: the smallest of those that its effort tries.

::

    effort    photographs are coded by (registry.MODELS_OF_EFFORTS)
    fast      a small net
    default   that one; the small net again, learning from the image
    best      those; up to 2**18 pixels, the small net learning from the image mirrored; with the mirror that suits
              it, a mixture of the small net and a larger one (in grey: the net alone), with means of their weights

    and of 16 bits a sample
    fast      the small net, learning from the image: default is the same
    best      that one; the larger net (in grey: the same), learning, with means of its weights

and by the conventional methods, unless the learned code wins so clearly that they need not be tried.  That decision
depends on the first model only, and efforts above fast ask for more, so a higher effort tries all that a lower one
tries: no file gets larger.  The first model is left out where a sample of its pixels says that it is beaten, by
CONFIDENCE_SIGMAS standard errors or more.
"""

from __future__ import annotations

import numpy as np

from gmcodec import coders
from gmcodec.coders import Levels, coder_of
from gmcodec.coding import conventional
from gmcodec.errors import UnsupportedImageError
from gmcodec.formats import varint
from gmcodec.formats.gmc import Part
from gmcodec.image.planes import Planes
from gmcodec.models import registry
from gmcodec.progress import Callback, without_pixels
from gmcodec.threads import Threads

Parts = tuple[list[Part], float]  # and their estimated bits
CODES = ("auto", "learned", "conventional")
EFFORTS = ("fast", "default", "best")
# colour channels a model codes, by mode; of CMYK black is coded like a grey picture of its own
LEARNED_CHANNELS = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "I;16": 1, "LA;16": 1, "RGB;16": 3, "RGBA;16": 3,
                    "LAB": 3, "LAB;16": 3, "CMYK": 3, "CMYK;16": 3}  # fmt: skip
INK = {"CMYK": ("RGB", "L"), "CMYK;16": ("RGB;16", "I;16")}  # modes of colours and of black
SMALL = 1 << 14  # pixels up to which every method is tried without further thought
GIVE_UP_RATIO = 1.25  # estimated size over quick conventional size from which the model is not run
MIRRORS = 4  # that effort best tries: online.tile_coder.mirrored
MIRRORED = 1 << 18  # pixels up to which it does: beyond, best would be slower than 0.05 megapixels a second
CONFIDENCE_SIGMAS = 5  # standard errors of a sample that are taken for certain
CERTAIN_WIN = 0.9  # real size over quick conventional size below which no conventional method can win: of photographs
CERTAIN_WIN_GRAPHIC = 0.45  # and of pictures that the slow settings of WebP may suit
GRAPHIC = 0.2  # quick conventional size over raw size: pictures of less are graphics, or may be


def smallest(planes: Planes, code: str, effort: str, threads: int, progress: Callback) -> Parts:
    """Parts of the file and their estimated bits.  Raises what codec.encode_planes raises."""
    if effort not in EFFORTS:
        raise ValueError(f"effort must be one of {', '.join(EFFORTS)}, not {effort!r}")
    progress(0)  # it may end the work, here and later
    if planes.mode in INK and code == "auto":
        return _smallest_of_ink(planes, effort, threads, progress)
    colours, pixels = LEARNED_CHANNELS.get(planes.mode), planes.height * planes.width
    steps = _named(code, planes, colours) if code not in CODES else []
    quietly = without_pixels(progress)
    if code == "learned" and colours is None:
        raise UnsupportedImageError(f"there is no learned model for mode {planes.mode}")
    if code == "conventional" or (colours is None and not steps):
        return _conventional(planes.data, planes.depth, effort, quietly)
    colours = steps[0].channels if steps else colours
    assert colours is not None
    forced, steps = code != "auto", steps or registry.models_of_effort(colours, effort, planes.depth)
    if forced or pixels <= SMALL:
        found, first = _learned(planes.data, colours, steps, None, threads, progress)
        if forced:
            return found
        return min(found, _conventional(planes.data, planes.depth, effort, quietly, first), key=_size)
    first_coder = coders.load(steps[0].method)
    with Threads(2) as beside:  # what one thread does, side by side
        levels = beside.submit(first_coder.choose_levels, planes.data[:colours]).result
        running = beside.submit(conventional.quick_size, planes.data, planes.depth, quietly)
        trial = first_coder.trial_bits(planes.data[:colours], quietly)
        quick = _framed(running.result())
        if trial / 8 > GIVE_UP_RATIO * quick:
            return _conventional(planes.data, planes.depth, effort, quietly)
        found, first = _learned(planes.data, colours, steps, levels, threads, progress)
    if first < _sure_win(planes, quick, effort) * quick:
        return found
    return min(found, _conventional(planes.data, planes.depth, effort, quietly, first), key=_size)


def _smallest_of_ink(planes: Planes, effort: str, threads: int, progress: Callback) -> Parts:
    """Colours and black apart, or all four by a conventional method."""
    pieces = zip(np.split(planes.data, [3]), INK[planes.mode], strict=True)
    (colours, bits), (black, more) = (
        smallest(Planes(data, mode), "auto", effort, threads, progress) for data, mode in pieces
    )
    together = _conventional(planes.data, planes.depth, effort, without_pixels(progress))
    return min((colours + black, bits + more), together, key=_size)


def _sure_win(planes: Planes, quick: int, effort: str) -> float:
    """The size of a learned code, over the quick conventional one, below which no conventional method is tried."""
    photograph = quick > GRAPHIC * planes.data.nbytes and not conventional.has_few_colours(planes.data)
    return CERTAIN_WIN if photograph or effort == "fast" or planes.depth == 16 else CERTAIN_WIN_GRAPHIC


def _named(code: str, planes: Planes, colours: int | None) -> list[registry.Entry]:
    """The models that a name asks for; of a family those that are installed, if any is."""
    try:
        found = registry.by_name(code)
    except ValueError:
        names = (*CODES, *(e.name for e in registry.ENTRIES))
        raise ValueError(f"code must be one of {', '.join(names)}, not {code!r}") from None
    found = [e for e in found if registry.is_installed(e)] or found
    fitting = [e for e in found if e.supports(colours or 0, planes.height * planes.width, planes.depth)]
    if not fitting:
        largest = [e.max_pixels for e in found if (e.channels, e.depth) == (colours, planes.depth)]
        what = f"images of more than {largest[0]} pixels" if largest else f"mode {planes.mode}"
        raise UnsupportedImageError(f"{code} does not code {what}")
    return fitting


def _size(parts: Parts) -> int:
    """Bytes of the parts in the file."""
    return sum(_framed(len(p.payload), len(p.weights_id)) for p in parts[0])


def _framed(payload: int, weights_id: int = 0) -> int:
    """Bytes of a part in the file: method, channels, weights id, length, payload."""
    return 2 + weights_id + len(varint.write(payload)) + payload


def _conventional(data: np.ndarray, depth: int, effort: str, progress: Callback, below: float | None = None) -> Parts:
    """The smallest conventional method that an effort finds; ``below``: bytes that the first model needs."""
    method, payload = conventional.encode(data, depth, "fast" if effort == "fast" else "best", below, progress)
    return [Part(method, len(data), payload)], 8.0 * len(payload)


def _learned(
    data: np.ndarray,
    colours: int,
    steps: list[registry.Entry],
    levels: Levels | None,
    threads: int,
    progress: Callback,
) -> tuple[Parts, float]:
    """The smallest of the models' codes, alpha by a conventional method; bytes with the first model's, at most."""
    coded: list[Parts] = []
    mirrors: dict[str, int] = {}  # that suit the models so far
    quietly = without_pixels(progress)
    sampled = _sampled(data[:colours], steps, levels, threads, quietly)
    for step in steps[1:] if sampled else steps:
        tried = _mirrors(step, steps, mirrors, data[0].size)
        shown = progress if step is steps[-1] else quietly
        found = [_encode(data[:colours], step, levels, threads, shown, mirror) for mirror in tried]
        best = min(range(len(tried)), key=lambda number: _size(found[number]))
        coded, mirrors[step.name] = [*coded, found[best]], tried[best]
    if sampled and sampled[0] < min(map(_size, coded)):
        coded, sampled = [_encode(data[:colours], steps[0], levels, threads, quietly, 0), *coded], None
    first = sampled[1] if sampled else _size(coded[0])
    parts, bits = min(coded, key=_size)
    if len(data) > colours:
        # fast with any effort, since first depends on it
        alpha = _conventional(data[colours:], 8 * data.itemsize, "fast", quietly)
        parts, bits, first = parts + alpha[0], bits + alpha[1], first + _size(alpha)
    return (parts, bits), first


def _sampled(
    colours: np.ndarray, steps: list[registry.Entry], levels: Levels | None, threads: int, progress: Callback
) -> tuple[float, float] | None:
    """How many bytes the first of several models takes at least and at most, by a sample of the pixels.

    None if it has to be coded to know.
    """
    if len(steps) == 1 or colours[0].size <= SMALL:
        return None
    found = coders.load(steps[0].method).sampled_bits(colours, threads, levels, progress)
    return found and ((found[0] - CONFIDENCE_SIGMAS * found[1]) / 8, (found[0] + CONFIDENCE_SIGMAS * found[1]) / 8)


def _mirrors(
    step: registry.Entry, steps: list[registry.Entry], mirrors: dict[str, int], pixels: int
) -> tuple[int, ...]:
    """Ways to mirror an image that are tried with a model.

    Models that learn on their way learn other things when they come from elsewhere: 0.2 % on average, and nets agree
    on which way is the best, so the small net tries them for what shares its weights.
    """
    if pixels <= MIRRORED and any(step.name in other.sources for other in steps if other != step):
        return tuple(range(MIRRORS))
    return tuple({mirrors[name] for name in step.sources if name in mirrors}) or (0,)


def _encode(
    colours: np.ndarray, entry: registry.Entry, levels: Levels | None, threads: int, progress: Callback, mirror: int
) -> Parts:
    """One model's code of [C, H, W].  ``levels``: of weights of values, if they are found already."""
    loaded = registry.load(entry.method)
    payload = coder_of(loaded).encode(colours, threads, progress, levels, mirror)
    return [Part(entry.method, len(colours), payload.data, loaded.weights_id)], payload.estimated_bits
