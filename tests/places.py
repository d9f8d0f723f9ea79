# SPDX-License-Identifier: MIT
"""Where tests find things."""

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent  # of the repository
GOLDEN = TESTS / "golden"
WEIGHTS = ROOT / "gmcodec" / "weights"
PNGSUITE = ROOT.parent / "shared" / "data" / "pngsuite"  # not everywhere
