# SPDX-License-Identifier: MIT
"""The families of models on disk.  A new family is a package, and a line here."""

from __future__ import annotations

from typing import Any

from gmcodec.models.ade.model import FAMILY as ADE
from gmcodec.models.agave.model import FAMILY as AGAVE
from gmcodec.models.local.model import FAMILY as LOCAL
from gmcodec.models.pixelcnnpp.model import FAMILY as PIXELCNNPP
from gmcodec.models.shared.family import Family

FAMILIES = {family.kind: family for family in (LOCAL, PIXELCNNPP, AGAVE, ADE)}


def family_of(thing: Any) -> Family:
    """The family of a frozen model, or of an architecture."""
    return next(family for family in FAMILIES.values() if type(thing) in (family.model, family.config))
