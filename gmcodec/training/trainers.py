# SPDX-License-Identifier: MIT
"""Which trainer a preset wants."""

from __future__ import annotations

from typing import Any

from gmcodec.training.adversarial import Duel
from gmcodec.training.loop import Trainer
from gmcodec.training.meta import Adapting
from gmcodec.training.presets import Preset


def trainer(preset: Preset, *arguments: Any, **options: Any) -> Trainer:
    """The trainer of a preset; the other arguments are those of ``Trainer``."""
    kind = Duel if preset.adversary else Trainer if preset.adaptation is None else Adapting
    return kind(preset, *arguments, **options)
