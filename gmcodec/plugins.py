# SPDX-License-Identifier: MIT
"""A place for the formats of extras; to be filled in."""

from __future__ import annotations

from typing import Any


def sniff(raw: bytes) -> str | None:
    return None


def open(name: str, raw: bytes) -> Any:
    raise NotImplementedError
