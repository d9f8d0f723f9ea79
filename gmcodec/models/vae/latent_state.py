# SPDX-License-Identifier: MIT
"""The frozen VAE over a batch of images: features on the way up, latents group by group on the way down.

The specification in plain numpy is spec.py.
"""

from __future__ import annotations

import numpy as np

from gmcodec import native
from gmcodec.arrays import Int16, Int32, Int64, Integer
from gmcodec.exact import gaussian
from gmcodec.exact.gaussian import Gaussians, LatentTables
from gmcodec.models.shared.activations import MAP_UNIT
from gmcodec.models.shared.conv import to_activation, twice
from gmcodec.models.vae.frozen import FrozenVAE

LATENT_MEANS_UNIT = 4096  # of means that nets give
LATENT_SHIFT = (gaussian.LATENT_POSITION // MAP_UNIT).bit_length() - 1  # from positions of latents to activations


def bottom_up(vae: FrozenVAE, x: Int16[np.ndarray, "B H W F"]) -> list[list[np.ndarray]]:
    """Features of a map: the activation behind each block, for every resolution."""
    conv, c = vae.conv, vae.config
    x = conv.convolve("first", x, 2 * c.stride + 1, c.stride)
    found: list[list[np.ndarray]] = []
    for level, blocks in enumerate(c.groups):
        if level:
            x = conv.convolve(f"shrink.{level - 1}", conv.active(x), stride=2)
        found.append([])
        for n in range(blocks):
            inner = conv.active(conv.convolve(f"up.{level}.{n}.first", conv.active(x)))
            x = conv.residual(x, f"up.{level}.{n}.second", inner)
            found[-1].append(conv.active(x))
    return found


def split_latents(
    outputs: Int64[np.ndarray, "B H W F"],
) -> tuple[Int64[np.ndarray, "B H W L"], Int64[np.ndarray, "B H W L"]]:
    """Outputs int64 [.., 2L] -> means in 1/65536, and log-scales in 1/32 nat clamped like the float net's, [.., L]."""
    mean, log_scale = np.split(outputs, 2, -1)
    unit = gaussian.LATENT_LOG_SCALE_UNIT
    mean = mean * (gaussian.LATENT_POSITION // LATENT_MEANS_UNIT)
    return mean, np.clip(log_scale, gaussian.LATENT_LOG_SCALE_MIN * unit, gaussian.LATENT_LOG_SCALE_MAX * unit)


class LatentState:
    """The latents that are known so far, top down from the first group to the last.  See coding/bitsback.py.

    A part is a group, [B, H', W', L], or, if the posterior is a flow, one channel of a group, [B, H', W'].
    """

    def __init__(self, vae: FrozenVAE, count: int, size: tuple[int, int], up: list[list[np.ndarray]] | None) -> None:
        """``size``: height and width, whole cells; ``up``: from ``bottom_up``, if posteriors are needed."""
        self._vae, self._count, self._size, self._up = vae, count, size, up
        self._stage, self._channel = 0, 0
        cell = vae.config.cell
        self._x = np.tile(vae.constants.top.astype(np.int16), (count, size[0] // cell, size[1] // cell, 1))
        self._begin_group()

    def sizes(self) -> list[int]:
        c, count = self._vae.config, self._count
        sizes = []
        for level, _ in c.stages:
            channels, rows, columns = c.latent_shape(level, *self._size)
            cells = count * rows * columns
            sizes += [cells] * channels if c.posterior == "iaf" else [cells * channels]
        return sizes

    def _begin_group(self) -> None:
        """Start the next stage."""
        c, conv = self._vae.config, self._vae.conv
        level, n = c.stages[self._stage]
        if self._stage and level < c.stages[self._stage - 1][0]:
            self._x = conv.convolve(f"grow.{level}", twice(conv.active(self._x)))
        self._active = conv.active(self._x)
        self._posterior: tuple[np.ndarray, np.ndarray] | None = None
        cells = (*self._active.shape[:3], c.latents)
        self._e = np.zeros(cells, np.int64)  # in 1/65536
        self._e0 = np.zeros(cells, np.int64)  # before the flow of the posterior
        self._flow_outputs: tuple[np.ndarray, np.ndarray] | None = None
        self._up_features = None if self._up is None else self._up[level][-1 - n]

    # -- posteriors ----------------------------------------------------------------------------------------

    def posterior(self) -> PosteriorFrequencies:
        """The posterior of the next part."""
        vae = self._vae
        if self._up_features is None:
            raise ValueError("posteriors need the images")
        if self._posterior is None:
            both = np.concatenate([self._up_features, self._active], 3)
            self._posterior = self._split(f"stages.{self._stage}.posterior", both)
        mean, log_scale = self._posterior
        if vae.config.posterior == "iaf":
            flow_mean, flow_scale = self._flow()
            i = self._channel
            flow_index = gaussian.scale_index(flow_scale[..., i])
            mean = flow_mean[..., i] + gaussian.times_scale(mean[..., i], flow_index, vae.latent_tables)
            log_scale = flow_scale[..., i] + log_scale[..., i]
        index = gaussian.scale_index(log_scale)
        limit = gaussian.LATENT_MEAN_LIMIT
        return PosteriorFrequencies(Gaussians(np.clip(mean, -limit, limit).ravel(), index.ravel()), vae.latent_tables)

    def _split(self, name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``split_latents`` of the outputs of a layer."""
        return split_latents(self._vae.conv.outputs(name, x).astype(np.int64))

    def _flow(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and log-scale of all channels; right for the next one, which depends only on the channels before."""
        if self._flow_outputs is not None:
            return self._flow_outputs
        conv, name = self._vae.conv, f"stages.{self._stage}.flow"
        known = to_activation(self._e0, LATENT_SHIFT)
        inner = conv.active(conv.convolve(f"{name}.first", np.concatenate([known, self._up_features], 3)))
        self._flow_outputs = self._split(f"{name}.last", inner)
        return self._flow_outputs

    def observe(self, bins: Integer[np.ndarray, " N"]) -> None:
        """Set the bins of the next part, int [N]."""
        vae = self._vae
        values = vae.latent_tables.values[bins].astype(np.int64)
        if vae.config.posterior == "gaussian":
            self._e[:] = values.reshape(self._e.shape)
            self._finish_group()
            return
        i = self._channel
        self._e[..., i] = values.reshape(self._e.shape[:3])
        if self._up_features is not None:
            flow_mean, flow_scale = self._flow()
            index = gaussian.scale_index(flow_scale[..., i])
            self._e0[..., i] = gaussian.over_scale(self._e[..., i] - flow_mean[..., i], index, vae.latent_tables)
        self._flow_outputs = None
        self._channel += 1
        if self._channel == vae.config.latents:
            self._channel = 0
            self._finish_group()

    def _finish_group(self) -> None:
        """All latents of a stage are known: add them to the features and go on to the next stage."""
        vae, name = self._vae, f"stages.{self._stage}"
        conv, z = vae.conv, self._e
        if self._stage:
            mean, log_scale = self._split(f"{name}.prior", self._active)
            z = mean + gaussian.times_scale(z, gaussian.scale_index(log_scale), vae.latent_tables)
        known = to_activation(z, LATENT_SHIFT)
        inner = conv.active(conv.convolve(f"{name}.inner", np.concatenate([self._active, known], 3)))
        self._x = conv.residual(self._x, f"{name}.second", inner)
        self._stage += 1
        if self._stage < len(vae.config.stages):
            self._begin_group()

    # -- f(z) ----------------------------------------------------------------------------------------------

    def means(self) -> Int32[np.ndarray, "B C H W"]:
        """f(z), int32 [B, H'', W'', planes] in 1/64 grey level, relative to 128."""
        conv, x = self._vae.conv, self._x
        for n in range(self._vae.config.doublings):
            x = conv.convolve(f"finer.{n}", twice(conv.active(x)))
        return conv.outputs("last", conv.active(x))


class PosteriorFrequencies:
    """The posterior of a part, as frequencies of nibbles."""

    def __init__(self, posteriors: Gaussians, tables: LatentTables) -> None:
        self.gaussians, self._tables = posteriors, tables

    def rows(self, first: np.ndarray, step: int) -> np.ndarray:
        """Rows of a nibble, as ``gaussian.rows``."""
        g = self.gaussians
        first = np.ascontiguousarray(np.broadcast_to(first, g.mean.shape))
        return native.core().latent_rows(first, step, g.mean, g.log_scale, self._tables)
