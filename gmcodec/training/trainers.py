# SPDX-License-Identifier: MIT
"""Which trainer a preset wants."""

from __future__ import annotations

from typing import Any

from .adapting import Adapting
from .duel import Duel
from .loop import Trainer
from .presets import Preset


def trainer(preset: Preset, *arguments: Any, **options: Any) -> Trainer:
    """The trainer of a preset; the other arguments are those of ``Trainer``."""
    kind = Duel if preset.adversary else Trainer if preset.adaptation is None else Adapting
    return kind(preset, *arguments, **options)
