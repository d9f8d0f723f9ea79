# SPDX-License-Identifier: MIT
"""The binding of the native core: the only place that calls the C library (gmcodec.h).

``core()`` returns the library's functions for this processor's best instruction set, or for the one that
``GMCODEC_ISA`` names.  The objects ``Net``, ``Tile``, ``Layer``, ``Streams``, ``Fit`` and ``Graphics`` are made from
it; functions that need no object are methods of ``Core``.  The library trusts its arguments, so everything is checked
here: dtype, layout, size and bounds of every array.  Calls release the GIL.

library.py loads the library and declares its structures; nets.py, tiles.py, streams.py, fits.py and graphics.py wrap
its objects; core.py has the rest.
"""

from gmcodec.native.core import Core, core
from gmcodec.native.fits import Fit
from gmcodec.native.graphics import (
    MAX_CANVAS_SIZE,
    DecisionReader,
    Graphics,
    canvas_shape,
    canvas_size,
    fill_canvas,
    new_canvas,
    pushed_decisions,
    read_canvas,
)
from gmcodec.native.library import GATE, HIDDEN, ISA_VARIABLE, OUTPUT, OUTPUT_WIDE, RESIDUAL, isas
from gmcodec.native.nets import Layer, LayerArrays, Net
from gmcodec.native.tiles import RmspropLayer, RmspropNet, Stacks, Tile

__all__ = [
           "GATE",
           "HIDDEN",
           "ISA_VARIABLE",
           "MAX_CANVAS_SIZE",
           "OUTPUT",
           "OUTPUT_WIDE",
           "RESIDUAL",
           "Core",
           "DecisionReader",
           "Fit",
           "Graphics",
           "Layer",
           "LayerArrays",
           "Net",
           "RmspropLayer",
           "RmspropNet",
           "Stacks",
           "Tile",
           "canvas_shape",
           "canvas_size",
           "core",
           "fill_canvas",
           "isas",
           "new_canvas",
           "pushed_decisions",
           "read_canvas",
]  # fmt: skip
