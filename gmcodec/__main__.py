# SPDX-License-Identifier: MIT
"""``python -m gmcodec`` is the command ``gmcodec``."""

import sys

from gmcodec import safe_path

if __name__ == "__main__":
    sys.path[:] = safe_path.import_path()
    from gmcodec.cli.main import main

    main()
