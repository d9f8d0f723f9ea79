# SPDX-License-Identifier: MIT
"""Frozen weights on disk: safetensors of integers, read back bit for bit, checked before use.

The file's identity, ``weights_id``, is the start of its SHA-256; a .gmc names the weights it needs by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from gmcodec.errors import WeightsError
from gmcodec.exact import gaussian
from gmcodec.exact.gaussian import LatentTables
from gmcodec.exact.logistic import LOG_SCALE_UNIT, ROW_TOTAL, Tables
from gmcodec.exact.ops import Layer
from gmcodec.files import write_then_rename
from gmcodec.models.ade import flow_state as ade_passage
from gmcodec.models.ade import model as ade
from gmcodec.models.ade.model import AdeConfig, AdeModel
from gmcodec.models.ade.tables import FlowTables
from gmcodec.models.agave import model as agave
from gmcodec.models.agave.model import AgaveConfig, AgaveModel, Base, Constants, Decoder, tuples
from gmcodec.models.local import frozen as local
from gmcodec.models.local.frozen import LocalConfig, LocalModel
from gmcodec.models.pixelcnnpp import model as pixelcnnpp
from gmcodec.models.pixelcnnpp.model import PixelCNNConfig, PixelCNNModel
from gmcodec.models.pixelcnnpp.tables import ACTIVATION_LIMIT, ELU_UNIT, GATE_BITS, GATE_REACH, NetTables
from gmcodec.models.shared import conv
from gmcodec.models.shared.conv import ACTIVATION_LIMIT as MAP_LIMIT

Model = LocalModel | PixelCNNModel | AgaveModel | AdeModel
Find = Callable[[str], tuple[bytes, "Model"]]  # a model's name -> id of its weights and itself
LARGEST = 4096  # number in an architecture
FIELDS = ("weight", "bias", "multiplier", "shift")
DECODER = "decoder."  # how names of AGAVE's decoder start
UNITS = "gradient."  # how names of a learning model's units of gradients start
TABLE_SIZES = {"softmax": 1024, "inverse": 321, "sigmoid": 2 * 17 * 512 + 1}


def weights_id(data: bytes) -> bytes:
    """Four bytes that name a weights file."""
    return hashlib.sha256(data).digest()[:4]


def to_bytes(model: Model) -> bytes:
    """Serialise a frozen model, deterministically."""
    tensors, metadata = _layers(model.layers), {"kind": local.KIND}
    tensors |= _members("table", model.tables)
    if isinstance(model, LocalModel) and model.units is not None:
        tensors |= {f"{UNITS}{name}": unit for name, unit in model.units.items()}
    if isinstance(model, AdeModel):
        metadata |= {"kind": ade.KIND} | _named(model.base)
        tensors |= _members("constant", model.constants) | _members("latent", model.latent_tables)
    if isinstance(model, PixelCNNModel):
        metadata["kind"] = pixelcnnpp.KIND
        tensors |= _members("table", model.net_tables)
    elif isinstance(model, AgaveModel):
        metadata["kind"] = agave.KIND
        tensors |= _members("constant", model.constants) | _members("latent", model.latent_tables)
        if model.decoder:
            shared = model.base.model.layers if model.base else {}
            own = {name: layer for name, layer in model.decoder.layers.items() if name not in shared}
            tensors |= _layers(own, DECODER)
        if model.base:
            metadata |= _named(model.base)
        elif isinstance(model.decoder, PixelCNNModel):
            tensors |= _members("table", model.decoder.net_tables)
    data = save(tensors, metadata | {"config": json.dumps(asdict(model.config), sort_keys=True)})
    # safetensors writes its metadata in a random order: sort the header, padded to 8 bytes as before
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _named(base: Base) -> dict[str, str]:
    return {"base": base.name, "base_id": base.weights_id.hex()}


def _layers(layers: dict[str, Layer], prefix: str = "") -> dict[str, np.ndarray]:
    return {f"{prefix}{name}.{f}": np.ascontiguousarray(getattr(layer, f))
            for name, layer in layers.items() for f in FIELDS}  # fmt: skip


def _members(prefix: str, tables: Any) -> dict[str, np.ndarray]:
    return {f"{prefix}.{f.name}": getattr(tables, f.name) for f in fields(tables)}


def _nothing(name: str) -> tuple[bytes, Model]:
    raise WeightsError(f"these weights need those of {name}")


def from_bytes(data: bytes, find: Find = _nothing) -> Model:
    """Inverse of ``to_bytes``; ``find`` gives models whose weights others share.

    Raises WeightsError for anything but sound weights.
    """
    try:
        tensors = load(data)
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])["__metadata__"]
        values = json.loads(header["config"])
        if header["kind"] == local.KIND:
            return _local(values, tensors)
        if header["kind"] == pixelcnnpp.KIND:
            return _pixelcnn(values, tensors)
        if header["kind"] == agave.KIND:
            return _agave(values, tensors, header, find)
        if header["kind"] == ade.KIND:
            return _ade(values, tensors, header, find)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"not a file of frozen weights: {error}") from error
    raise WeightsError(f"weights of kind {header['kind']!r} are not known to this release")


def _local(values: dict[str, Any], tensors: dict[str, np.ndarray]) -> LocalModel:
    config = _local_config(values)
    layers = {name: _layer(tensors, name, config.input_limit(name)) for name in config.layer_names()}
    units = {name: tensors[f"{UNITS}{name}"] for name in layers if f"{UNITS}{name}" in tensors}
    return LocalModel(config, layers, _tables(tensors), units=units or None)


def _local_config(values: dict[str, Any]) -> LocalConfig:
    least = {"condition": 0}
    if any(type(n) is not int or not least.get(name, 1) <= n <= LARGEST for name, n in values.items()):
        raise WeightsError(f"unsound architecture: {values}")
    return LocalConfig(**values)


def _plain(values: dict[str, Any], config: type) -> dict[str, Any]:
    """Lists as tuples.  Raises WeightsError for numbers out of range."""
    plain: dict[str, Any] = {name: tuples(value) for name, value in values.items()}
    numbers = [plain[f.name] for f in fields(config) if f.type == "int"]
    numbers += [n for f in fields(config) if f.type == "tuple[int, ...]" for n in plain[f.name]]
    if any(type(value) is not int or not 0 <= value <= LARGEST for value in numbers):
        raise WeightsError(f"unsound architecture: {values}")
    return plain


def _pixelcnn(values: dict[str, Any], tensors: dict[str, np.ndarray]) -> PixelCNNModel:
    config = PixelCNNConfig(**_plain(values, PixelCNNConfig))
    layers = {name: _layer(tensors, name, config.input_limit(name)) for name in config.layer_names()}
    return PixelCNNModel(config, layers, _tables(tensors), _net_tables(tensors))


def _net_tables(tensors: dict[str, np.ndarray]) -> NetTables:
    net = NetTables(*(tensors[f"table.{f.name}"] for f in fields(NetTables)))
    for field, size, top in (("gate", 2 * GATE_REACH + 1, 1 << GATE_BITS), ("elu", ACTIVATION_LIMIT + 1, ELU_UNIT)):
        _check_table(field, getattr(net, field), size, top)
    return net


def _agave(values: dict[str, Any], tensors: dict[str, np.ndarray], header: dict[str, Any], find: Find) -> AgaveModel:
    plain, tables = _plain(values, AgaveConfig), _tables(tensors)
    if plain["decoder"] is not None:
        kind = agave.decoder_kind(plain["decoder"])
        local_net = kind is LocalConfig
        plain["decoder"] = _local_config(plain["decoder"]) if local_net else kind(**_plain(plain["decoder"], kind))
    config = AgaveConfig(**plain)
    base: Base | None = None
    decoder: Decoder | None = None
    if "base" in header:
        base = _base(header, find)
        if type(base.model.config) is not type(config.decoder):
            raise WeightsError(f"{base.name} is not a decoder of this architecture")
    if config.decoder:
        layers = dict(base.model.layers) if base else {}
        for name in config.decoder.layer_names():
            if name not in layers:
                layers[name] = _layer(tensors, f"{DECODER}{name}", config.decoder.input_limit(name))
        if isinstance(config.decoder, LocalConfig):
            decoder = LocalModel(config.decoder, layers, tables)
        else:
            shared = base and base.model
            whole = shared if isinstance(shared, PixelCNNModel) else None
            net = whole.net_tables if whole else _net_tables(tensors)
            decoder = PixelCNNModel(config.decoder, layers, tables, net, base=whole)
    own = {name: _layer(tensors, name, config.input_limit(name)) for name in config.layer_names()}
    return AgaveModel(config, own, _constants(tensors, config), tables, _latent_tables(tensors), decoder, base)


def _base(header: dict[str, Any], find: Find) -> Base:
    identity, model = find(header["base"])
    if identity.hex() != header["base_id"] or not isinstance(model, LocalModel | PixelCNNModel):
        raise WeightsError(f"these weights need {header['base_id']} of {header['base']}, not {identity.hex()}")
    return Base(header["base"], identity, model)


def _constants(tensors: dict[str, np.ndarray], config: AgaveConfig) -> Constants:
    constants = Constants(*(tensors[f"constant.{f.name}"] for f in fields(Constants)))
    for field, size, top in (("top", config.filters[-1], MAP_LIMIT), ("log_scale", config.planes, LARGEST)):
        _check_vector(field, getattr(constants, field), size, top)
    _check_table("elu", constants.elu, MAP_LIMIT + 1, conv.UNIT)
    return constants


def _ade(values: dict[str, Any], tensors: dict[str, np.ndarray], header: dict[str, Any], find: Find) -> AdeModel:
    plain = _plain(values, AdeConfig)
    config = AdeConfig(**{**plain, "vae": AgaveConfig(**_plain(plain["vae"], AgaveConfig))})
    names = [*config.flow_shapes(), *(f"{ade.VAE}{name}" for name in config.vae.layer_names())]
    layers = {name: _layer(tensors, name, MAP_LIMIT) for name in names}
    tables = FlowTables(*(tensors[f"table.{f.name}"] for f in fields(FlowTables)))
    _check_flow(tables, config)
    constants = _constants(tensors, config.vae)
    latents = _latent_tables(tensors)
    if latents.bits != ade_passage.SAMPLE_BITS:
        raise WeightsError(f"noise has {ade_passage.SAMPLE_BITS} bits, not {latents.bits}")
    return AdeModel(config, layers, constants, tables, latents, _base(header, find))


def _check_flow(tables: FlowTables, config: AdeConfig) -> None:
    kinds = 4 * config.channels * 4 ** (config.levels - 1)
    _check_table("elu", tables.elu, MAP_LIMIT + 1, conv.UNIT)
    _check_table("scale", tables.scale, 2 * ade_passage.LOG_SCALE_MAX * LOG_SCALE_UNIT + 1, ade_passage.LARGEST_SCALE)
    _check_table("shift", tables.shift, kinds, ade_passage.LARGEST_SHIFT)
    if tables.scale.min() < 1:
        raise WeightsError("a coupling multiplies by 0")
    for field, shape in (("high", (kinds, 16)), ("low", (kinds, 16, 16))):
        rows = getattr(tables, field)
        if rows.shape != shape or rows.dtype != np.int32 or rows.min() < 1 or (rows.sum(-1) != ROW_TOTAL).any():
            raise WeightsError(f"table {field} does not hold frequencies")


def _latent_tables(tensors: dict[str, np.ndarray]) -> LatentTables:
    tables = LatentTables(*(tensors[f"latent.{f.name}"] for f in fields(LatentTables)))
    bins = len(tables.values)
    if bins not in (2**4, 2**8, 2**12, 2**16):
        raise WeightsError(f"{bins} bins of latents are not a power of 16")
    for field, size in (("edges", bins - 1), ("values", bins)):
        _check_vector(field, getattr(tables, field), size, 8 * gaussian.POSITION)
    reach = gaussian.NORMAL_REACH * gaussian.NORMAL_UNIT
    scales = (gaussian.LOG_SCALE_MAX - gaussian.LOG_SCALE_MIN) * gaussian.LOG_SCALE_UNIT + 1
    for field, size, top in (
        ("normal", 2 * reach + 1, ROW_TOTAL),
        ("scale", scales, 2**19),
        ("inverse", scales, 2**25),
    ):
        _check_table(field, getattr(tables, field), size, top)
    if (np.diff(tables.edges) < 0).any() or (np.diff(tables.normal) < 0).any():
        raise WeightsError("a table is not monotone")
    return tables


def _tables(tensors: dict[str, np.ndarray]) -> Tables:
    tables = Tables(*(tensors[f"table.{f.name}"] for f in fields(Tables)))
    for field, size in TABLE_SIZES.items():
        _check_table(field, getattr(tables, field), size, 2**26)
    if (np.diff(tables.sigmoid) < 0).any() or tables.sigmoid[-1] > ROW_TOTAL or tables.softmax[0] < 1:
        raise WeightsError("a table is not monotone")
    return tables


def _check_vector(field: str, values: np.ndarray, size: int, top: int) -> None:
    if values.shape != (size,) or values.dtype != np.int32 or (np.abs(values.astype(np.int64)) > top).any():
        raise WeightsError(f"{field} is not int32 [{size}] in its range")


def _check_table(field: str, table: np.ndarray, size: int, top: int) -> None:
    """Compiled code does not check indices."""
    if table.shape != (size,) or table.dtype != np.int32 or table.min() < 0 or table.max() > top:
        raise WeightsError(f"table {field} is not int32 [{size}] in its range")


def _layer(tensors: dict[str, np.ndarray], name: str, limit: int) -> Layer:
    weight, bias, multiplier, shift = (tensors[f"{name}.{f}"] for f in FIELDS)
    return Layer(weight, bias, multiplier, shift, limit)


def write(model: Model, path: Path) -> bytes:
    """Write frozen weights; returns their id."""
    data = to_bytes(model)
    with write_then_rename(path) as file:
        file.write(data)
    return weights_id(data)
