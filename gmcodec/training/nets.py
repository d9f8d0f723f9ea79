# SPDX-License-Identifier: MIT
"""What the training loop knows of a float net, and float nets on disk.

A net is anything with the members of ``DensityNet``; the kind of its architecture says which class to build and how
its images are fed: padded patches for local nets, whole squares for PixelCNN++.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from gmcodec.errors import TrainingError, WeightsError
from gmcodec.files import write_then_rename
from gmcodec.models.agave.config import AgaveConfig
from gmcodec.models.agave.float import Agave
from gmcodec.models.families import FAMILIES, LOCAL, family_of
from gmcodec.models.local.config import LocalConfig
from gmcodec.models.shared.family import as_tuples
from gmcodec.training.families import TRAINABLE
from gmcodec.training.presets import PRESETS, Adversary, DiscriminatorConfig, ModelConfig, Objective, Preset

PART_BYTES = 8_000_000  # of the parts that large float weights are kept in


class DensityNet(Protocol):
    """A float net that gives the bits of images; also an ``nn.Module``."""

    config: Any  # with ``channels``
    fake_quant: bool  # round weights in the forward pass, as freezing does
    mixture: Callable[..., Tensor] | None  # the loss, mixture_bits or a compiled one, if the net has one

    def bits(self, batch: Tensor, dtype: torch.dtype = ...) -> Tensor:
        """Bits a pixel, float32 [N]: of each scored pixel, or of each image."""

    def hidden_matrices(self) -> list[nn.Parameter]:
        """What Muon optimises; AdamW takes the rest."""

    def initialise(self, batch: Tensor, loaded: Collection[str] = ...) -> None:
        """Data-dependent initialisation, where the net has one, of what is not ``loaded`` (names of parameters)."""


def of_condition(name: str) -> bool:
    """Whether a parameter is what a decoder learns from its condition."""
    return "condition" in name.split(".")


def of_inference(name: str) -> bool:
    """Whether a parameter of a flow or VAE is what is trained around a generator that stays as it is.

    Those are the inference net, noise included, and the deviation around the generator's mean: how the thesis gives a
    GAN a likelihood (section 5.5.1).
    """
    part, *inner = name.split(".")
    if part != "vae":
        return part in ("noise", "log_deviation", "logits")
    return inner[0] in ("first", "up", "shrink") or not {"posterior_up", "posterior_down", "flow"}.isdisjoint(inner)


def learns(preset: Preset, name: str) -> bool:
    """Whether a run of a preset changes a parameter."""
    if preset.decoder_fixed and name.startswith("decoder."):
        return of_condition(name)
    return not preset.generator_fixed or of_inference(name)


def build(config: ModelConfig) -> Any:
    """A new float net, a ``DensityNet`` and an ``nn.Module``, of an architecture."""
    return TRAINABLE[type(config)].net(config)


def config_kind(config: ModelConfig) -> str:
    """Name of the kind of an architecture, as stored."""
    return family_of(config).kind


def make_config(kind: str, values: Mapping[str, Any]) -> ModelConfig:
    """Inverse of ``dataclasses.asdict`` for an architecture, by way of JSON too.

    Raises KeyError, TypeError, ValueError, WeightsError.
    """
    config: ModelConfig = FAMILIES[kind].read_config(json.loads(json.dumps(values)))
    return config


def preset_to_dict(preset: Preset) -> dict[str, Any]:
    """Plain values for a checkpoint."""
    return {**asdict(preset), "kind": config_kind(preset.model)}


def preset_from_dict(saved: Mapping[str, Any]) -> Preset:
    """Inverse of ``preset_to_dict``.  Raises KeyError, TypeError, ValueError."""
    values = copy.deepcopy(dict(saved))
    kind = values.pop("kind", LOCAL.kind)  # the first checkpoints were of local nets and did not say so
    if values.get("objective") is not None:
        values["objective"] = Objective(**values["objective"])
    if values.get("adversary") is not None:
        judge = {name: as_tuples(value) for name, value in values["adversary"].pop("discriminator").items()}
        values["adversary"] = Adversary(DiscriminatorConfig(**judge), **values["adversary"])
    return Preset(**{**values, "model": make_config(kind, values["model"])})


def save_float(net: nn.Module, preset: Preset, path: Path) -> None:
    """Half-precision weights with the architecture in the metadata: small enough to keep in a repository.

    Without those that the preset leaves as they are.
    """
    tensors = {k: v.detach().half().cpu().contiguous() for k, v in net.state_dict().items()}
    if preset.decoder_fixed:
        tensors = {k: v for k, v in tensors.items() if not k.startswith("decoder.") or of_condition(k)}
    config = json.dumps(asdict(preset.model), sort_keys=True)
    metadata = {"preset": preset.name, "kind": config_kind(preset.model), "config": config, "side": str(preset.patch)}
    with write_then_rename(path) as file:
        file.write(save(tensors, metadata))


def split_float(path: Path, folder: Path, limit: int = PART_BYTES) -> list[Path]:
    """Cut a file of float weights into several of ``limit`` bytes of tensors at most, in a new folder; their paths.

    Every part has the metadata; the folder is taken wherever the file is.  For repositories that keep no large files.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    parts: list[dict[str, Tensor]] = [{}]
    for name, tensor in load_file(path).items():
        if parts[-1] and sum(t.nbytes for t in parts[-1].values()) + tensor.nbytes > limit:
            parts.append({})
        parts[-1][name] = tensor
    folder.mkdir(parents=True)
    written = []
    for number, part in enumerate(parts, 1):
        written.append(folder / f"float-{number}-of-{len(parts)}.safetensors")
        save_file(part, written[-1], metadata)
    return written


def _parts(path: Path) -> list[Path]:
    """The files of float weights that a path stands for: itself, or all in a folder.  Raises TrainingError."""
    parts = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not parts:
        raise TrainingError(f"{path} holds no float weights")
    return parts


def load_float(net: nn.Module, path: Path) -> set[str]:
    """Load what ``save_float`` or ``split_float`` wrote; the names of what was loaded.  Raises TrainingError.

    The architecture must be the same, except that AGAVE also takes a VAE without a decoder, or a decoder without a
    condition.
    """
    try:
        tensors = {k: v.float() for part in _parts(path) for k, v in load_file(part).items()}
        missing = net.state_dict().keys() - tensors.keys()
        if isinstance(net, Agave) and not isinstance(read_config(path), AgaveConfig):
            tensors = {f"decoder.{name}": tensor for name, tensor in tensors.items()}
            missing = {name for name in net.state_dict().keys() - tensors.keys() if name.startswith("decoder.")}
            missing = {name for name in missing if not of_condition(name)}
        elif isinstance(net, Agave):
            missing = {name for name in missing if not name.startswith(("decoder.", "conditioner."))}
        unexpected = net.load_state_dict(tensors, strict=False).unexpected_keys
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainingError(f"{path} does not hold weights of this architecture: {error}") from error
    if missing or unexpected:
        what = f"lacks {min(missing)}" if missing else f"has {min(unexpected)}"
        raise TrainingError(f"{path} does not hold weights of this architecture: it {what}")
    return set(tensors)


def load_whole(paths: Sequence[Path]) -> Any:
    """The net of float weights in one file or folder, or, of AGAVE, in several parts.  Raises TrainingError."""
    net, loaded = build(read_config(paths[0])), set[str]()
    for path in paths:
        more = load_float(net, path)
        if loaded & more:
            raise TrainingError(f"{path} holds {min(loaded & more)}, which is given already")
        loaded |= more
    if missing := net.state_dict().keys() - loaded:
        raise TrainingError(f"{paths[0]} does not hold all weights, {min(missing)} is not there: give those too")
    return net


def read_side(path: Path) -> int:
    """Side of the small images that float weights learnt from, pixels.  Raises TrainingError."""
    try:
        with safe_open(_parts(path)[0], "pt") as file:
            return int(file.metadata()["side"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} does not say how large the images were") from error


def read_adaptation(path: Path) -> int | None:
    """The rate at which float weights were trained to learn, by the name of their preset; None for others.

    Raises TrainingError.
    """
    try:
        with safe_open(_parts(path)[0], "pt") as file:
            preset = PRESETS.get(file.metadata()["preset"])
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} does not say how it was trained") from error
    return preset.adaptation if preset else None


def read_config(path: Path) -> ModelConfig:
    """Architecture of a file of float weights.  Raises TrainingError."""
    try:
        with safe_open(_parts(path)[0], "pt") as file:
            metadata = file.metadata()
        if "config" in metadata:
            return make_config(metadata["kind"], json.loads(metadata["config"]))
        # the first files were of local nets and had an entry for every field
        return LocalConfig(**{f.name: int(metadata[f.name]) for f in fields(LocalConfig) if f.name in metadata})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, WeightsError) as error:
        raise TrainingError(f"{path} is not a file of float weights: {error}") from error
