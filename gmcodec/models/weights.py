# SPDX-License-Identifier: MIT
"""Frozen weights on disk: safetensors of integers, which are checked before use.

The metadata holds the kind of the family, the architecture as JSON, and the name and id of the base if the model shares
the weights of another one.  ``weights_id``, the start of a file's SHA-256, identifies weights; a .gmc file names by it
the weights that it needs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from gmcodec.errors import WeightsError
from gmcodec.files import write_then_rename
from gmcodec.models.families import FAMILIES, family_of
from gmcodec.models.shared.family import Base

Find = Callable[[str], tuple[bytes, Any]]  # a model's name -> the id of its weights, and the frozen model


def weights_id(data: bytes) -> bytes:
    """Four bytes that name a weights file."""
    return hashlib.sha256(data).digest()[:4]


# -- to bytes and back -------------------------------------------------------------------------------------


def to_bytes(model: Any) -> bytes:
    """Serialise a frozen model of any family, deterministically."""
    family, base = family_of(model), getattr(model, "base", None)
    metadata = {"kind": family.kind, "config": json.dumps(asdict(model.config), sort_keys=True)}
    metadata |= {"base": base.name, "base_id": base.weights_id.hex()} if base else {}
    data = save(family.write(model), metadata)
    # safetensors writes its metadata in random order, so sort the header and pad it to 8 bytes again
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def from_bytes(data: bytes, find: Find | None = None) -> Any:
    """Inverse of ``to_bytes``; ``find`` gives the base, if the weights need one.

    Raises WeightsError for damaged or unknown weights.
    """
    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])["__metadata__"]
        family = FAMILIES.get(header["kind"])
        if family is None:
            raise WeightsError(f"weights of kind {header['kind']!r} are not known to this release")
        config = family.read_config(json.loads(header["config"]))
        base = _base(header["base"], header["base_id"], find) if "base" in header else None
        return family.read(config, tensors, base)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"not a file of frozen weights: {error}") from error


def _base(name: str, base_id: str, find: Find | None) -> Base:
    if find is None:
        raise WeightsError(f"these weights need those of {name}")
    identity, model = find(name)
    if identity.hex() != base_id or hasattr(model, "latent_bits"):
        raise WeightsError(f"these weights need {base_id} of {name}, not {identity.hex()}")
    return Base(name, identity, model)


def write(model: Any, path: Path) -> bytes:
    """Write frozen weights; returns their id."""
    data = to_bytes(model)
    with write_then_rename(path) as file:
        file.write(data)
    return weights_id(data)
