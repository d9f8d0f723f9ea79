# SPDX-License-Identifier: MIT
"""PixelCNN++ for small images: the architecture, shared by the float net and its frozen form.

Two streams of features, as in Salimans et al. 2017: the *upper* one sees the rows above a pixel, the *left*
one sees those and the pixels to the left in the same row.  Every resolution is half the one before::

    image + ones                                                            K logistics a pixel
        | first layers                                                             ^ last
    resolution 0   [blocks 0] ---------------- skips ----------------> [blocks 0, one more]
        | stride 2                                                             ^ transposed
    resolution 1        [blocks 1] ----------- skips ---------> [blocks 1, one more]
        | stride 2                                                   ^ transposed
    resolution 2             [blocks 2] ------ skips ---> [blocks 2]
"""

from __future__ import annotations

from dataclasses import dataclass

KIND = "pixelcnnpp-1"
NONLINEARITIES = ("concat_elu", "elu", "leaky")


@dataclass(frozen=True)
class PixelCNNConfig:
    """Architecture; stored with the weights.  Resolutions are listed from the finest, one entry each."""

    channels: int  # 3 (RGB) or 1 (grey)
    filters: tuple[int, ...]  # features of either stream
    blocks: tuple[int, ...]  # gated blocks of either stream before the next resolution
    rows: int  # above a pixel that the first layers see; the paper has 2
    columns: int  # to either side that the first layers see; the paper has 1
    mixtures: int  # logistic components K
    nonlinearity: str  # one of NONLINEARITIES
    dropout: float  # share of a block's inner features that a training step drops
    weight_norm: bool  # weights as direction and length while training
    condition: int  # channels D of a conditioning input [B, D, H, W]; 0: there is none

    def __post_init__(self) -> None:
        if len(self.filters) != len(self.blocks) or not self.filters or min(self.filters + self.blocks) < 1:
            raise ValueError(f"filters {self.filters} and blocks {self.blocks} must list the same resolutions")
        if self.nonlinearity not in NONLINEARITIES:
            raise ValueError(f"nonlinearity {self.nonlinearity!r} is not one of {', '.join(NONLINEARITIES)}")
        if self.rows < 2 or self.columns < 1:
            raise ValueError(f"the first layers must see 2 rows and 1 column, not {self.rows} and {self.columns}")

    @property
    def couplings(self) -> int:
        return self.channels * (self.channels - 1) // 2

    @property
    def outputs(self) -> int:
        """Rows of the output: logits, means, log-scales, couplings of K logistics, as in exact/tables.py."""
        return self.mixtures * (1 + 2 * self.channels + self.couplings)

    @property
    def widening(self) -> int:
        """Features that the non-linearity makes of one."""
        return 2 if self.nonlinearity == "concat_elu" else 1
