# SPDX-License-Identifier: MIT
"""What the encoder of a graphic may choose, and what follows from the size of the image."""

# The sets of contexts that files name by number (spec.py has the table of contexts): append only, never renumber.
FEW = 1 << 0 | 1 << 3 | 1 << 6 | 1 << 8 | 1 << 11 | 1 << 17
ALL = (1 << 21) - 1
BILEVEL = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 11
CONTEXT_SETS = (FEW, ALL, BILEVEL)  # BILEVEL has the templates of bilevel_spec.py as well
GUESSING = (0, 1, 2)  # which pixels are guessed before their samples are coded: none, few, many
MIN_BUCKET_BITS, MAX_BUCKET_BITS = 10, 23  # 64 bytes each: at most 512 MiB
QUICK_BUCKET_BITS, QUICK_PIXELS = 22, 1 << 21  # of an encoder that saves time
MIN_PLACE_BITS, MAX_PLACE_BITS = 10, 24


def place_bits(pixels: int) -> int:
    """Bits of the table of earlier places of an image of ``pixels`` pixels."""
    return min(max(pixels.bit_length() + 1, MIN_PLACE_BITS), MAX_PLACE_BITS)


def max_bucket_bits(pixels: int) -> int:
    """Bits of the largest table of contexts that an image of ``pixels`` pixels may have.

    A decoder refuses a larger one, so that a small file cannot claim much memory.
    """
    return min(max(pixels.bit_length() + 4, MIN_BUCKET_BITS), MAX_BUCKET_BITS)


def bucket_bits(pixels: int, contexts: int, guessing: int) -> int:
    """Bits of the table of contexts that an encoder uses for an image of ``pixels`` pixels.

    The set FEW gets a small table, which stays in the processor's cache.  An encoder that guesses pixels to save time
    takes 256 MiB for images of up to QUICK_PIXELS: files are 0.1 to 0.4 % larger than with 512 MiB, and take a tenth
    less time.
    """
    most = max_bucket_bits(pixels)
    if CONTEXT_SETS[contexts] == FEW:
        return min(max(pixels.bit_length(), MIN_BUCKET_BITS), most)
    return min(most, QUICK_BUCKET_BITS) if guessing and pixels <= QUICK_PIXELS else most
