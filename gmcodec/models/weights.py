# SPDX-License-Identifier: MIT
"""Frozen weights on disk: safetensors of integers, read back bit for bit, checked before use.

The file's identity, ``weights_id``, is the start of its SHA-256; a .gmc names the weights it needs by it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..errors import WeightsError
from ..exact.ops import Layer
from ..exact.tables import ROW_TOTAL, Tables
from .local import ACTIVATION_LIMIT, INPUT_LIMIT, KIND, LocalConfig, LocalModel

FIELDS = ("weight", "bias", "multiplier", "shift")
TABLE_SIZES = {"softmax": 1024, "inverse": 321, "sigmoid": 2 * 17 * 512 + 1}


def weights_id(data: bytes) -> bytes:
    """Four bytes that name a weights file."""
    return hashlib.sha256(data).digest()[:4]


def to_bytes(model: LocalModel) -> bytes:
    """Serialise a frozen model, deterministically."""
    tensors = {f"{name}.{f}": np.ascontiguousarray(getattr(model.layers[name], f))
               for name in model.config.layer_names() for f in FIELDS}  # fmt: skip
    tensors |= {f"table.{f.name}": getattr(model.tables, f.name) for f in fields(Tables)}
    data = save(tensors, {"kind": KIND, "config": json.dumps(asdict(model.config), sort_keys=True)})
    # safetensors writes its metadata in a random order: sort the header, padded to 8 bytes as before
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def from_bytes(data: bytes) -> LocalModel:
    """Inverse of ``to_bytes``.  Raises WeightsError for anything but sound weights."""
    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])["__metadata__"]
        if header["kind"] != KIND:
            raise WeightsError(f"weights of kind {header['kind']!r} are not known to this release")
        config = LocalConfig(**json.loads(header["config"]))
        if any(type(value) is not int or not 1 <= value <= 4096 for value in asdict(config).values()):
            raise WeightsError(f"unsound architecture: {config}")
        layers = {name: _layer(tensors, name) for name in config.layer_names()}
        tables = Tables(*(tensors[f"table.{f.name}"] for f in fields(Tables)))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"not a file of frozen weights: {error}") from error
    for field, size in TABLE_SIZES.items():  # compiled code does not check indices
        table = getattr(tables, field)
        if table.shape != (size,) or table.dtype != np.int32 or table.min() < 0 or table.max() > 2**26:
            raise WeightsError(f"table {field} is not int32 [{size}] in its range")
    if (np.diff(tables.sigmoid) < 0).any() or tables.sigmoid[-1] > ROW_TOTAL or tables.softmax[0] < 1:
        raise WeightsError("a table is not monotone")
    return LocalModel(config, layers, tables)


def _layer(tensors: dict[str, np.ndarray], name: str) -> Layer:
    limit = INPUT_LIMIT if name in ("first", "linear") else ACTIVATION_LIMIT
    weight, bias, multiplier, shift = (tensors[f"{name}.{f}"] for f in FIELDS)
    return Layer(weight, bias, multiplier, shift, limit)


def write(model: LocalModel, path: Path) -> bytes:
    """Write frozen weights by way of a temporary file; returns their id."""
    data = to_bytes(model)
    temporary = Path(str(path) + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    return weights_id(data)
