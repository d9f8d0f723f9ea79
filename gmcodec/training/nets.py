# SPDX-License-Identifier: MIT
"""The interface of a float net to the training loop, and files of float weights.

A net has the members of ``DensityNet``.  The kind of its architecture determines its class and the form of its images:
padded patches for local nets, whole squares for the others.
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

PART_BYTES = 8_000_000  # largest size of a part of large float weights


class DensityNet(Protocol):
    """A float net whose output is the bits that images take; also an ``nn.Module``."""

    config: Any  # with ``channels``
    fake_quant: bool  # round weights in the forward pass, as freezing does
    mixture: Callable[..., Tensor] | None  # the loss, mixture_bits or the same compiled, if the net has one

    def bits(self, batch: Tensor, dtype: torch.dtype = ...) -> Tensor:
        """Bits per pixel, float32 [N], of each scored pixel or on average over each image."""

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The parameters that Muon optimises; AdamW optimises the others."""

    def initialise(self, batch: Tensor, loaded: Collection[str] = ...) -> None:
        """Initialise, by means of a batch, all parameters except those named in ``loaded``."""


def of_condition(name: str) -> bool:
    """Whether a parameter, by its name, belongs to the part of a decoder that reads its condition."""
    return "condition" in name.split(".")


def of_inference(name: str) -> bool:
    """Whether a parameter of a flow or VAE, by its name, is trained around a fixed generator.

    These are the inference net, noise included, and the deviation around the generator's mean.  In this way the thesis
    gives a GAN a likelihood (section 5.5.1).
    """
    part, *inner = name.split(".")
    if part != "vae":
        return part in ("noise", "log_deviation", "logits")
    return inner[0] in ("first", "up", "shrink") or not {"posterior_up", "posterior_down", "flow"}.isdisjoint(inner)


def learns(preset: Preset, name: str) -> bool:
    """Whether training with a preset changes a parameter, by its name."""
    if preset.decoder_fixed and name.startswith("decoder."):
        return of_condition(name)
    return not preset.generator_fixed or of_inference(name)


def build(config: ModelConfig) -> Any:
    """A new float net of an architecture: a ``DensityNet`` and an ``nn.Module``."""
    return TRAINABLE[type(config)].net(config)


def config_kind(config: ModelConfig) -> str:
    """The kind of an architecture, as files name it."""
    return family_of(config).kind


def make_config(kind: str, values: Mapping[str, Any]) -> ModelConfig:
    """Inverse of ``dataclasses.asdict`` for an architecture; ``values`` may also come from JSON.

    Raises KeyError, TypeError, ValueError, WeightsError.
    """
    config: ModelConfig = FAMILIES[kind].read_config(json.loads(json.dumps(values)))
    return config


def preset_to_dict(preset: Preset) -> dict[str, Any]:
    """A preset as plain values, for a checkpoint."""
    return {**asdict(preset), "kind": config_kind(preset.model)}


def preset_from_dict(saved: Mapping[str, Any]) -> Preset:
    """Inverse of ``preset_to_dict``.  Raises KeyError, TypeError, ValueError."""
    values = copy.deepcopy(dict(saved))
    kind = values.pop("kind", LOCAL.kind)  # the first checkpoints were of local nets and did not say so
    if values.get("objective") is not None:
        values["objective"] = Objective(**values["objective"])
    if values.get("adversary") is not None:
        discriminator = {name: as_tuples(value) for name, value in values["adversary"].pop("discriminator").items()}
        values["adversary"] = Adversary(DiscriminatorConfig(**discriminator), **values["adversary"])
    return Preset(**{**values, "model": make_config(kind, values["model"])})


def save_float(net: nn.Module, preset: Preset, path: Path) -> None:
    """Write the weights in half precision, with the architecture in the metadata.

    Weights that the preset keeps fixed are left out.
    """
    tensors = {k: v.detach().half().cpu().contiguous() for k, v in net.state_dict().items()}
    if preset.decoder_fixed:
        tensors = {k: v for k, v in tensors.items() if not k.startswith("decoder.") or of_condition(k)}
    config = json.dumps(asdict(preset.model), sort_keys=True)
    metadata = {"preset": preset.name, "kind": config_kind(preset.model), "config": config, "side": str(preset.patch)}
    with write_then_rename(path) as file:
        file.write(save(tensors, metadata))


def split_float(path: Path, folder: Path, limit: int = PART_BYTES) -> list[Path]:
    """Split a file of float weights into parts of at most ``limit`` bytes of tensors, for repositories; their paths.

    ``folder`` must not exist.  It can be used wherever the file can.  Every part has the metadata.
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
    """``path`` if it is a file, else all files of float weights in the folder.  Raises TrainingError if none."""
    parts = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not parts:
        raise TrainingError(f"{path} holds no float weights")
    return parts


def load_float(net: nn.Module, path: Path) -> set[str]:
    """Load what ``save_float`` or ``split_float`` wrote, and return the names of the parameters loaded.

    The architecture must be the net's.  Only AGAVE also accepts a VAE without a decoder, or a decoder without a
    condition.  Raises TrainingError.
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
    """The net of one file or folder of float weights, or of several that complete each other (AGAVE).

    Raises TrainingError.
    """
    net, loaded = build(read_config(paths[0])), set[str]()
    for path in paths:
        more = load_float(net, path)
        if loaded & more:
            raise TrainingError(f"{path} holds {min(loaded & more)}, which another file holds too")
        loaded |= more
    if missing := net.state_dict().keys() - loaded:
        raise TrainingError(f"{paths[0]} does not hold all weights: {min(missing)} is missing; name its file too")
    return net


def read_side(path: Path) -> int:
    """Side of the small images that a net was trained on, pixels.  Raises TrainingError."""
    try:
        with safe_open(_parts(path)[0], "pt") as file:
            return int(file.metadata()["side"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} does not say how large the images were") from error


def read_adaptation(path: Path) -> int | None:
    """For a net that was trained to learn while it codes: the index of its rate, found by its preset; else None.

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
        # local-rgb and local-grey were written before there was an entry "config": they have one for every field
        return LocalConfig(**{f.name: int(metadata[f.name]) for f in fields(LocalConfig) if f.name in metadata})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, WeightsError) as error:
        raise TrainingError(f"{path} is not a file of float weights: {error}") from error
