# SPDX-License-Identifier: MIT
"""Gradient of the cost of coded pixels by what a net said of them, in integers.

The cost of a pixel is -log p in nats, p the mixture of coupled logistics of tables.py.  With r the components'
weights once all samples are known, pi those before, and s = sigma(a), t = sigma(b) at both edges of a sample::

    by a logit       pi - r
    by a mean        r (1 - s - t) / scale                        since sigma' = sigma (1 - sigma)
    by a log-scale   r (b sigma'(b) - a sigma'(a)) / (t - s)
    by a coupling    that by the mean * residual of the channel before

learning_spec.py says the same in plain numpy.
"""

from __future__ import annotations

import numpy as np

from ..exact import kernels
from ..exact.kernels import REACH, jit
from ..exact.tables import (
    COUPLING_BITS,
    INVERSE_BITS,
    POSITION,
    ROW_TOTAL,
    TOTAL_BITS,
    WEIGHT_BITS,
)
from .mixture import open_channel

BITS = 16  # gradients are multiples of 2**-16, by a logit, a grey level, a nat of scale, a coupling
LIMIT = 2**37
INVERSE_UNIT_BITS = 19  # the inverse scale 1 is 2**19: SIGMOID_UNIT / POSITION * 2**INVERSE_BITS
RATIO_BITS = 9  # of SIGMOID_UNIT


@jit
def _sloped(u, sigma):
    """u sigma'(u), in 1/512 * 2**-24."""
    return u * ((sigma * (ROW_TOTAL - sigma)) >> TOTAL_BITS)


@jit
def mixture_gradient(net, outputs, base, samples, components, scale, out, centre):
    """Gradients by the outputs, int64 [N, >= outputs] out, and by the base, int64 [N, C] out, both times 2**BITS.

    outputs int32 [N, >= outputs], base and samples int32 [N, C]; scale: Scale; ``net`` has the tables softmax, inverse,
    sigmoid.
    """
    pixels, channels = base.shape
    prior = np.empty((pixels, components), np.int64)
    mean = np.empty((pixels, components), np.int64)
    inverse = np.empty((channels, pixels, components), np.int64)
    edges = np.empty((channels, pixels, components, 2), np.int64)  # where a sample's lie on the logistics, in 1/512
    masses = np.empty((channels, pixels, components, 2), np.int64)  # and the mass below
    kernels.softmax(outputs, net.softmax, prior)
    weights = prior.copy()
    for c in range(channels):
        open_channel(outputs, base, samples, c, channels, net.inverse, scale.shift, components, 0, mean, inverse[c])
        for n in range(pixels):
            place, total = (np.int64(samples[n, c]) * POSITION) >> scale.shift, np.int64(0)
            for k in range(components):
                m, v = mean[n, k], inverse[c, n, k]
                a = min(max(((place - scale.half - m) * v) >> INVERSE_BITS, -REACH), REACH)
                b = min(max(((place + scale.half - m) * v) >> INVERSE_BITS, -REACH), REACH)
                s = np.int64(net.sigmoid[a + REACH]) if samples[n, c] > 0 else np.int64(0)
                t = np.int64(net.sigmoid[b + REACH]) if samples[n, c] < scale.top else np.int64(ROW_TOTAL)
                edges[c, n, k, 0], edges[c, n, k, 1], masses[c, n, k, 0], masses[c, n, k, 1] = a, b, s, t
                weights[n, k] *= t - s + 1
                total += weights[n, k]
            kernels.normalise(weights[n], total)
    for n in range(pixels):
        for k in range(components):
            out[n, k] = (prior[n, k] - weights[n, k]) << (BITS - WEIGHT_BITS)
        for c in range(channels):
            centre[n, c] = 0
            pairs = components * (1 + 2 * channels + c * (c - 1) // 2)
            for k in range(components):
                weight, v = weights[n, k], inverse[c, n, k]
                a, b, s, t = edges[c, n, k, 0], edges[c, n, k, 1], masses[c, n, k, 0], masses[c, n, k, 1]
                by_mean = (((weight * (ROW_TOTAL - s - t)) >> WEIGHT_BITS) * v) >> (
                    TOTAL_BITS + INVERSE_UNIT_BITS - BITS
                )
                ratio = (_sloped(b, t) - _sloped(a, s)) // (t - s + 1)
                by_scale = (weight * min(max(ratio, -REACH), REACH)) >> (WEIGHT_BITS + RATIO_BITS - BITS)
                out[n, components * (1 + c) + k] = by_mean
                out[n, components * (1 + channels + c) + k] = by_scale
                centre[n, c] += by_mean
                for p in range(c):
                    residual = ((np.int64(samples[n, p]) * POSITION) >> scale.shift) - base[n, p]
                    coupling = pairs + p * components + k
                    out[n, coupling] = min(max((by_mean * residual) // POSITION, -LIMIT), LIMIT)
                    centre[n, p] -= (by_mean * outputs[n, coupling]) >> COUPLING_BITS
