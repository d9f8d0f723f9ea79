# SPDX-License-Identifier: MIT
"""The training loop: Muon for hidden matrices, AdamW for the rest, EMA, resume, Ctrl-C.

Recipe and why: patches with causal margins, constant learning rate then linear decay to zero, and
8-bit rounding of the weights in the forward pass for the last part, so that freezing costs little.
"""

from __future__ import annotations

import copy
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from ..errors import TrainingError
from ..models.local import LocalConfig
from ..models.local_float import LocalNet, mixture_bits
from .data import Patches, centre, load_folder, pad
from .muon import Muon
from .presets import Preset

log = logging.getLogger("gmcodec")


def preset_from_dict(saved: dict) -> Preset:
    """Inverse of ``dataclasses.asdict`` for a preset."""
    return Preset(**{**saved, "model": LocalConfig(**saved["model"])})


def bf16_is_faster(device: torch.device) -> bool:
    """Measure it: processors without bfloat16 arithmetic emulate it, up to a hundred times slower than float32."""
    seconds = {}
    for dtype in (torch.bfloat16, torch.float32):
        a, b = (torch.ones(256, 256, dtype=dtype, device=device) for _ in range(2))
        for _ in range(2):  # the first one warms up
            start = time.perf_counter()
            (a @ b).sum().item()
            seconds[dtype] = time.perf_counter() - start
    return seconds[torch.bfloat16] < seconds[torch.float32]


class Trainer:
    """One run in one folder: ``checkpoint.pt`` (everything), ``float.safetensors`` (EMA weights)."""

    def __init__(
        self,
        preset: Preset,
        data: Path,
        validation: Path,
        out: Path,
        *,
        device: str = "cpu",
        bf16: bool | None = None,
        compile_loss: bool = False,
        progress: bool = True,
        init: Path | None = None,
    ) -> None:
        torch.manual_seed(preset.seed)
        self.preset, self.out, self.device, self.progress = preset, Path(out), torch.device(device), progress
        if bf16 is None:
            bf16 = bf16_is_faster(self.device)
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        self.net = LocalNet(preset.model).to(self.device)
        if init is not None:
            load_float(self.net, init)
        self.ema = copy.deepcopy(self.net)
        hidden = self.net.hidden_matrices()
        ids = {id(p) for p in hidden}
        rest = [p for p in self.net.parameters() if id(p) not in ids]
        self.optimisers = [
            Muon(hidden, lr=preset.muon_lr, momentum=0.95, dtype=self.dtype),
            torch.optim.AdamW(rest, lr=preset.adam_lr, weight_decay=0.0, betas=(0.9, 0.98)),
        ]
        reach = preset.model.reach
        c = preset.model.channels
        self.patches = Patches(load_folder(data, c, progress), preset.patch, reach, preset.seed)
        self.validation = [pad(centre(i, 96), reach) for i in load_folder(validation, c, progress)]
        self.bits = torch.compile(mixture_bits) if compile_loss else mixture_bits
        self.step, self.seconds = 0, 0.0
        self.history: list[tuple[int, float, float]] = []  # (step, training bpsp, validation bpsp)
        self.stopping = False

    # -- checkpoint --------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint and the EMA weights, each to a temporary file that is then renamed."""
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "preset": asdict(self.preset),
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimisers": [o.state_dict() for o in self.optimisers],
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
            "random": self.patches.random.bit_generator.state,
        }
        torch.save(state, self.out / "checkpoint.tmp")
        os.replace(self.out / "checkpoint.tmp", self.out / "checkpoint.pt")
        save_float(self.ema, self.preset, self.out / "float.safetensors")

    def resume(self) -> None:
        """Continue from ``checkpoint.pt``; the architecture must be the preset's, the schedule may differ."""
        path = self.out / "checkpoint.pt"
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            saved = preset_from_dict(state["preset"])
        except FileNotFoundError as error:
            raise TrainingError(f"there is no checkpoint to resume in {self.out}") from error
        except (UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
            raise TrainingError(f"{path} is damaged or not a checkpoint: {error}") from error
        if replace(saved, steps=0) != replace(self.preset, steps=0):
            raise TrainingError(f"the checkpoint in {self.out} was made with another preset: {saved}")
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        for optimiser, saved_state in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved_state)
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]
        self.patches.random.bit_generator.state = state["random"]

    # -- training ----------------------------------------------------------------------------------

    def learning_rate(self, step: int) -> float:
        """Factor on both base rates: short warm-up, constant, then linear to zero."""
        share = step / self.preset.steps
        decay = min(1.0, (1 - share) / (1 - self.preset.decay_from))
        return min(1.0, (step + 1) / 200) * decay

    def loss(self, net: LocalNet, padded: torch.Tensor, size: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
        """Mean bits per sample (bpsp) of the scored pixels of padded patches."""
        features, mean = net.features(padded, *size)
        out, linear = net(features, dtype)
        r = padded.shape[2] - size[0]
        target = padded[:, :, r:, r : padded.shape[3] - r].transpose(0, 1).reshape(mean.shape).float()
        bits = self.bits(out, mean.float() + linear, target, net.config.channels, net.config.mixtures)
        return bits.mean() / net.config.channels

    def train_step(self) -> float:
        p = self.preset
        factor = self.learning_rate(self.step)
        for optimiser, base in zip(self.optimisers, (p.muon_lr, p.adam_lr), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = base * factor
        self.net.fake_quant = self.ema.fake_quant = self.step >= p.quantise_from * p.steps
        batch = torch.from_numpy(self.patches.batch(p.batch)).to(self.device)
        loss = self.loss(self.net, batch, (p.patch, p.patch), self.dtype)
        loss.backward()
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        decay = min(p.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.net.parameters()), 1 - decay)
        self.step += 1
        return loss.item()

    @torch.no_grad()
    def validate(self) -> float:
        """bpsp of the EMA weights on the centre of every validation image, float32."""
        total = samples = 0.0
        r = self.patches.reach
        for image in self.validation:
            size = (image.shape[1] - r, image.shape[2] - 2 * r)
            count = size[0] * size[1] * image.shape[0]
            padded = torch.from_numpy(image)[None].to(self.device)
            total += self.loss(self.ema, padded, size, torch.float32).item() * count
            samples += count
        return total / samples

    def run(
        self, validate_every: int = 2_500, save_every: float = 120.0, report: Callable[[str], None] = log.info
    ) -> bool:
        """Train to the end of the schedule; True when finished, False when stopped by Ctrl-C.

        ``report`` is told training and validation rates every ``validate_every`` steps.
        """
        previous = signal.signal(signal.SIGINT, self._stop)
        bar = tqdm(total=self.preset.steps, initial=self.step, unit="step", disable=not self.progress)
        recent, started, saved = [], time.monotonic(), time.monotonic()
        try:
            while self.step < self.preset.steps and not self.stopping:
                recent.append(self.train_step())
                if not np.isfinite(recent[-1]):
                    raise TrainingError(f"the loss is not finite at step {self.step}; resume with a lower rate")
                bar.update()
                if self.step % validate_every == 0 or self.step == self.preset.steps:
                    trained, validated = float(np.mean(recent)), self.validate()
                    self.history.append((self.step, trained, validated))
                    recent = []
                    report(f"step {self.step}  train {trained:.4f}  validation {validated:.4f} bpsp")
                if time.monotonic() - saved > save_every:
                    self.seconds += time.monotonic() - started
                    started = saved = time.monotonic()
                    self.save()
        finally:
            signal.signal(signal.SIGINT, previous)
            bar.close()
        self.seconds += time.monotonic() - started
        self.save()
        return not self.stopping

    def _stop(self, signum: int, frame: object) -> None:
        if self.stopping:  # a second Ctrl-C does not wait
            raise KeyboardInterrupt
        self.stopping = True
        log.warning("stopping after this step; run the same command with --resume to continue")


def save_float(net: LocalNet, preset: Preset, path: Path) -> None:
    """Half-precision weights with the architecture in the metadata: small enough to keep in a repository."""
    tensors = {k: v.detach().half().cpu().contiguous() for k, v in net.state_dict().items()}
    metadata = {k: str(v) for k, v in asdict(preset.model).items()}
    save_file(tensors, str(path) + ".tmp", {"preset": preset.name, **metadata})
    os.replace(str(path) + ".tmp", path)


def load_float(net: LocalNet, path: Path) -> None:
    """Load weights written by ``save_float`` into a net of the same architecture."""
    try:
        net.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    except (OSError, RuntimeError) as error:
        raise TrainingError(f"{path} does not hold weights of this architecture: {error}") from error
