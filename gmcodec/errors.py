# SPDX-License-Identifier: MIT
"""All errors that gmcodec raises for its users, with ``GmcError`` as their base.

``exit_code`` is the exit code of the command line for the error.
"""


class GmcError(Exception):
    """Base of all errors that gmcodec raises for its users."""

    exit_code = 1


class UnsupportedImageError(GmcError):
    """The input is an image that gmcodec cannot keep exactly (float, animated, ...)."""

    exit_code = 3


class ImageReadError(GmcError):
    """The input is not a readable image: damaged, empty or of an unknown format."""

    exit_code = 3


class ImageTooLargeError(GmcError):
    """The image has more pixels than the limit, which the caller can lift."""

    exit_code = 4


class NotKeptError(GmcError):
    """The result lacks something of its source: with --delete, which then keeps the source, or with --strict."""

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
    """The file names a model, or another method, that this release does not know."""

    exit_code = 6


class WeightsError(GmcError):
    """Weights are missing, damaged, or not those with which the file was made."""

    exit_code = 7


class FreezeError(GmcError):
    """A trained net cannot be turned into integers, for example because an accumulator could overflow."""

    exit_code = 8


class TrainingError(GmcError):
    """Training cannot start or continue: bad data folder, mismatched checkpoint, non-finite loss."""

    exit_code = 9


class NativeError(GmcError):
    """The native library cannot be loaded, or lacks the requested instruction set."""

    exit_code = 10


class OutputExistsError(GmcError):
    """The output file exists, and overwriting was not requested."""

    exit_code = 11


class MemberNameError(GmcError):
    """A name is not allowed for members of archives, is taken already, or belongs to no member."""

    exit_code = 13


class BenchError(GmcError):
    """A benchmark cannot start or continue: missing extra, no images, unknown codec, other versions."""

    exit_code = 14
