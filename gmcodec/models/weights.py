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
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ..errors import WeightsError
from ..exact.ops import Layer
from ..exact.tables import ROW_TOTAL, Tables
from . import local, pixelcnnpp
from .local import LocalConfig, LocalModel
from .pixelcnnpp import PixelCNNConfig, PixelCNNModel
from .pixelcnnpp_kernels import ACTIVATION_LIMIT, ELU_UNIT, GATE_BITS, GATE_REACH, NetTables

Model = LocalModel | PixelCNNModel
LARGEST = 4096  # number in an architecture
FIELDS = ("weight", "bias", "multiplier", "shift")
TABLE_SIZES = {"softmax": 1024, "inverse": 321, "sigmoid": 2 * 17 * 512 + 1}


def weights_id(data: bytes) -> bytes:
    """Four bytes that name a weights file."""
    return hashlib.sha256(data).digest()[:4]


def to_bytes(model: Model) -> bytes:
    """Serialise a frozen model, deterministically."""
    tensors = {f"{name}.{f}": np.ascontiguousarray(getattr(model.layers[name], f))
               for name in model.config.layer_names() for f in FIELDS}  # fmt: skip
    tensors |= {f"table.{f.name}": getattr(model.tables, f.name) for f in fields(Tables)}
    kind = local.KIND
    if isinstance(model, PixelCNNModel):
        kind = pixelcnnpp.KIND
        tensors |= {f"table.{f.name}": getattr(model.net_tables, f.name) for f in fields(NetTables)}
    data = save(tensors, {"kind": kind, "config": json.dumps(asdict(model.config), sort_keys=True)})
    # safetensors writes its metadata in a random order: sort the header, padded to 8 bytes as before
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def from_bytes(data: bytes) -> Model:
    """Inverse of ``to_bytes``.  Raises WeightsError for anything but sound weights."""
    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])["__metadata__"]
        values = json.loads(header["config"])
        if header["kind"] == local.KIND:
            return _local(values, tensors)
        if header["kind"] == pixelcnnpp.KIND:
            return _pixelcnn(values, tensors)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"not a file of frozen weights: {error}") from error
    raise WeightsError(f"weights of kind {header['kind']!r} are not known to this release")


def _local(values: dict[str, Any], tensors: dict[str, np.ndarray]) -> LocalModel:
    config = LocalConfig(**values)
    if any(type(value) is not int or not 1 <= value <= LARGEST for value in values.values()):
        raise WeightsError(f"unsound architecture: {config}")
    layers = {
        name: _layer(tensors, name, local.INPUT_LIMIT if name in ("first", "linear") else local.ACTIVATION_LIMIT)
        for name in config.layer_names()
    }
    return LocalModel(config, layers, _tables(tensors))


def _pixelcnn(values: dict[str, Any], tensors: dict[str, np.ndarray]) -> PixelCNNModel:
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    numbers = [plain[f.name] for f in fields(PixelCNNConfig) if f.type == "int"]
    numbers += [*plain["filters"], *plain["blocks"]]
    if any(type(value) is not int or not 0 <= value <= LARGEST for value in numbers):
        raise WeightsError(f"unsound architecture: {values}")
    config = PixelCNNConfig(**plain)
    layers = {name: _layer(tensors, name, config.input_limit(name)) for name in config.layer_names()}
    net = NetTables(*(tensors[f"table.{f.name}"] for f in fields(NetTables)))
    for field, size, top in (("gate", 2 * GATE_REACH + 1, 1 << GATE_BITS), ("elu", ACTIVATION_LIMIT + 1, ELU_UNIT)):
        _check_table(field, getattr(net, field), size, top)
    return PixelCNNModel(config, layers, _tables(tensors), net)


def _tables(tensors: dict[str, np.ndarray]) -> Tables:
    tables = Tables(*(tensors[f"table.{f.name}"] for f in fields(Tables)))
    for field, size in TABLE_SIZES.items():
        _check_table(field, getattr(tables, field), size, 2**26)
    if (np.diff(tables.sigmoid) < 0).any() or tables.sigmoid[-1] > ROW_TOTAL or tables.softmax[0] < 1:
        raise WeightsError("a table is not monotone")
    return tables


def _check_table(field: str, table: np.ndarray, size: int, top: int) -> None:
    """Compiled code does not check indices."""
    if table.shape != (size,) or table.dtype != np.int32 or table.min() < 0 or table.max() > top:
        raise WeightsError(f"table {field} is not int32 [{size}] in its range")


def _layer(tensors: dict[str, np.ndarray], name: str, limit: int) -> Layer:
    weight, bias, multiplier, shift = (tensors[f"{name}.{f}"] for f in FIELDS)
    return Layer(weight, bias, multiplier, shift, limit)


def write(model: Model, path: Path) -> bytes:
    """Write frozen weights by way of a temporary file; returns their id."""
    data = to_bytes(model)
    temporary = Path(str(path) + ".tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    return weights_id(data)
