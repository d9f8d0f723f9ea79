# SPDX-License-Identifier: MIT
"""JPEG XL with settings that no Python binding offers, through the C interface of the libjxl in imagecodecs.

``cjxl -e 9 -g 3 -E 3`` uses groups of 1024 pixels, in which contexts reach further, and earlier channels as context.
These are the strongest settings of the strongest competitor.  Names and numbers are those of libjxl's ``encode.h``.
"""

from __future__ import annotations

import ctypes
import glob
from ctypes import POINTER, byref, c_char, c_float, c_int, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path

import imagecodecs
import numpy as np

EFFORT, GROUP_SIZE, PREVIOUS_CHANNELS = 0, 26, 29  # JxlEncoderFrameSettingId
SUCCESS, MORE_OUTPUT = 0, 2  # JxlEncoderStatus
DATA_TYPES = {np.dtype(np.uint8): 2, np.dtype(np.uint16): 3}  # JxlDataType
BUFFER_BYTES = 1 << 20


class BasicInfo(ctypes.Structure):
    """JxlBasicInfo, whose layout has been the same in all 0.x versions of libjxl."""

    _fields_ = [
        ("have_container", c_int), ("xsize", c_uint32), ("ysize", c_uint32), ("bits_per_sample", c_uint32),
        ("exponent_bits", c_uint32), ("intensity_target", c_float), ("min_nits", c_float), ("relative", c_int),
        ("linear_below", c_float), ("uses_original_profile", c_int), ("have_preview", c_int),
        ("have_animation", c_int), ("orientation", c_int), ("colour_channels", c_uint32),
        ("extra_channels", c_uint32), ("alpha_bits", c_uint32), ("rest", c_char * 512),
    ]  # fmt: skip


class PixelFormat(ctypes.Structure):
    """JxlPixelFormat."""

    _fields_ = [("channels", c_uint32), ("data_type", c_int), ("endianness", c_int), ("align", c_size_t)]


def _load(pattern: str) -> ctypes.CDLL:
    package = Path(imagecodecs.__file__).parent
    for folder in (package.parent / "imagecodecs.libs", package / ".dylibs"):
        for path in glob.glob(str(folder / pattern)):
            return ctypes.CDLL(path)
    raise ImportError("this build of imagecodecs brings no libjxl as a shared library")


class Encoder:
    """A lossless encoder with an effort, a group size (0 to 3) and a number of previous channels as context."""

    def __init__(self, effort: int, group_size: int, previous_channels: int, threads: int) -> None:
        import imagecodecs._jpegxl  # noqa: F401  loads the libraries that libjxl needs

        self.jxl, self.runners = _load("libjxl[-.][0-9a-f]*"), _load("libjxl_threads[-.]*")
        self.options = {EFFORT: effort, GROUP_SIZE: group_size, PREVIOUS_CHANNELS: previous_channels}
        self.threads = threads
        self.jxl.JxlEncoderCreate.restype = c_void_p
        self.jxl.JxlEncoderFrameSettingsCreate.restype = c_void_p
        self.jxl.JxlEncoderFrameSettingsCreate.argtypes = [c_void_p, c_void_p]
        self.jxl.JxlEncoderFrameSettingsSetOption.argtypes = [c_void_p, c_int, c_int64]
        self.jxl.JxlEncoderAddImageFrame.argtypes = [c_void_p, POINTER(PixelFormat), c_void_p, c_size_t]
        self.jxl.JxlEncoderProcessOutput.argtypes = [c_void_p, POINTER(c_void_p), POINTER(c_size_t)]
        self.runners.JxlThreadParallelRunnerCreate.restype = c_void_p
        self.runners.JxlThreadParallelRunnerCreate.argtypes = [c_void_p, c_size_t]

    def encode(self, image: np.ndarray) -> bytes:
        """uint8 or uint16, [H, W] or [H, W, C] -> a JPEG XL file.  Raises RuntimeError."""
        image = np.ascontiguousarray(image)
        runner = c_void_p(self.runners.JxlThreadParallelRunnerCreate(None, self.threads))
        encoder = c_void_p(self.jxl.JxlEncoderCreate(None))
        try:
            self._ok(self.jxl.JxlEncoderSetParallelRunner(encoder, self.runners.JxlThreadParallelRunner, runner))
            self._describe(encoder, image)
            self._add(encoder, image)
            return self._output(encoder)
        finally:
            self.jxl.JxlEncoderDestroy(encoder)
            self.runners.JxlThreadParallelRunnerDestroy(runner)

    def _describe(self, encoder: c_void_p, image: np.ndarray) -> None:
        info, channels = BasicInfo(), 1 if image.ndim == 2 else image.shape[2]
        self.jxl.JxlEncoderInitBasicInfo(byref(info))
        info.ysize, info.xsize = image.shape[:2]
        info.bits_per_sample, info.exponent_bits, info.uses_original_profile = 8 * image.itemsize, 0, 1
        info.colour_channels, info.extra_channels = (1 if channels < 3 else 3), (channels + 1) % 2
        info.alpha_bits = info.bits_per_sample * info.extra_channels
        self._ok(self.jxl.JxlEncoderSetBasicInfo(encoder, byref(info)))
        colour = (c_char * 512)()  # JxlColorEncoding, filled by libjxl itself
        self.jxl.JxlColorEncodingSetToSRGB(byref(colour), c_int(channels < 3))
        self._ok(self.jxl.JxlEncoderSetColorEncoding(encoder, byref(colour)))

    def _add(self, encoder: c_void_p, image: np.ndarray) -> None:
        settings = self.jxl.JxlEncoderFrameSettingsCreate(encoder, None)
        self._ok(self.jxl.JxlEncoderSetFrameLossless(c_void_p(settings), c_int(1)))
        for option, value in self.options.items():
            self._ok(self.jxl.JxlEncoderFrameSettingsSetOption(settings, option, value))
        channels = 1 if image.ndim == 2 else image.shape[2]
        format = PixelFormat(channels, DATA_TYPES[image.dtype], 0, 0)
        self._ok(self.jxl.JxlEncoderAddImageFrame(settings, byref(format), image.ctypes.data, image.nbytes))
        self.jxl.JxlEncoderCloseInput(encoder)

    def _output(self, encoder: c_void_p) -> bytes:
        out = b""
        while True:
            buffer = ctypes.create_string_buffer(BUFFER_BYTES)
            place, free = c_void_p(ctypes.addressof(buffer)), c_size_t(BUFFER_BYTES)
            status = self.jxl.JxlEncoderProcessOutput(encoder, byref(place), byref(free))
            out += buffer.raw[: BUFFER_BYTES - free.value]
            if status != MORE_OUTPUT:
                self._ok(status)
                return out

    def _ok(self, status: int) -> None:
        if status != SUCCESS:
            raise RuntimeError("libjxl refused a setting or failed to encode")
