# SPDX-License-Identifier: MIT
"""The specification of the pixel model of graphics, in plain Python integers.

Slow and simple; tests/models/test_graphics_spec.py compares with the native core, decision by decision.  A pixel is a
number of up to four samples, the first one in its lowest byte.  Pixels are coded in raster order, by decisions that
exact/context_mixing.py predicts.  All that it knows it learns from them.

Neighbours, by where they lie of the pixel X::

                nnw  nn  nne             Beyond the ends of a row lie its last pixel, on the right, and the first pixel
           nww   nw   n   ne  nee        of the row above, on the left.  Above the first row, all pixels are 0; so are
      www   ww    w   X                  those left of the first row.

A *match* is an earlier place that had the same eleven neighbours; it predicts X by the pixel there.  As long as it is
right it goes on, pixel by pixel, to the end of X's row; at its own place it may run on through the MARGIN pixels that
lie to both sides of every row.  Each pixel takes these steps:

1. Run.  If W, NW, N and NE have one colour, then pixels below that colour, which the match predicts as well, are likely
   to have it too.  One decision says whether all of them do.  If not, halving finds the first one that does not.
2. Guess.  ``guessing`` says which pixels are guessed: 0 none; 1 those of long matches; 2 also those of shorter matches
   and those with W = N.  One decision says whether X is what the match predicts, or W without a match.
3. Samples.  Otherwise the channels follow one another.  Each bit of a sample is a decision, from the highest one on.

The contexts of a decision are chosen by the bits of ``contexts``.  A guess uses those of bits 0 to 13 alone.  For a
sample, contexts 0 to 13 are joined with the samples of X that are known, all contexts with the channel, and the bits of
the sample that are known choose a slot:

    ===  ===============================================  ===  =======================================================
    bit  what it hashes                                   bit  what it hashes
    ===  ===============================================  ===  =======================================================
      0  W, N, NW                                          11  the match's pixel and how long the match is
      1  W, N, NE                                          12  the last two pixels that followed this W and N
      2  W, N, NW, NE, WW, NN                              13  the channel's sample of W
      3  N                                                 14  the blended prediction, the channel's sample of W
      4  W, WW, WWW                                        15  2 N - NN
      5  N, NN                                             16  W + NE - N and half the level of errors
      6  all eleven neighbours                             17  the samples of W and N, and the level of errors
      7  W, NE, NW                                         18  W + N - NW, N + NE - NNE, W + (NE - N) / 2
      8  nothing                                           19  by how much green differs from W's, and the sample of W
      9  NE                                                20  by how much green differs from N's, and the sample of N
     10  N, NE, NEE
    ===  ===============================================  ===  =======================================================

Numbers predict a sample too: seven simple predictors; their *blend*, which trusts those that erred least nearby; and an
adaptive linear predictor.  Logistic distributions around them make inputs of the mixer.  The *level* of errors, 0 to
14, is the size of the blend's errors nearby.  If ``green`` is a channel, samples of the channels after it are predicted
relative to it: from what the same predictors got wrong in the channels between.

Images of one bit may have the contexts of bilevel_spec.py as well.  A net may be one more input: net_spec.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gmcodec.arrays import UInt32
from gmcodec.exact import context_mixing as mixing
from gmcodec.exact.context_mixing import Buckets, Decision, Mixing, combine, key
from gmcodec.exact.decisions import Coder, Reader, Writer
from gmcodec.models.graphics.bilevel_spec import PLACE_TEMPLATE, TEMPLATE, TEMPLATES, template_hash
from gmcodec.models.graphics.net_spec import NetInput
from gmcodec.models.graphics.numbers_spec import (
    LEVELS,
    Distribution,
    Neighbours,
    Numbers,
    Pixel,
    Predictors,
    predicted_bit,
    sample,
)
from gmcodec.models.local.frozen import FrozenLocal

MARGIN, ROWS_ABOVE = 16, 6  # of a canvas: pixels left and right of each row, and rows above the first
MAX_RUN_PIXELS = 4096
MAX_MATCH_PIXELS = 65535  # matches that are longer count as this long
MATCH_BOUNDS = (1, 2, 4, 8, 16, 32, 128)  # lengths of a match at which its level rises
PAIR_BITS = 16  # of the table of pixel pairs
GRAPHICS_EXTRAS = 6
PIXEL_CONTEXTS, ALL_CONTEXTS = 14, 21
WORTH = (2, 2, 3, 1, 0, 0, 4)  # how much of the surroundings the first contexts have

RUN_SETS, RUN_MAPS = (16, 16, 1, 1), (16, 16)
GUESS_SETS, GUESS_MAPS = (2 * 64, 8 * 8, 2 * 64, 2 * 8), (2 * 64, 8 * 8)


# -- what is known of a pixel ---------------------------------------------------------------------------------------


def match_level(length: int) -> int:
    return sum(length >= bound for bound in MATCH_BOUNDS)


def equalities(p: Neighbours) -> int:
    """Which neighbours are equal, a bit for each pair."""
    pairs = [(p.w, p.n), (p.w, p.nw), (p.n, p.nw), (p.n, p.ne), (p.n, p.nn), (p.w, p.ww)]
    return sum((a == b) << i for i, (a, b) in enumerate(pairs))


def eleven_hash(p: Neighbours) -> int:
    return combine(3, p.w, p.n, p.nw, p.ne, p.ww, p.nn, p.nne, p.nee, p.www, p.nnw, p.nww)


def pixel_hashes(p: Neighbours, matched: int, level: int, pair: int) -> list[int]:
    """Hashes of the contexts 0 to 13."""
    return [
        combine(1, p.w, p.n, p.nw),
        combine(2, p.w, p.n, p.ne),
        combine(3, p.w, p.n, p.nw, p.ne, p.ww, p.nn),
        combine(4, p.n),
        combine(5, p.w, p.ww, p.www),
        combine(6, p.n, p.nn),
        eleven_hash(p),
        combine(8, p.w, p.ne, p.nw),
        9,
        combine(10, p.ne),
        combine(11, p.n, p.ne, p.nee),
        combine(12, matched, level),
        combine(13, pair),
        14,
    ]


# -- images --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GraphicsSpec:
    """The model for an image of a size.

    depth: bits of a sample, 1 to 8.  green: the channel of green, with red and blue after it, or -1.  contexts: a bit
    for each that is used.  guessing: which pixels are guessed, 0 to 2.  bucket_bits, place_bits: sizes of hash tables.
    bilevel: templates are contexts as well, and places that match are found by one.  net: of photographs, or None.
    """

    width: int
    height: int
    channels: int
    depth: int
    green: int
    contexts: int
    guessing: int
    bucket_bits: int
    place_bits: int
    bilevel: bool = False
    net: FrozenLocal | None = None

    def encode(self, pixels: UInt32[np.ndarray, "H W"]) -> UInt32[np.ndarray, " N"]:
        """Decisions of pixels uint32 [H, W]: the probability of one in 2**-16, plus 2**16 if it is one."""
        coder = Writer()
        ImageCoder(self, coder, pixels.ravel().tolist()).code()
        return np.array(coder.decisions, np.uint32)

    def decode(self, reader: Reader) -> UInt32[np.ndarray, "H W"]:
        """Inverse of ``encode``; damaged words give other pixels, but no error."""
        image = ImageCoder(self, reader, [0] * (self.width * self.height))
        image.code()
        canvas = np.array(image.canvas, np.uint32).reshape(-1, image.stride)
        return canvas[ROWS_ABOVE:, MARGIN:-MARGIN].copy()


class ImageCoder:
    """An image that is coded: ``wanted`` has an encoder's pixels, the canvas those that are known to the decoder."""

    def __init__(self, spec: GraphicsSpec, coder: Coder, wanted: Sequence[int]) -> None:
        self.spec, self.coder, self.wanted = spec, coder, wanted
        self.tables = tables = mixing.make_tables()
        self.stride = spec.width + 2 * MARGIN
        self.canvas = [0] * ((ROWS_ABOVE + spec.height) * self.stride)
        self.match_at = self.match_length = 0
        self.places: dict[int, int] = {}
        self.pairs: defaultdict[int, int] = defaultdict(int)
        self.buckets = Buckets(spec.bucket_bits)
        self.predictors = Predictors(tables, spec.channels, spec.green)
        self.chosen = [k for k in range(ALL_CONTEXTS) if spec.contexts >> k & 1]
        pixel_contexts = sum(k < PIXEL_CONTEXTS for k in self.chosen)
        worth = [WORTH[k] for k in self.chosen if k < len(WORTH)]
        c = spec.channels
        self.net = NetInput(spec.net, tables, (spec.height, spec.width), c) if spec.net else None
        bit_sets, bit_maps = (c * 8 * 128, c * 8 * 8 * LEVELS, c * 256, c * 8 * 8), (c * 256, c * 8 * 128)
        self.runs = Mixing(tables, 3, 0, RUN_SETS, RUN_MAPS)
        self.guesses = Mixing(tables, pixel_contexts, 1, GUESS_SETS, GUESS_MAPS, worth)
        self.bits = Mixing(
            tables, len(self.chosen) + TEMPLATES * spec.bilevel, GRAPHICS_EXTRAS + (spec.net is not None),
            bit_sets, bit_maps, worth,
        )  # fmt: skip

    def code(self) -> None:
        """Code all pixels."""
        index = 0
        while index < len(self.wanted):
            row, column = divmod(index, self.spec.width)
            here = (ROWS_ABOVE + row) * self.stride + MARGIN + column
            if column == 0:
                self.begin_row(here, row)
            length = self.run_length(here, self.spec.width - column)
            run = self.code_run(here, index, length) if length >= 2 else 0
            if run < max(length, 1):
                self.code_pixel(here + run, row, column + run, self.wanted[index + run], length >= 2)
                run += 1
            index += run

    def begin_row(self, here: int, row: int) -> None:
        """Fill the margins that the neighbours of the row's pixels reach.  Matches do not go on from row to row."""
        above, self.match_length = here - self.stride, 0
        self.canvas[here - MARGIN : here] = [self.canvas[above] if row else 0] * MARGIN
        if row:
            end = above + self.spec.width
            self.canvas[end : end + MARGIN] = [self.canvas[end - 1]] * MARGIN

    def advance_match(self, count: int) -> None:
        """Go on with the match after ``count`` pixels that it has predicted."""
        if self.match_length:
            self.match_at += count
            self.match_length = min(self.match_length + count, MAX_MATCH_PIXELS)

    def put_pixels(self, index: int, pixels: list[int]) -> None:
        """Show the net, if there is one, pixels that are known from now on."""
        if self.net:
            for i, pixel in enumerate(pixels):
                self.net.put(*divmod(index + i, self.spec.width), pixel)

    # -- runs ------------------------------------------------------------------------------------------------------

    def run_length(self, here: int, left: int) -> int:
        """The pixels, from here on, above which all is one colour that the match predicts as well."""
        canvas, above = self.canvas, here - self.stride
        colour, match = canvas[above], self.match_at
        if not canvas[here - 1] == canvas[above - 1] == canvas[above + 1] == colour:
            return 0
        length = 0
        while length < min(left, MAX_RUN_PIXELS) and canvas[above + length + 1] == colour:
            if self.match_length and (match + length >= here or canvas[match + length] != colour):
                break
            length += 1
        return length

    def code_run(self, here: int, index: int, length: int) -> int:
        """The number of pixels that have the colour of the run: all ``length``, or halving finds how many."""
        colour, known = self.canvas[here - 1], 0
        while known < length and self.wanted[index + known] == colour:
            known += 1
        start, end, part, depth = 0, length, length, 0
        while end - start > 1 or depth == 0:
            if self.decide_run(here + start + part // 2, colour, part, depth, known >= start + part):
                start += part
            else:
                end = start + part
            part, depth = (end - start) // 2, min(depth + 1, 3)
        self.canvas[here : here + start] = [colour] * start
        self.put_pixels(index, [colour] * start)
        self.advance_match(start)
        return start

    def decide_run(self, middle: int, colour: int, length: int, depth: int, wanted: bool) -> bool:
        """Whether the next ``length`` pixels have the colour; ``middle`` lies amid them, ``depth`` counts halvings."""
        size, matched = length.bit_length() - 1, match_level(self.match_length)
        matching = (matched > 0) + (matched >= 4) + (matched >= 6)
        above = self.canvas[middle - 2 * self.stride] == colour
        hashes = [combine(1, depth), combine(2, colour, 4 * depth + (matched > 0)), combine(3, above, depth)]
        choice = 8 * (depth > 0) + min(size, 7)
        decision = Decision(
            self.buckets.find(hashes), size, (choice, 4 * min(depth, 2) + matching, 0, 0), (choice, size)
        )
        return self.runs.decide(decision, self.coder, wanted)

    # -- pixels ----------------------------------------------------------------------------------------------------

    def code_pixel(self, here: int, row: int, column: int, wanted: int, deviates: bool) -> None:
        """``deviates``: the pixel is the one that ended a run."""
        pixel = self.look_around(here, row, column, deviates)
        guess = pixel.matched if pixel.match_level else pixel.near.w
        if self.is_guessed(pixel) and self.decide_guess(pixel, guess, wanted == guess):
            found = guess
        else:
            found = self.code_samples(pixel, wanted)
        self.canvas[here] = found
        self.put_pixels(row * self.spec.width + column, [found])
        self.pairs[pixel.pair] = (self.pairs[pixel.pair] << 32 | found) & (1 << 64) - 1
        if pixel.matched == found:
            self.advance_match(1)
        else:
            self.match_length = 0

    def look_around(self, here: int, row: int, column: int, deviates: bool) -> Pixel:
        """What is known of a pixel.  Without a match, one begins at the last pixel with the same neighbours."""
        above, top = here - self.stride, here - 2 * self.stride
        www, ww, w = self.canvas[here - 3 : here]
        nww, nw, n, ne, nee = self.canvas[above - 2 : above + 3]
        nnw, nn, nne = self.canvas[top - 1 : top + 2]
        near = Neighbours(w, ww, www, n, nn, nw, ne, nee, nne, nnw, nww)
        seen = self.template_hash(here, PLACE_TEMPLATE, 30) if self.spec.bilevel else eleven_hash(near)
        place = key(seen, self.spec.place_bits)
        if not self.match_length and place in self.places:
            self.match_at, self.match_length = self.places[place], 1
        self.places[place] = here
        matched, level = self.canvas[self.match_at] if self.match_length else 0, match_level(self.match_length)
        pair = key(combine(0, near.w, near.n), PAIR_BITS)
        hashes = pixel_hashes(near, matched, level, self.pairs[pair])
        return Pixel(here, row, column, near, matched, level, equalities(near) | deviates << 6, hashes, pair)

    def is_guessed(self, pixel: Pixel) -> bool:
        likely = pixel.match_level >= 3 or pixel.near.w == pixel.near.n
        return (False, pixel.match_level >= 5, likely)[self.spec.guessing]

    def decide_guess(self, pixel: Pixel, guess: int, wanted: bool) -> bool:
        """Whether a pixel is what it is guessed to be.  If not, its samples know that it was not."""
        p, level, matched = pixel.near, pixel.match_level, pixel.match_level > 0
        hashes = [combine(pixel.hashes[k], 22 if matched else 23) for k in self.chosen if k < PIXEL_CONTEXTS]
        equal = 64 * matched + (pixel.equal & 63)
        same = (guess == p.w) | (guess == p.n) << 1 | (guess == p.ne) << 2
        others = (guess == p.nw) | (guess == p.ww) << 1 | (guess == p.nn) << 2
        choice = (equal, 8 * level + same, 64 * matched + 8 * same + others, 8 * matched)
        decision = Decision(self.buckets.find(hashes), 0, choice, choice[:2], [64 * level])
        if self.guesses.decide(decision, self.coder, wanted):
            return True
        pixel.equal |= 64
        return False

    # -- samples ---------------------------------------------------------------------------------------------------

    def code_samples(self, pixel: Pixel, wanted: int) -> int:
        """Code a pixel, channel after channel."""
        found, known = 0, 0
        net = self.net if self.needs_net(pixel) else None
        if net:
            net.begin_pixel(pixel.row, pixel.column)
        for c in range(self.spec.channels):
            numbers = self.predictors.predict(pixel, found, c)
            hashes = self.channel_hashes(pixel, found, c, numbers, known)
            asked = net if net and c >= net.first else None
            value = self.code_sample(pixel, c, numbers, hashes, wanted, asked)
            self.predictors.learn(pixel, c, value, numbers)
            found |= value << 8 * c
            known = combine(known, value + 1)
        return found

    def needs_net(self, pixel: Pixel) -> bool:
        """Whether the net is asked: not where contexts know enough."""
        return pixel.equal & 15 != 15 and pixel.match_level < 5

    def channel_hashes(self, pixel: Pixel, found: int, c: int, numbers: Numbers, known: int) -> list[int]:
        """The contexts of a channel.  ``found``: the samples before it; ``known``: their hash."""
        p, green, guess, level = pixel.near, self.spec.green, numbers.guess, numbers.level
        w, n, from_w, from_n = sample(p.w, c), sample(p.n, c), 0, 0
        if 0 <= green < c:
            from_w, from_n = (sample(found, green) - sample(near, green) for near in (p.w, p.n))
        hashes = [combine(code, known) for code in (*pixel.hashes[:13], combine(14, w))]
        hashes += [
            combine(15, numbers.blended + 4 >> 3, w),
            combine(16, guess[3]),
            combine(17, guess[6], level >> 1),
            combine(18, w, n, level),
            combine(19, guess[0], guess[1], guess[2]),
            combine(20, from_w, w),
            combine(21, from_n, n),
        ]
        found_hashes = [combine(hashes[k], c) for k in self.chosen]
        if self.spec.bilevel:
            found_hashes += [self.template_hash(pixel.here, t, 31 + k) for k, t in enumerate(TEMPLATE)]
        return found_hashes

    def template_hash(self, here: int, template: Sequence[int], number: int) -> int:
        return template_hash(self.canvas, here, self.stride, template, number)

    def code_sample(
        self, pixel: Pixel, c: int, numbers: Numbers, hashes: list[int], wanted: int, net: NetInput | None
    ) -> int:
        """Code a sample, bit after bit; at most four bits share the buckets of their contexts.  ``net``: if asked."""
        scale, adapted = (s[c][numbers.level] for s in (self.predictors.blended_scales, self.predictors.adapted_scales))
        distributions: list[Distribution | NetInput] = [
            Distribution(self.tables, numbers.blended, scale),
            Distribution(self.tables, 8 * numbers.guess[0], scale * 10 // 7),
            Distribution(self.tables, numbers.adapted >> 1, adapted),
        ]
        if net:
            net.begin_sample(c)
            distributions.append(net)
        depth, node = self.spec.depth, 1
        so_far = 1 << (8 - depth)  # the highest bits, of samples of fewer than 8, are zeros
        buckets = self.buckets.find(hashes)
        for bit in reversed(range(depth)):
            if bit == 3 and depth > 4:
                buckets, node = self.buckets.find([combine(code, so_far) for code in hashes]), 1
            edge = (so_far << (bit + 1) & 255) + (1 << bit)
            masses = [d.mass_below(edge) for d in distributions]
            choice, extra = self.bit_inputs(pixel, c, numbers, bit, so_far)
            extra += [d.input(m) for d, m in zip(distributions, masses, strict=True)]
            extra += [0] * (self.net is not None and net is None)
            decision = Decision(buckets, node - 1, choice, (choice[2], choice[0]), extra, c)
            one = self.bits.decide(decision, self.coder, bool(sample(wanted, c) >> bit & 1))
            for d, mass in zip(distributions, masses, strict=True):
                d.below, d.above = (mass, d.above) if one else (d.below, mass)
            so_far, node = 2 * so_far + one, 2 * node + one
        if net:
            net.end_sample(c, so_far & 255)
        return so_far & 255

    def bit_inputs(self, pixel: Pixel, c: int, numbers: Numbers, bit: int, so_far: int) -> tuple[list[int], list[int]]:
        """Choices of weights for a bit, and inputs from what is predicted.  ``so_far``: a one, then the bits before."""
        level, place = pixel.match_level, 8 * c + bit
        match = predicted_bit(sample(pixel.matched, c), so_far, bit) if level else 0
        extra = [match * (64 + 48 * level), 256 * predicted_bit(numbers.guess[0], so_far, bit), match * 128]
        by_level = (place * 8 + (level if match else 0)) * LEVELS + numbers.level
        return [place * 128 + pixel.equal, by_level, c * 256 + so_far, place * 8], extra
