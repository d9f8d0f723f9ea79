# SPDX-License-Identifier: MIT
"""The kind of trainer that a preset needs."""

from __future__ import annotations

from typing import Any

from gmcodec.training.adversarial import AdversarialTrainer
from gmcodec.training.loop import Trainer
from gmcodec.training.meta import MetaTrainer
from gmcodec.training.presets import Preset


def trainer(preset: Preset, *arguments: Any, **options: Any) -> Trainer:
    """A new trainer of the kind that a preset needs; the other arguments are those of ``Trainer``."""
    if preset.adversary:
        return AdversarialTrainer(preset, *arguments, **options)
    if preset.adaptation is not None:
        return MetaTrainer(preset, *arguments, **options)
    return Trainer(preset, *arguments, **options)
