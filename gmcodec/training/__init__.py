# SPDX-License-Identifier: MIT
"""Training and freezing; needs torch, and nothing else of gmcodec imports it."""
