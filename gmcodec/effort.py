# SPDX-License-Identifier: MIT
"""Which methods an effort tries: an image gets the smallest payload of those that its effort tries.

Every effort tries all that the one before it tries, so a higher effort never makes a larger file.

========  =========================  ===========================================  =====================================
effort    adds, for graphics         adds, for photographs of 8 bits a sample     adds, for those of 16 bits a sample
========  =========================  ===========================================  =====================================
fast      few contexts, many pixels  a small net                                  the small net, learning from the
          guessed; for two colours                                                image
          contexts of many pixels
default   all contexts; with a net,  the small net, learning from the image       nothing
          or in large images few
          pixels guessed
best      both; no pixel guessed;    the small net on the mirrored image, up to   the larger net (grey: the same net),
          tables of colours and      2**18 pixels; an ensemble of the small net   learning, with averaged weights
          whole colours              and a larger one (grey: one net) with
                                     averaged weights, mirrored as suits the
                                     small net best
========  =========================  ===========================================  =====================================

How many pixels equal a neighbour tells a graphic from a photograph.  An image that may be both is tried as both, and so
are small ones.  The models of photographs are in ``registry.MODELS_OF_EFFORTS``.

Conventional methods are tried as well, unless the others win so clearly that no conventional one can.  That decision
depends on the first model only, and a higher effort needs a clearer win, so that it tries conventional methods whenever
a lower effort does.

The first model is not run if others are and a sample of the pixels shows, with CONFIDENCE_SIGMAS standard errors, that
it loses to one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from gmcodec import coders
from gmcodec.coders import GraphicsCoder, WeightIndices, coder_of
from gmcodec.coding import conventional, graphics, reduction
from gmcodec.coding.reduction import Reduced
from gmcodec.errors import UnsupportedImageError
from gmcodec.formats import varint
from gmcodec.formats.gmc import Part
from gmcodec.image import metadata
from gmcodec.image.planes import Planes
from gmcodec.models import registry
from gmcodec.models.online.rules import MIRRORS
from gmcodec.progress import Callback, without_pixels
from gmcodec.threads import Threads

Parts = tuple[list[Part], float]  # the parts of a file, and their estimated bits
Trial = Callable[[Callback], Parts]
CODES = ("auto", "learned", "graphics", "conventional")
EFFORTS = ("fast", "default", "best")
# colour channels that a model codes, by mode; the black of CMYK is coded apart, like a grey image
LEARNED_CHANNELS = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "I;16": 1, "LA;16": 1, "RGB;16": 3, "RGBA;16": 3,
                    "LAB": 3, "LAB;16": 3, "CMYK": 3, "CMYK;16": 3}  # fmt: skip
# modes in which the colours and the black of CMYK are coded apart
COLOUR_AND_BLACK_MODES = {"CMYK": ("RGB", "L"), "CMYK;16": ("RGB;16", "I;16")}
SMALL_PIXELS = 1 << 14  # of an image up to which every method of an effort is tried
GIVE_UP_RATIO = 1.25  # estimated learned size over quick conventional size from which no model is run
MIRROR_PIXELS = 1 << 18  # up to which best mirrors: else it would be slower than 0.05 megapixels a second
CONFIDENCE_SIGMAS = 5  # standard errors of a sample beyond which its result is taken for certain
# learned size over quick conventional size below which no conventional method can win: for photographs, and for images
# that the slow settings of WebP may suit
CERTAIN_WIN_RATIO, CERTAIN_WIN_RATIO_GRAPHIC = 0.9, 0.45
GRAPHIC_REPEATS = 0.3  # share of pixels that equal a neighbour from which an image is tried as a graphic
# estimated learned size over the first graphic's size below which models are tried as well: up to LARGE_GRAPHIC_PIXELS
# and above, where trying takes longer
PHOTOGRAPH_RATIO, PHOTOGRAPH_RATIO_LARGE = 1.5, 1.25
# numbers of a set of contexts and of GUESSING: models/graphics/config.py
FAST_GRAPHIC, DEFAULT_GRAPHIC, BEST_GRAPHIC, BILEVEL_GRAPHIC = (0, 2), (1, 1), (1, 0), (2, 0)
LARGE_GRAPHIC_PIXELS = 1 << 18  # above which guessing a few pixels saves time
NET_PIXELS = 10**6  # of a graphic up to which ``default`` asks a net
MAX_GRAPHIC_TRIALS = 2  # at once; each takes a few hundred MB
PARALLEL_GRAPHIC_PIXELS = 1 << 24  # of an image up to which trials run at once; those of a larger one take turns
GRAPHIC_WIN_RATIO = 0.95  # the first graphic's size over quick conventional size from which no conventional method wins
CONVENTIONAL_BYTES = 1 << 16  # of samples, up to which conventional methods are always tried beside graphics
GRAPHIC_RATIO = 0.2  # quick conventional size over raw size up to which an image may be a graphic


def smallest(planes: Planes, code: str, effort: str, threads: int, progress: Callback, rounded: bool = False) -> Parts:
    """The smallest parts that an effort finds, and their estimated bits.  Raises what codec.encode_planes raises.

    ``rounded``: samples were rounded, so that few colours say nothing of what the image shows.
    """
    if effort not in EFFORTS:
        raise ValueError(f"effort must be one of {', '.join(EFFORTS)}, not {effort!r}")
    progress(0)  # may end the work, here and below
    if planes.mode in COLOUR_AND_BLACK_MODES and code == "auto":
        return _smallest_of_cmyk(planes, effort, threads, progress, rounded)
    if code == "conventional":
        return _conventional(planes.data, planes.depth, effort, without_pixels(progress))
    if code == "graphics":
        return _forced_graphic(planes, effort, threads, progress)
    if code != "auto":
        return _models(planes, code, effort, threads, progress)
    if is_photograph(planes):
        return _smallest_photograph(planes, effort, threads, progress, rounded)
    learned, small = planes.mode in LEARNED_CHANNELS, planes.height * planes.width <= SMALL_PIXELS
    graphic = _smallest_graphic(planes, effort, threads, progress)
    if graphic is None:
        return _smallest_photograph(planes, effort, threads, progress, rounded)
    (found, first), silent = graphic, without_pixels(progress)
    if learned and small:  # conventional methods have been tried
        return min(found, _models(planes, "learned", effort, threads, silent), key=_bytes)
    if learned and _may_be_photograph(planes, effort, first, silent):
        return min(found, _smallest_photograph(planes, effort, threads, silent, rounded), key=_bytes)
    return found


def _may_be_photograph(planes: Planes, effort: str, graphic: int, progress: Callback) -> bool:
    """Whether models may need fewer bytes than the first graphic, by a few squares of the colours."""
    colours = LEARNED_CHANNELS[planes.mode]
    first = registry.models_of_effort(colours, effort, planes.depth)[0]
    trial = coders.load(first.method).trial_bits(planes.data[:colours], progress)
    large = planes.height * planes.width > LARGE_GRAPHIC_PIXELS
    return trial / 8 < (PHOTOGRAPH_RATIO_LARGE if large else PHOTOGRAPH_RATIO) * graphic


def _forced_graphic(planes: Planes, effort: str, threads: int, progress: Callback) -> Parts:
    if not (reduced := _reductions(planes)):
        raise UnsupportedImageError("an image of 16 bits with many values, or of few columns and millions of rows, "
                                    "is no graphic")  # fmt: skip
    trials = _graphic_trials(planes, reduced, effort, [])
    return min(_run_trials(trials, planes.height * planes.width, threads, progress), key=_bytes)


def _models(planes: Planes, code: str, effort: str, threads: int, progress: Callback) -> Parts:
    colours = LEARNED_CHANNELS.get(planes.mode)
    entries = _entries_named(code, planes, colours) if code not in CODES else []
    if entries and entries[0].net:
        return _graphic_with_net(planes.data, entries[0], progress)
    if code == "learned" and colours is None:
        raise UnsupportedImageError(f"there is no learned model for mode {planes.mode}")
    colours = entries[0].channels if entries else colours
    assert colours is not None
    entries = entries or registry.models_of_effort(colours, effort, planes.depth)
    return _learned(planes.data, colours, entries, None, threads, progress)[0]


# -- graphics ----------------------------------------------------------------------------------------------


def is_photograph(planes: Planes) -> bool:
    """Whether an image is tried as a photograph only: not if it is small, or of one grey in three channels."""
    learned, small = planes.mode in LEARNED_CHANNELS, planes.height * planes.width <= SMALL_PIXELS
    possible = learned and not small and not _is_grey(planes)
    return possible and repeated_pixels(planes.data) < GRAPHIC_REPEATS


def _is_grey(planes: Planes) -> bool:
    """Whether three channels of colours are equal; nets of photographs would code all three."""
    return planes.channels > 2 and bool((planes.data[0] == planes.data[1:3]).all())


def repeated_pixels(samples: np.ndarray) -> float:
    """The share of the pixels of [C, H, W] that equal the one to the left or the one above, by a sample of rows."""
    step = max(1, samples.shape[1] * samples.shape[2] >> 18)
    rows = np.arange(1, samples.shape[1], step)
    if not len(rows) or samples.shape[2] < 2:
        return 1.0
    here, above = samples[:, rows, 1:], samples[:, rows - 1, 1:]
    left = (here == samples[:, rows, :-1]).all(axis=0)
    return float((left | (here == above).all(axis=0)).mean())


def _smallest_graphic(planes: Planes, effort: str, threads: int, progress: Callback) -> tuple[Parts, int] | None:
    """The smallest of graphics and conventional methods, and the bytes of the first graphic, which all efforts try.

    None if the image cannot be a graphic.
    """
    if not (reduced := _reductions(planes)):
        return None
    silent = without_pixels(progress)
    with Threads(1) as pool:
        quick = pool.submit(_quick_conventional_size, planes, silent)
        trials = _graphic_trials(planes, reduced, effort, _with_net(planes))
        tried = _run_trials(trials, planes.height * planes.width, threads, progress)
        found, first = min(tried, key=_bytes), _bytes(tried[0])
        if first < GRAPHIC_WIN_RATIO * quick.result():
            return found, first
    return min(found, _conventional(planes.data, planes.depth, effort, silent, first), key=_bytes), first


def _reductions(planes: Planes) -> list[Reduced]:
    """What an image can be reduced to, the first one the fastest to code; empty if it cannot be a graphic."""
    if not graphics.is_possible(planes.height, planes.width):
        return []
    return reduction.reductions(planes.data, planes.depth, metadata.colours(planes.metadata))


def _quick_conventional_size(planes: Planes, progress: Callback) -> int:
    """About the bytes of the smallest conventional method; 0 for small images, for which all of them are tried."""
    if planes.data.nbytes <= CONVENTIONAL_BYTES:
        return 0
    return _part_bytes(conventional.quick_size(planes.data, planes.depth, progress))


def _run_trials(trials: Sequence[Trial], pixels: int, threads: int, progress: Callback) -> list[Parts]:
    """What trials make of an image; a few run at once if it is small enough."""
    silent = without_pixels(progress)

    def run(trial: Trial) -> Parts:
        return trial(progress if trial is trials[-1] else silent)

    if threads == 1 or len(trials) == 1 or pixels > PARALLEL_GRAPHIC_PIXELS:
        return [run(trial) for trial in trials]
    with Threads(min(threads, MAX_GRAPHIC_TRIALS)) as pool:
        return list(pool.map(run, trials))


def _graphic_trials(planes: Planes, reduced: list[Reduced], effort: str, nets: Sequence[Trial]) -> Sequence[Trial]:
    """An effort's trials of an image that was reduced in one or more ways; the first is that of ``fast``."""
    pixels, first = planes.height * planes.width, reduced[0]
    usual = DEFAULT_GRAPHIC if pixels > LARGE_GRAPHIC_PIXELS else BEST_GRAPHIC
    models = [(first, BILEVEL_GRAPHIC if first.is_bilevel else FAST_GRAPHIC)]
    few_colours = first.kind == reduction.TABLE and reduced[-1].green >= 0  # they need no net
    if effort == "default" and nets and pixels <= NET_PIXELS and not few_colours:
        return [*_without_net(planes, models), *nets]
    if effort != "fast":
        models.append((first, usual))
    if effort == "best":
        models += [(each, BEST_GRAPHIC) for each in (reduced[1:] if usual == BEST_GRAPHIC else reduced)]
    return [*_without_net(planes, models), *(nets if effort == "best" else [])]


def _without_net(planes: Planes, models: list[tuple[Reduced, tuple[int, int]]]) -> list[Trial]:
    def encode(reduced: Reduced, model: tuple[int, int], progress: Callback) -> Parts:
        payload = GraphicsCoder().encode(reduced, *model, progress)
        return [Part(graphics.METHOD, planes.channels, payload.data)], payload.estimated_bits

    return [partial(encode, *model) for model in models]


def _graphic_with_net(data: np.ndarray, entry: registry.Entry, progress: Callback) -> Parts:
    return _encode(data, entry, None, 1, progress, 0)


def _with_net(planes: Planes) -> list[Trial]:
    """A trial of the model whose net sees as many colours as the image has, if there is one."""
    colours = LEARNED_CHANNELS.get(planes.mode)
    if colours is None or planes.depth != 8:
        return []
    entry = registry.graphics_with_net(1 if _is_grey(planes) else colours)
    fits = entry.supports(planes.channels, planes.height * planes.width)
    return [partial(_graphic_with_net, planes.data, entry)] if fits else []


# -- photographs -------------------------------------------------------------------------------------------


def _smallest_photograph(planes: Planes, effort: str, threads: int, progress: Callback, rounded: bool = False) -> Parts:
    """The smallest of what models and conventional methods make of an image."""
    colours, pixels, silent = LEARNED_CHANNELS.get(planes.mode), planes.height * planes.width, without_pixels(progress)
    if colours is None:
        return _conventional(planes.data, planes.depth, effort, silent)
    entries = registry.models_of_effort(colours, effort, planes.depth)
    if pixels <= SMALL_PIXELS:
        found, first = _learned(planes.data, colours, entries, None, threads, progress)
        return min(found, _conventional(planes.data, planes.depth, effort, silent, first), key=_bytes)
    first_coder = coders.load(entries[0].method)
    with Threads(2) as pool:  # two trials at once, each of one thread
        weight_indices = pool.submit(first_coder.choose_weight_indices, planes.data[:colours]).result
        quick_size = pool.submit(conventional.quick_size, planes.data, planes.depth, silent)
        trial = first_coder.trial_bits(planes.data[:colours], silent)
        quick = _part_bytes(quick_size.result())
        if trial / 8 > GIVE_UP_RATIO * quick:
            return _conventional(planes.data, planes.depth, effort, silent)
        found, first = _learned(planes.data, colours, entries, weight_indices, threads, progress)
    if first < (CERTAIN_WIN_RATIO if rounded else _certain_win_ratio(planes, quick, effort)) * quick:
        return found
    return min(found, _conventional(planes.data, planes.depth, effort, silent, first), key=_bytes)


def _smallest_of_cmyk(planes: Planes, effort: str, threads: int, progress: Callback, rounded: bool) -> Parts:
    """Colours and black coded apart, or all four by a conventional method."""
    pieces = zip(np.split(planes.data, [3]), COLOUR_AND_BLACK_MODES[planes.mode], strict=True)
    (colours, bits), (black, more) = (
        smallest(Planes(data, mode), "auto", effort, threads, progress, rounded) for data, mode in pieces
    )
    together = _conventional(planes.data, planes.depth, effort, without_pixels(progress))
    return min((colours + black, bits + more), together, key=_bytes)


def _certain_win_ratio(planes: Planes, quick: int, effort: str) -> float:
    """Learned size over quick conventional size below which no conventional method is tried."""
    photograph = quick > GRAPHIC_RATIO * planes.data.nbytes and not conventional.has_few_colours(planes.data)
    return CERTAIN_WIN_RATIO if photograph or effort == "fast" or planes.depth == 16 else CERTAIN_WIN_RATIO_GRAPHIC


def _entries_named(code: str, planes: Planes, colours: int | None) -> list[registry.Entry]:
    """The models that a name stands for; those of a family that are installed, if any are."""
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


def _bytes(parts: Parts) -> int:
    """Bytes of the parts in the file."""
    return sum(_part_bytes(len(p.payload), len(p.weights_id)) for p in parts[0])


def _part_bytes(payload: int, weights_id: int = 0) -> int:
    """Bytes of a part in the file: method, channels, weights id, length, payload."""
    return 2 + weights_id + len(varint.write(payload)) + payload


def _conventional(data: np.ndarray, depth: int, effort: str, progress: Callback, below: float | None = None) -> Parts:
    """The smallest conventional payload that an effort finds; ``below``: the bytes of the first model."""
    method, payload = conventional.encode(data, depth, "fast" if effort == "fast" else "best", below, progress)
    return [Part(method, len(data), payload)], 8.0 * len(payload)


def _learned(
    data: np.ndarray,
    colours: int,
    entries: list[registry.Entry],
    weight_indices: WeightIndices | None,
    threads: int,
    progress: Callback,
) -> tuple[Parts, float]:
    """The smallest payload of some models, with alpha by a conventional method.

    Returns also the bytes that the first model takes, alpha included: an upper bound if it was not run.
    """
    coded: list[Parts] = []
    mirrors: dict[str, int] = {}  # the best mirror of each model so far
    silent = without_pixels(progress)
    sampled = _sampled_range(data[:colours], entries, weight_indices, threads, silent)
    for entry in entries[1:] if sampled else entries:
        tried = _mirrors(entry, entries, mirrors, data[0].size)
        shown = progress if entry is entries[-1] else silent
        found = [_encode(data[:colours], entry, weight_indices, threads, shown, mirror) for mirror in tried]
        best = min(range(len(tried)), key=lambda number: _bytes(found[number]))
        coded, mirrors[entry.name] = [*coded, found[best]], tried[best]
    if sampled and sampled[0] < min(map(_bytes, coded)):
        coded, sampled = [_encode(data[:colours], entries[0], weight_indices, threads, silent, 0), *coded], None
    first = sampled[1] if sampled else _bytes(coded[0])
    parts, bits = min(coded, key=_bytes)
    if len(data) > colours:
        # "fast" for all efforts, so that ``first`` does not depend on the effort
        alpha = _conventional(data[colours:], 8 * data.itemsize, "fast", silent)
        parts, bits, first = parts + alpha[0], bits + alpha[1], first + _bytes(alpha)
    return (parts, bits), first


def _sampled_range(
    colours: np.ndarray,
    entries: list[registry.Entry],
    weight_indices: WeightIndices | None,
    threads: int,
    progress: Callback,
) -> tuple[float, float] | None:
    """Bounds on the bytes that the first of several models takes, from a sample of the pixels.

    None if only coding would tell.
    """
    if len(entries) == 1 or colours[0].size <= SMALL_PIXELS:
        return None
    found = coders.load(entries[0].method).sampled_bits(colours, threads, weight_indices, progress)
    return found and ((found[0] - CONFIDENCE_SIGMAS * found[1]) / 8, (found[0] + CONFIDENCE_SIGMAS * found[1]) / 8)


def _mirrors(
    entry: registry.Entry, entries: list[registry.Entry], mirrors: dict[str, int], pixels: int
) -> tuple[int, ...]:
    """The mirrors that are tried with a model: below online.rules.MIRRORS.

    What a model learns on its way depends on where it starts.  The best mirror saves 0.2 % on average, and nets agree
    on which one is the best.  So the small net tries all of them for the models that share its weights.
    """
    if pixels <= MIRROR_PIXELS and any(entry.name in other.sources for other in entries if other != entry):
        return tuple(range(MIRRORS))
    return tuple({mirrors[name] for name in entry.sources if name in mirrors}) or (0,)


def _encode(
    colours: np.ndarray,
    entry: registry.Entry,
    weight_indices: WeightIndices | None,
    threads: int,
    progress: Callback,
    mirror: int,
) -> Parts:
    """The part that one model makes of [C, H, W].  ``weight_indices``: if they are known already."""
    loaded = registry.load(entry.method)
    payload = coder_of(loaded).encode(colours, threads, progress, weight_indices, mirror)
    return [Part(entry.method, len(colours), payload.data, loaded.weights_id)], payload.estimated_bits
