# SPDX-License-Identifier: MIT
"""The specification of what numbers say of a sample: simple predictors, their blend, an adaptive linear predictor.

The blend is a mean of seven simple predictors that trusts those that erred least nearby.  The adaptive predictor learns
by normalised least mean squares.  A logistic distribution around a prediction says how likely each bit is.
"""

from __future__ import annotations

from collections import defaultdict, namedtuple
from dataclasses import dataclass

from gmcodec.exact import context_mixing as mixing
from gmcodec.exact.context_mixing import MixingTables, clamp

PREDICTORS, ADAPTIVE_TAPS, LEVELS = 7, 24, 15
LEVEL_BOUNDS = (7, 24, 50, 90, 152, 248, 395, 622, 972, 1512, 2344, 3629, 5612, 8674)
START_SCALES = (722, 780, 870, 1009, 1223, 1553, 2062, 2847, 4058, 5926, 8806, 13248, 20098, 30662, 46955)
MIN_SCALE = 307
ADAPTIVE_STEP = 2400  # of the adaptive predictor, in 2**-13 of the step that would undo its error
ENERGY_START = 1000  # keeps its steps small where its inputs are
LOGISTIC_SLOPE = 90834 << 8  # 90834 is 2**16 times 1.386, the mean |error| of a logistic distribution of scale 1


Neighbours = namedtuple("Neighbours", "w ww www n nn nw ne nee nne nnw nww")


@dataclass
class Pixel:
    """A pixel that is coded: what does not depend on the channel."""

    here: int  # its place on the canvas
    row: int
    column: int
    near: Neighbours
    matched: int  # the pixel that the match predicts, 0 without a match
    match_level: int
    equal: int  # a bit for each pair of neighbours that are equal; 64 if the pixel is none that was expected
    hashes: list[int]  # of the contexts that do not depend on the channel
    pair: int  # key of W and N


def sample(pixel: int, channel: int) -> int:
    return pixel >> 8 * channel & 255


def simple_guesses(p: Neighbours, c: int) -> list[int]:
    """What the simple predictors say of channel ``c``."""
    w, ww, _, n, nn, nw, ne, _, nne, *_ = (sample(pixel, c) for pixel in p)
    return [w + n - nw, n + ne - nne, w + (ne - n >> 1), 2 * n - nn, 2 * w - ww, w + n + 1 >> 1, w + ne - n]


def guesses(p: Neighbours, pixel: int, green: int, c: int) -> list[int]:
    """The same, after green corrected by what the predictors got wrong in the channels from green on; as samples."""
    found = simple_guesses(p, c)
    if 0 <= green < c:
        errors = [0] * PREDICTORS
        for earlier in range(green, c):
            others = simple_guesses(p, earlier)
            errors = [e + sample(pixel, earlier) - other for e, other in zip(errors, others, strict=True)]
        found = [guess + (e >> 1 if c - green == 2 else e) for guess, e in zip(found, errors, strict=True)]
    return [clamp(guess, 0, 255) for guess in found]


@dataclass
class Numbers:
    """What a sample is predicted to be, before contexts."""

    guess: list[int]
    blended: int  # in 1/8
    level: int
    taps: list[int]  # inputs of the adaptive predictor: differences from the mean of W and N, in half grey levels
    adapted: int  # in 1/16


class Predictors:
    """What the predictors of all channels have learnt."""

    def __init__(self, tables: MixingTables, channels: int, green: int) -> None:
        self.tables, self.green = tables, green
        # by row, column and channel: |error| of each simple predictor, and of the blend in 1/8; zeros where a pixel was
        # guessed, or part of a run
        self.errors: defaultdict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0] * (PREDICTORS + 1))
        self.weights = [[0] * ADAPTIVE_TAPS for _ in range(channels)]  # in 2**-16
        for c, weights in enumerate(self.weights):  # at first it predicts the blend, its last tap
            weights[10 + (4 * (c - green) if 0 <= green < c else 0)] = 1 << mixing.WEIGHT_BITS
        # mean |error| of the blend and of the adaptive predictor, by level, in 1/2048
        self.blended_scales = [list(START_SCALES) for _ in range(channels)]
        self.adapted_scales = [list(START_SCALES) for _ in range(channels)]

    def predict(self, pixel: Pixel, known: int, c: int) -> Numbers:
        """``known``: the pixel's samples before channel ``c``."""
        guess = guesses(pixel.near, known, self.green, c)
        blended, level = self.blend(pixel.row, pixel.column, c, guess)
        taps, centre = self.taps(pixel.near, known, c, blended), sample(pixel.near.w, c) + sample(pixel.near.n, c)
        total = sum(w * tap for w, tap in zip(self.weights[c], taps, strict=True))
        return Numbers(guess, blended, level, taps, clamp(8 * centre + (total >> 13), 0, 255 * 16))

    def blend(self, row: int, column: int, c: int, guess: list[int]) -> tuple[int, int]:
        """The blend, a mean weighted by inverse squares of errors nearby, in 1/8; and the level of errors."""
        w, n = self.errors[row, column - 1, c], self.errors[row - 1, column, c]
        nw, ne = self.errors[row - 1, column - 1, c], self.errors[row - 1, column + 1, c]
        weights = [int(self.tables.inverse_square[w[j] + n[j] + nw[j] + ne[j]]) for j in range(PREDICTORS)]
        total = sum(weights)
        blended = (8 * sum(w * g for w, g in zip(weights, guess, strict=True)) + (total >> 1)) // total
        error = 2 * w[PREDICTORS] + 2 * n[PREDICTORS] + nw[PREDICTORS] + ne[PREDICTORS]
        return blended, sum(error >= bound for bound in LEVEL_BOUNDS)

    def taps(self, p: Neighbours, known: int, c: int, blended: int) -> list[int]:
        near = [sample(pixel, c) for pixel in (p.w, p.n, p.nw, p.ne, p.ww, p.nn, p.nne, p.nee, p.nww, p.www)]
        if self.green >= 0:
            near += [sample(pixel, b) for b in range(self.green, c) for pixel in (known, p.w, p.nw, p.ne)]
        centre = sample(p.w, c) + sample(p.n, c)
        taps = [*(2 * value - centre for value in near), (blended >> 2) - centre]
        return taps + [0] * (ADAPTIVE_TAPS - len(taps))

    def learn(self, pixel: Pixel, c: int, value: int, numbers: Numbers) -> None:
        """Keep errors and their scales, and move the adaptive predictor by normalised least mean squares."""
        blended_error, adapted_error = abs(numbers.blended - 8 * value), 16 * value - numbers.adapted
        errors = [abs(guess - value) for guess in numbers.guess]
        self.errors[pixel.row, pixel.column, c] = [*errors, blended_error]
        new_errors = (self.blended_scales[c], 256 * blended_error), (self.adapted_scales[c], 128 * abs(adapted_error))
        for scales, error in new_errors:
            scales[numbers.level] = max(scales[numbers.level] + (error - scales[numbers.level] >> 6), MIN_SCALE)
        energy = ENERGY_START + sum(tap * tap for tap in numbers.taps)
        factor = (ADAPTIVE_STEP * abs(adapted_error) << 12) // energy * (1 if adapted_error > 0 else -1)
        self.weights[c] = [
            clamp(weight + (factor * tap >> 12), -mixing.WEIGHT_REACH, mixing.WEIGHT_REACH)
            for weight, tap in zip(self.weights[c], numbers.taps, strict=True)
        ]


class Distribution:
    """A logistic distribution of a sample, and its masses below and above the values that the known bits leave."""

    def __init__(self, tables: MixingTables, centre: int, scale: int) -> None:
        """centre: in 1/8; scale: the mean of |error|, in 1/2048."""
        self.tables, self.centre = tables, centre
        self.slope = LOGISTIC_SLOPE // scale  # log odds in 1/256 nat for each 1/8, in 2**-8
        self.below, self.above = 0, 1 << mixing.LOGISTIC_BITS

    def mass_below(self, value: int) -> int:
        x = (8 * value - 4 - self.centre) * self.slope >> 8
        return int(
            self.tables.logistic[mixing.LOGISTIC_REACH + clamp(x, -mixing.LOGISTIC_REACH, mixing.LOGISTIC_REACH)]
        )

    def input(self, middle: int) -> int:
        """The log odds of a bit that is one above the mass ``middle``."""
        upper, whole = self.above - middle + 1, self.above - self.below + 2
        return mixing.stretch(self.tables, min(upper << 12, (whole << 12) - 1) // whole)


def predicted_bit(value: int, so_far: int, bit: int) -> int:
    """A sign for the bit of a predicted value, 0 if the bits before it were others."""
    if (value | 256) >> (bit + 1) != so_far:
        return 0
    return 1 if value >> bit & 1 else -1
