# SPDX-License-Identifier: MIT
"""``python -m gmcodec`` is the command ``gmcodec``."""

import sys

from . import safe_path

if __name__ == "__main__":
    sys.path[:] = safe_path.import_path()
    from .cli import main

    main()
