# SPDX-License-Identifier: MIT
"""Every error a user can meet, as one small tree.

``exit_code`` is what the command line returns for the error; libraries catch ``GmcError``.
"""


class GmcError(Exception):
    """Base of all errors raised on purpose by gmcodec."""

    exit_code = 1


class UnsupportedImageError(GmcError):
    """The input is an image that gmcodec cannot keep exactly (CMYK, float, animated, ...)."""

    exit_code = 3


class ImageReadError(GmcError):
    """The input is not a readable image: damaged, empty or of an unknown format."""

    exit_code = 3


class ImageTooLargeError(GmcError):
    """The image has more pixels than the limit; the limit can be lifted by the caller."""

    exit_code = 4


class NotKeptError(GmcError):
    """The result does not hold all that its source does: with --delete, which keeps the source then, or --strict."""

    exit_code = 15


class GmcFormatError(GmcError):
    """The bytes are not a valid .gmc file or .gma archive."""

    exit_code = 5


class NotAGmcFileError(GmcFormatError):
    """The magic bytes are missing."""


class TruncatedFileError(GmcFormatError):
    """The file ends before the length its header promises."""


class ChecksumError(GmcFormatError):
    """A CRC-32 does not match: the file is damaged."""


class UnsupportedVersionError(GmcFormatError):
    """The file was written in a format version that this release does not know."""

    exit_code = 6


class UnknownModelError(GmcFormatError):
    """The file names a model, or a coding method, that this release does not know."""

    exit_code = 6


class WeightsError(GmcError):
    """Weights are missing, damaged, or not the ones the file was made with."""

    exit_code = 7


class FreezeError(GmcError):
    """A trained net cannot be turned into integers (an accumulator bound does not hold)."""

    exit_code = 8


class TrainingError(GmcError):
    """Training cannot start or continue: bad data folder, mismatched checkpoint, non-finite loss."""

    exit_code = 9


class NativeError(GmcError):
    """The native library cannot be loaded, or lacks the instruction set that was asked for."""

    exit_code = 10


class OutputExistsError(GmcError):
    """The output file exists and overwriting was not asked for."""

    exit_code = 11


class MemberNameError(GmcError):
    """A name that no member of an archive may have, that is taken, or that no member has."""

    exit_code = 13


class BenchError(GmcError):
    """A benchmark cannot start or continue: extra not installed, no images, unknown codec, other version."""

    exit_code = 14
