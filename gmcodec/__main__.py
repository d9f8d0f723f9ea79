# SPDX-License-Identifier: MIT
"""``python -m gmcodec`` is the command ``gmcodec``."""

from .cli import main

if __name__ == "__main__":  # worker processes import this module too
    main()
