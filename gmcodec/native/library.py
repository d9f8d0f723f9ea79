# SPDX-License-Identifier: MIT
"""The native library: its structures (gmcodec.h), how it is loaded, and the checks of arrays that are passed to it."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_char_p, c_double, c_int32, c_int64, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from gmcodec.errors import NativeError

ISA_VARIABLE = "GMCODEC_ISA"
LIBRARY = {"win32": "gmcodec.dll", "darwin": "libgmcodec.dylib"}.get(sys.platform, "libgmcodec.so")
MAX_OUTPUTS, MAX_FEATURES, MAX_MIXTURES, MAX_NEAR, MAX_RUN, MAX_WORKERS = 1024, 1024, 32, 1024, 34, 8
MAX_VALUE_WEIGHT = 2**14  # so that weighted frequencies, which sum to 2**38 at most, times 2**24 stay below 2**63
HIDDEN, OUTPUT, RESIDUAL, OUTPUT_WIDE, GATE = range(5)  # kinds of a layer: what becomes of its sums
TABLE_SIZES = {"softmax": 1024, "inverse": 321, "sigmoid": 17409}


# -- the structures of gmcodec.h ---------------------------------------------------------------------------------


class _Layer(Structure):
    _fields_ = (
        ("rows", c_int32), ("columns", c_int32), ("weight", c_void_p), ("bias", c_void_p), ("multiplier", c_void_p),
        ("shift", c_void_p),
    )  # fmt: skip


class _Scale(Structure):
    _fields_ = (("shift", c_int32), ("extra_bits", c_int32), ("max_sample", c_int32), ("half_width", c_int32))


class _Net(Structure):
    _fields_ = (
        ("channels", c_int32), ("mixtures", c_int32), ("blocks", c_int32), ("condition", c_int32), ("limit", c_int32),
        ("output_limit", c_int32), ("layers", POINTER(_Layer)), ("conditions", POINTER(_Layer)),
        ("linear", POINTER(_Layer)), ("near", c_void_p), ("runs", c_int32), ("run", c_void_p), ("softmax", c_void_p),
        ("inverse", c_void_p), ("sigmoid", c_void_p),
    )  # fmt: skip


class _RmspropLayer(Structure):
    _fields_ = (
        ("delta_scale", c_void_p), ("rate", c_void_p), ("backward_shift", c_void_p), ("weight_limit", c_int32),
        ("bias_input", c_int32),
    )  # fmt: skip


class _RmspropNet(Structure):
    _fields_ = (
        ("layers", POINTER(_RmspropLayer)), ("block_unit", c_void_p), ("linear_rate", c_void_p), ("averaged", c_int32)
    )  # fmt: skip


class _TileGeometry(Structure):
    _fields_ = (
        ("height", c_int32), ("width", c_int32), ("channels", c_int32), ("slope", c_int32), ("high_depth", c_int32),
        ("row_size", c_int32), ("origin", c_int64), ("samples", c_void_p),
    )  # fmt: skip


class _Coding(Structure):
    _fields_ = (("scale", _Scale), ("nibbles", c_int32), ("values", c_void_p), ("weighted", c_void_p))


class _Stack(Structure):
    _fields_ = (("state", c_uint64), ("count", c_int64))


class _Fit(Structure):
    _fields_ = (
        ("n", c_int64), ("channels", c_int32), ("mixtures", c_int32), ("outputs", c_void_p), ("units", c_void_p),
        ("base", c_void_p), ("target", c_void_p), ("feature_count", c_int32), ("near_count", c_int32),
        ("features", c_void_p), ("near", c_void_p),
    )  # fmt: skip


class _MixingTables(Structure):
    _fields_ = (
        ("stretch", c_void_p), ("squash", c_void_p), ("reciprocal", c_void_p), ("logistic", c_void_p),
        ("inverse_square", c_void_p),
    )  # fmt: skip


class _GraphicsNet(Structure):
    _fields_ = (("net", c_void_p), ("samples", c_void_p), ("origin", c_int64), ("row_size", c_int64))


class _Graphics(Structure):
    _fields_ = (
        ("width", c_int32), ("height", c_int32), ("channels", c_int32), ("depth", c_int32), ("green", c_int32),
        ("contexts", c_uint32), ("bilevel", c_int32), ("guessing", c_int32), ("bucket_bits", c_int32),
        ("place_bits", c_int32), ("stride", c_int64), ("pixels", c_void_p), ("tables", POINTER(_MixingTables)),
        ("net", POINTER(_GraphicsNet)),
    )  # fmt: skip


class _DecisionReader(Structure):
    _fields_ = (
        ("words", c_void_p), ("sizes", c_void_p), ("blocks", c_int64), ("block_decisions", c_int64), ("block", c_int64),
        ("left", c_int64), ("size", c_int64), ("count", c_int64), ("state", c_uint32), ("damaged", c_int32),
    )  # fmt: skip


_P, _I, _L = c_void_p, c_int32, c_int64
# name, result, arguments: in the order of gm_functions
_FUNCTIONS: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
    ("net_new", _P, (POINTER(_Net),)),
    ("net_free", None, (_P,)),
    ("net_evaluate", _I, (_P, _P, _L, _P, _L, _P, _P, _P)),
    ("net_features", None, (_P, _P, _L, _P, _L, _P, _P)),
    ("tile_new", _P, (POINTER(_P), POINTER(_RmspropNet), _I, POINTER(_TileGeometry), POINTER(_Coding), _I)),
    ("tile_free", None, (_P,)),
    ("tile_push", c_double, (_P, _I, _I, POINTER(_Stack), _P)),
    ("tile_sample", None, (_P, _I, _I, _I, _P, _P)),
    ("tile_pop", None, (_P, _I, _I, POINTER(_Stack), _P)),
    ("tile_evaluate", _L, (_P,)),
    ("tile_symbols", None, (_P, POINTER(_L))),
    ("tile_intervals", c_double, (_P, _I, _I, _I, POINTER(_P))),
    ("tile_pop_online", None, (_P, _I, _I, _I, POINTER(_Stack), POINTER(_P))),
    ("push_intervals", None, (_P, _L, POINTER(_Stack), _P)),
    ("layer_new", _P, (POINTER(_Layer),)),
    ("layer_free", None, (_P,)),
    ("layer_run", None, (_P, _I, _I, _P, _L, _L, _P, _P, _L)),
    ("layer_sums", None, (_P, _P, _L, _L, _P)),
    ("convolve", _I, (_P, _I, _I, _P, _L, _I, _I, _I, _I, _I, _P)),
    ("leaky", None, (_P, _L, _P)),
    ("elu", None, (_P, _L, _P, _P)),
    ("streams_new", _P, (_P,)),  # native/streams.py
    ("streams_free", None, (_P,)),
    ("streams_run", None, (_P, _I, _I, _I, _P, _P)),
    ("softmax", None, (_P, _L, _L, _I, _P, _P)),
    ("channel_logistics", None, (_P, _L, _P, _P, _L, _I, _I, _I, _P, _P, _P)),
    ("nibble_rows", None, (_P, _P, _P, _L, _I, _P, _P, _P)),
    ("observe", None, (_P, _L, _I, _P, _P, _P, _P)),
    ("reweight", None, (_P, _P, _L, _P)),
    ("gaussian_rows", None, (_P, _L, _P, _P, _L, _P, _L, _P, _L, _P, _P)),
    ("undo_png", None, (_P, _L, _P, _L, _L, _L, _L)),
    ("undo_med", None, (_P, _L, _L, _L, _I)),
    ("fit_changes", _I, (POINTER(_Fit), _P, _P, POINTER(c_double))),
    ("fit_likelihood", _I, (POINTER(_Fit), _P, POINTER(c_double), _P, _P)),
    ("graphics_new", _P, (POINTER(_Graphics),)),
    ("graphics_free", None, (_P,)),
    ("graphics_encode", _L, (_P, _L, _L, _P, POINTER(_L))),
    ("graphics_decode", _L, (_P, _L, _L, POINTER(_DecisionReader))),
    ("push_decisions", None, (_P, _L, POINTER(c_uint32), _P, POINTER(_L))),
)


class _Functions(Structure):
    _fields_ = (("isa", c_char_p), *((name, c_void_p) for name, _, _ in _FUNCTIONS))


# -- the library -------------------------------------------------------------------------------------------------


@functools.cache
def _library() -> ctypes.CDLL:
    path = os.environ.get("GMCODEC_NATIVE_LIBRARY") or Path(__file__).parent / LIBRARY
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeError(f"the native library cannot be loaded; install gmcodec again: {error}") from error
    library.gm_open.restype, library.gm_open.argtypes = POINTER(_Functions), (c_char_p,)
    library.gm_isas.restype, library.gm_isas.argtypes = c_char_p, ()
    return library


def isas() -> list[str]:
    """The instruction sets that both the library and this processor have, the best first."""
    return _library().gm_isas().decode().split(",")  # type: ignore[no-any-return]


def functions(isa: str) -> _Functions:
    """The table of an instruction set, or of the best.  Raises NativeError."""
    table = _library().gm_open(isa.encode())
    if not table:
        raise NativeError(
            f"{ISA_VARIABLE}={isa}: this processor or library does not have it; it has {', '.join(isas())}"
        )
    return table.contents  # type: ignore[no-any-return]


class InstructionSet:
    """The functions of gmcodec.h, compiled for one instruction set."""

    def __init__(self, table: _Functions) -> None:
        self.isa: str = table.isa.decode()
        for name, result, arguments in _FUNCTIONS:
            kind = ctypes.CFUNCTYPE(result, *arguments)
            setattr(self, name, kind(getattr(table, name)))

    def __getattr__(self, name: str) -> Any:  # tells mypy that the functions above are attributes
        raise AttributeError(name)

    @staticmethod
    def made(handle: int | None) -> int:
        """The handle that a function of the library returned.  Raises MemoryError if it is null."""
        if not handle:
            raise MemoryError("the native library has not enough memory")
        return handle


# -- arrays ------------------------------------------------------------------------------------------------------


def _address(array: np.ndarray, dtype: Any, *shape: int | None) -> int:
    """The address of an array's first element.  Raises TypeError or ValueError if its type or shape is another.

    None in ``shape`` stands for any size.
    """
    if array.dtype != dtype or not array.flags.c_contiguous:
        strides = "" if array.flags.c_contiguous else " in strides"
        raise TypeError(f"expected contiguous {np.dtype(dtype)}, got {array.dtype}{strides}")
    if len(shape) != array.ndim or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
        raise ValueError(f"expected the shape {shape}, got {array.shape}")
    return array.ctypes.data


def _output_address(array: np.ndarray, dtype: Any, *shape: int | None) -> int:
    """The ``_address`` of an array that the library writes to."""
    if not array.flags.writeable:
        raise ValueError("the array cannot be written")
    return _address(array, dtype, *shape)


def _in_range(array: np.ndarray, low: int, high: int, what: str) -> np.ndarray:
    """The array itself.  Raises ValueError if a number in it lies outside low..high."""
    if array.size and (int(array.min()) < low or int(array.max()) > high):
        raise ValueError(f"{what} must lie in {low}..{high}")
    return array


def _even_columns(x: np.ndarray) -> np.ndarray:
    """int16 [N, K] with an even K, because the library reads pairs: an odd K gets a column of zeros."""
    return x if x.shape[1] % 2 == 0 else np.ascontiguousarray(np.pad(x, ((0, 0), (0, 1))))


def _c_array(structures: Sequence[Any], kind: Any) -> Any:
    """A C array of structures or addresses."""
    return (kind * len(structures))(*structures)
