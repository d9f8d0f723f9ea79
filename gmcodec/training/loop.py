# SPDX-License-Identifier: MIT
"""The training loop: Muon for hidden matrices, AdamW for the rest, EMA, resume, Ctrl-C.

The learning rate is constant, then falls linearly to zero.  During the last part of a run the forward pass rounds the
weights to the precision that they will have when frozen, so that freezing costs little.  nets.py and data.py have what
differs between models.
"""

from __future__ import annotations

import copy
import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from gmcodec.errors import TrainingError, WeightsError
from gmcodec.files import write_then_rename
from gmcodec.models.agave.config import AgaveConfig
from gmcodec.training import data as images
from gmcodec.training.data import Batch
from gmcodec.training.losses import objective_bits
from gmcodec.training.muon import Muon
from gmcodec.training.nets import build, learns, load_float, of_inference, preset_from_dict, preset_to_dict, save_float
from gmcodec.training.presets import Objective, Preset

log = logging.getLogger("gmcodec")
CHECK_EVERY = 50  # steps between checks of the loss: each check waits for the device


def bf16_is_faster(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are faster than in float32: measured, except on GPUs.

    Processors without bfloat16 arithmetic emulate it, up to a hundred times slower.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    seconds = {}
    for dtype in (torch.bfloat16, torch.float32):
        a, b = (torch.ones(256, 256, dtype=dtype, device=device) for _ in range(2))
        for _ in range(2):  # the first one warms up
            start = time.perf_counter()
            (a @ b).sum().item()
            seconds[dtype] = time.perf_counter() - start
    return seconds[torch.bfloat16] < seconds[torch.float32]


class Trainer:
    """A training run and its folder ``out``: ``checkpoint.pt`` (everything), ``float.safetensors`` (EMA weights).

    data, validation  as in ``data.load``
    bf16              use bfloat16 for matrix products; default: if it is faster
    compiled          use ``torch.compile``
    minutes           spread the rest of the schedule over this time instead of over ``preset.steps``
    progress          show progress bars
    init              float weights to start from, as in ``nets.load_float``

    Raises TrainingError.
    """

    validate_every = 2_500  # steps
    elapsed: float  # fraction of the schedule that has passed, 0..1

    def __init__(
        self,
        preset: Preset,
        data: Path,
        validation: Path | int,
        out: Path,
        *,
        device: str = "cpu",
        bf16: bool | None = None,
        compiled: bool = False,
        minutes: float | None = None,
        progress: bool = True,
        init: Sequence[Path] = (),
    ) -> None:
        torch.manual_seed(preset.seed)
        self.preset, self.out, self.device, self.progress = preset, Path(out), torch.device(device), progress
        if bf16 is None:
            bf16 = bf16_is_faster(self.device)
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # full precision takes several times as long
        self.source, self.validation, self.quick_batches = images.load(preset, data, validation, progress)
        self.net = build(preset.model).to(self.device)
        self._load(init)
        self.ema = copy.deepcopy(self.net).eval()
        self.cost = self._cost
        if compiled and self.device.type == "cuda":  # memory limits a GPU: compile everything
            self.cost = torch.compile(self._cost, dynamic=False)
        elif compiled and self.net.mixture is not None:  # matrix products limit a CPU: only the loss gets faster
            self.net.mixture = self.ema.mixture = torch.compile(self.net.mixture)
        self.optimisers = self._optimisers()
        self.step, self.elapsed, self.seconds, self.minutes = 0, 0.0, 0.0, minutes
        self.history: list[tuple[int, float, float]] = []  # (step, training bpsp, validation bpsp)
        self.rounding = False  # whether weights are rounded in the forward pass
        self.stopping, self.compiled = False, compiled
        self._set_up()

    def _load(self, init: Sequence[Path]) -> None:
        """Load weights, initialise the others, and choose the parameters that learn."""
        loaded = {name for path in init for name in load_float(self.net, path)}
        if self.preset.generator_fixed:  # a GAN's inference net was never trained: initialise it again
            loaded = {name for name in loaded if not of_inference(name)}
        if self.net.state_dict().keys() - loaded:
            state = self.source.random.bit_generator.state
            self.net.initialise(self._tensors(self.source.batch(self.preset.batch)).images, loaded)
            self.source.random.bit_generator.state = state  # the first step learns from the same batch
        self.not_loaded: set[str] = set()  # parameters that will not be trained, but were not loaded either
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(learns(self.preset, name))
            if not parameter.requires_grad and name not in loaded:
                self.not_loaded.add(name)

    def _optimisers(self) -> list[tuple[torch.optim.Optimizer, float]]:
        """Optimisers of all parameters that learn, each with its base learning rate."""
        preset = self.preset
        hidden = [p for p in self.net.hidden_matrices() if p.requires_grad]
        ids = {id(p) for p in hidden}
        rest = [p for p in self.net.parameters() if id(p) not in ids and p.requires_grad]
        optimisers: list[tuple[torch.optim.Optimizer, float]] = []
        if hidden:
            muon = Muon(hidden, lr=preset.muon_lr, weight_decay=preset.muon_decay, dtype=self.dtype)
            optimisers.append((muon, preset.muon_lr))
        adam: torch.optim.Optimizer
        if preset.adamax:
            adam = torch.optim.Adamax(rest, lr=preset.adam_lr)
        else:
            adam = torch.optim.AdamW(rest, lr=preset.adam_lr, weight_decay=0.0, betas=(0.9, 0.98))
        return [*optimisers, (adam, preset.adam_lr)]

    def _set_up(self) -> None:
        """Called at the end of the constructor: what a derived trainer needs besides."""

    # -- checkpoint --------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint and the EMA weights."""
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "preset": preset_to_dict(self.preset),
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser, _ in self.optimisers],
            "step": self.step,
            "elapsed": self.elapsed,
            "seconds": self.seconds,
            "history": self.history,
            "random": self.source.random.bit_generator.state,
            "torch_random": self._torch_random(),
        }
        with write_then_rename(self.out / "checkpoint.pt") as file:
            torch.save(state | self.extra_state(), file)
        save_float(self.ema, self.preset, self.out / "float.safetensors")

    def resume(self) -> None:
        """Continue from ``checkpoint.pt``, whose preset must be the same except for the number of steps.

        Raises TrainingError.
        """
        path = self.out / "checkpoint.pt"
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            saved = preset_from_dict(state["preset"])
        except FileNotFoundError as error:
            raise TrainingError(f"there is no checkpoint to resume in {self.out}") from error
        except (UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError, WeightsError) as error:
            raise TrainingError(f"{path} is damaged or not a checkpoint: {error}") from error
        if replace(saved, steps=0) != replace(self.preset, steps=0):
            raise TrainingError(f"the checkpoint in {self.out} was made with another preset: {saved}")
        self.net.load_state_dict(state["net"])
        self.not_loaded = set()
        self.ema.load_state_dict(state["ema"])
        for (optimiser, _), saved_state in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved_state)
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]
        self.elapsed = self.step / self.preset.steps if self.minutes is None else state["elapsed"]
        self.source.random.bit_generator.state = state["random"]
        self.load_extra(state)
        for name, random in state["torch_random"].items():
            (torch.cuda if name == "cuda" else torch).set_rng_state(random.cpu())

    def extra_state(self) -> dict[str, Any]:
        """State of a derived trainer, for the checkpoint."""
        return {}

    def load_extra(self, state: dict[str, Any]) -> None:
        """Inverse of ``extra_state``."""

    def _torch_random(self) -> dict[str, torch.Tensor]:
        """States of the random generators from which dropout draws, by device."""
        states = {"cpu": torch.get_rng_state()}
        return states | {"cuda": torch.cuda.get_rng_state()} if self.device.type == "cuda" else states

    # -- training ----------------------------------------------------------------------------------

    def learning_rate(self) -> float:
        """Factor of all base learning rates: short warm-up, constant, then linear to zero."""
        p = self.preset
        decay = min(1.0, (1 - self.elapsed) / (1 - p.decay_from)) if p.decay_from < 1 else 1.0
        return min(1.0, (self.step + 1) / 200) * decay

    def _tensors(self, batch: Batch) -> Batch:
        """A batch of arrays as tensors on the device."""
        return Batch(self._tensor(batch.images), None if batch.labels is None else self._tensor(batch.labels))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":  # a copy from pinned memory does not wait for the device
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def _cost(self, batch: Batch) -> torch.Tensor:
        """The loss of a batch, bits per sample: a scalar."""
        model = self.preset.model
        if not isinstance(model, AgaveConfig):
            return self.net.bits(batch.images, self.dtype, **batch.condition).mean() / model.channels
        objective = self.preset.objective or Objective()
        terms = self.net.terms(batch.images, self.dtype)
        return objective_bits(objective, terms, model.decoder is None) / self.net.inner(batch.images)[0].numel()

    def train_step(self) -> torch.Tensor:
        """One step.  Returns the loss, bits per sample, without waiting for the device."""
        self._set_rates()
        rounding = self.elapsed >= self.preset.quantise_from
        if rounding != self.rounding:
            self.net.fake_quant = self.ema.fake_quant = self.rounding = rounding
        loss = self.cost(self._tensors(self.source.batch(self.preset.batch)))
        loss.backward()
        self._optimise()
        self._finish_step()
        return loss.detach()

    def _set_rates(self) -> None:
        factor = self.learning_rate()
        for optimiser, base in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = base * factor

    def _optimise(self) -> None:
        for optimiser, _ in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _finish_step(self) -> None:
        """Update the EMA weights and count the step."""
        decay = min(self.preset.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.net.parameters()), 1 - decay)
        self.step += 1
        if self.minutes is None:
            self.elapsed = self.step / self.preset.steps

    def _wait(self, recent: list[torch.Tensor]) -> list[float]:
        """Empty a list of losses, waiting for the device, and return their values.  Raises TrainingError."""
        losses = torch.stack(recent).tolist() if recent else []
        recent.clear()
        if not np.isfinite(losses).all():
            raise TrainingError(f"the loss is not finite by step {self.step}; resume with a lower rate")
        return losses

    def validate(self, whole: bool = True) -> float:
        """bpsp of the EMA weights, float32, on the ``whole`` validation set or, to save time, on its first images."""
        return self.average(whole)["bpsp"]

    @torch.no_grad()
    def average(self, whole: bool) -> dict[str, float]:
        """The results of ``measure``, averaged over the validation images."""
        sums: dict[str, float] = {}
        total = 0
        with torch.random.fork_rng():  # the same latents are drawn each time
            torch.manual_seed(0)
            for batch in self.validation if whole else self.validation[: self.quick_batches]:
                found, count = self.measure(self._tensors(batch))
                for name, value in found.items():
                    sums[name] = sums.get(name, 0.0) + value * count
                total += count
        return {name: value / total for name, value in sums.items()}

    def measure(self, batch: Batch) -> tuple[dict[str, float], int]:
        """Figures of a batch, here its rate in bpsp, and their weight in an average."""
        bits = self.ema.bits(batch.images, **batch.condition)
        return {"bpsp": bits.double().mean().item() / self.preset.model.channels}, len(bits)

    def run(
        self, validate_every: int | None = None, save_every: float = 120.0, report: Callable[[str], None] = log.info
    ) -> bool:
        """Train to the end of the schedule.  Returns True when finished, False when stopped by Ctrl-C.

        validate_every  steps between reports; default: the trainer's
        save_every      seconds between checkpoints
        report          called with a line on training and validation rates

        Raises TrainingError.
        """
        validate_every = validate_every or self.validate_every
        if self.not_loaded:
            what = "decoder" if self.preset.decoder_fixed else "generator"
            raise TrainingError(f"the {what} of this preset is fixed: load its weights first (--init)")
        previous = signal.signal(signal.SIGINT, self._stop)
        bar = tqdm(total=None if self.minutes else self.preset.steps, initial=self.step, unit="step",
                   disable=not self.progress)  # fmt: skip
        begun, elapsed_before = time.monotonic(), self.elapsed
        recent: list[torch.Tensor] = []
        losses: list[float] = []  # since the last report
        started = saved = begun
        try:
            while self.elapsed < 1 and not self.stopping:
                recent.append(self.train_step())
                now = time.monotonic()
                if self.minutes is not None:
                    self.elapsed = elapsed_before + (1 - elapsed_before) * (now - begun) / (60 * self.minutes)
                if len(recent) == CHECK_EVERY:
                    losses += self._wait(recent)
                bar.update()
                if self.step % validate_every == 0 or self.elapsed >= 1:
                    losses += self._wait(recent)
                    trained, validated = float(np.mean(losses)), self.validate(self.elapsed >= 1)
                    self.history.append((self.step, trained, validated))
                    losses = []
                    report(f"step {self.step}  train {trained:.4f}  validation {validated:.4f} bpsp")
                if now - saved > save_every:
                    losses += self._wait(recent)
                    self.seconds += now - started
                    started = saved = now
                    self.save()
        finally:
            signal.signal(signal.SIGINT, previous)
            bar.close()
        self._wait(recent)  # a stopped run must not save non-finite weights either
        self.seconds += time.monotonic() - started
        self.save()
        return not self.stopping

    def _stop(self, signum: int, frame: object) -> None:
        if self.stopping:  # a second Ctrl-C ends the run at once
            raise KeyboardInterrupt
        self.stopping = True
        log.warning("stopping after this step; run the same command with --resume to continue")
