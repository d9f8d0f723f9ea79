# SPDX-License-Identifier: MIT
"""``python -m bench FOLDER...`` from a checkout: the same as ``gmcodec bench FOLDER...``."""

import sys

from gmcodec.cli.main import cli

if __name__ == "__main__":
    cli(["bench", *sys.argv[1:]], prog_name="gmcodec")
