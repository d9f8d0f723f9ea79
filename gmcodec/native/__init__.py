# SPDX-License-Identifier: MIT
"""The binding of the native core: the only place that calls the C library (gmcodec.h).

``core()`` is the library with the best instruction set of this processor, or the one that ``GMCODEC_ISA`` names.  It
makes ``Net``, ``Tile``, ``Layer``, ``Streams`` and ``Fit``, and has the functions that need none of them.  The library
trusts what it is passed, so everything is checked here: dtype, layout, size and bounds of every array.  Calls release
the GIL.

library.py loads it and has its structures; nets.py, tiles.py, streams.py and fits.py hold its objects; core.py has the
rest.
"""

from gmcodec.native.core import Core, core
from gmcodec.native.fits import Fit
from gmcodec.native.library import GATE, HIDDEN, OUTPUT, OUTPUT_WIDE, RESIDUAL, VARIABLE, isas
from gmcodec.native.nets import Layer, LayerArrays, Net
from gmcodec.native.tiles import Learning, Rules, Stacks, Tile

__all__ = ["GATE", "HIDDEN", "OUTPUT", "OUTPUT_WIDE", "RESIDUAL", "VARIABLE", "Core", "Fit", "Layer", "LayerArrays",
           "Learning", "Net", "Rules", "Stacks", "Tile", "core", "isas"]  # fmt: skip
