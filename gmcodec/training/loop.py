# SPDX-License-Identifier: MIT
"""The training loop: Muon for hidden matrices, AdamW for the rest, EMA, resume, Ctrl-C.

Recipe and why: constant learning rate, then linear decay to zero, and rounding of the weights in the forward pass, to
the bits that they will have when frozen, for the last part, so that freezing costs little.  What differs between models
is in nets.py and data.py.
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
CHECK_EVERY = 50  # steps between looks at the loss: each waits until the device has done what it was given


def bf16_is_faster(device: torch.device) -> bool:
    """Processors are measured: those without bfloat16 arithmetic emulate it, up to a hundred times slower."""
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
    """One run in one folder: ``checkpoint.pt`` (everything), ``float.safetensors`` (EMA weights).

    ``data`` and ``validation`` are as in ``data.load``.  With ``minutes``, what is left of the schedule when a run
    starts or resumes passes in so many minutes, however many steps that are.
    """

    validate_every = 2_500  # steps

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
            torch.set_float32_matmul_precision("high")  # products of float32 as such take several times as long
        self.source, self.validation, self.glimpse = images.load(preset, data, validation, progress)
        self.net = build(preset.model).to(self.device)
        loaded = {name for path in init for name in load_float(self.net, path)}
        if preset.generator_fixed:  # what a GAN has of these never learned: they begin anew
            loaded = {name for name in loaded if not of_inference(name)}
        if self.net.state_dict().keys() - loaded:
            state = self.source.random.bit_generator.state
            self.net.initialise(self._tensors(self.source.batch(preset.batch)).images, loaded)
            self.source.random.bit_generator.state = state  # the first step learns from the same batch
        self.lacking: set[str] = set()  # what will not be trained and was not loaded
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(learns(preset, name))
            if not parameter.requires_grad and name not in loaded:
                self.lacking.add(name)
        self.ema = copy.deepcopy(self.net).eval()
        self.cost = self._cost
        if compiled and self.device.type == "cuda":  # there memory is what limits a net
            self.cost = torch.compile(self._cost, dynamic=False)
        elif compiled and self.net.mixture is not None:  # here matrix products are: only the loss gains
            self.net.mixture = self.ema.mixture = torch.compile(self.net.mixture)
        hidden = [p for p in self.net.hidden_matrices() if p.requires_grad]
        ids = {id(p) for p in hidden}
        rest = [p for p in self.net.parameters() if id(p) not in ids and p.requires_grad]
        adam: torch.optim.Optimizer
        if preset.adamax:
            adam = torch.optim.Adamax(rest, lr=preset.adam_lr)
        else:
            adam = torch.optim.AdamW(rest, lr=preset.adam_lr, weight_decay=0.0, betas=(0.9, 0.98))
        self.optimisers: list[tuple[torch.optim.Optimizer, float]] = [(adam, preset.adam_lr)]
        if hidden:
            muon = Muon(hidden, lr=preset.muon_lr, weight_decay=preset.muon_decay, dtype=self.dtype)
            self.optimisers.insert(0, (muon, preset.muon_lr))
        self.step, self.share, self.seconds, self.minutes = 0, 0.0, 0.0, minutes
        self.history: list[tuple[int, float, float]] = []  # (step, training bpsp, validation bpsp)
        self.rounding = False  # whether weights are rounded in the forward pass
        self.stopping, self.compiled = False, compiled
        self._begin()

    def _begin(self) -> None:
        """What else a trainer of another kind needs."""

    # -- checkpoint --------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the checkpoint and the EMA weights, each to a temporary file that is then renamed."""
        self.out.mkdir(parents=True, exist_ok=True)
        state = {
            "preset": preset_to_dict(self.preset),
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser, _ in self.optimisers],
            "step": self.step,
            "share": self.share,
            "seconds": self.seconds,
            "history": self.history,
            "random": self.source.random.bit_generator.state,
            "torch_random": self._torch_random(),
        }
        with write_then_rename(self.out / "checkpoint.pt") as file:
            torch.save(state | self.extra_state(), file)
        save_float(self.ema, self.preset, self.out / "float.safetensors")

    def resume(self) -> None:
        """Continue from ``checkpoint.pt``; the architecture must be the preset's, the schedule may differ."""
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
        self.lacking = set()
        self.ema.load_state_dict(state["ema"])
        for (optimiser, _), saved_state in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved_state)
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]
        share = state.get("share", self.step / saved.steps)  # the first checkpoints knew steps only
        self.share = self.step / self.preset.steps if self.minutes is None else share
        self.source.random.bit_generator.state = state["random"]
        self.load_extra(state)
        if "torch_random" in state:  # the first checkpoints were of nets without dropout
            for name, random in state["torch_random"].items():
                (torch.cuda if name == "cuda" else torch).set_rng_state(random.cpu())

    def extra_state(self) -> dict[str, Any]:
        """What a checkpoint also holds."""
        return {}

    def load_extra(self, state: dict[str, Any]) -> None:
        """Inverse of ``extra_state``."""

    def _torch_random(self) -> dict[str, torch.Tensor]:
        """States of the generators that dropout draws from."""
        states = {"cpu": torch.get_rng_state()}
        return states | {"cuda": torch.cuda.get_rng_state()} if self.device.type == "cuda" else states

    # -- training ----------------------------------------------------------------------------------

    def learning_rate(self) -> float:
        """Factor on both base rates: short warm-up, constant, then linear to zero."""
        p = self.preset
        decay = min(1.0, (1 - self.share) / (1 - p.decay_from)) if p.decay_from < 1 else 1.0
        return min(1.0, (self.step + 1) / 200) * decay

    def _tensors(self, batch: Batch) -> Batch:
        """The same on the device."""
        return Batch(self._tensor(batch.images), None if batch.labels is None else self._tensor(batch.labels))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":  # from pinned memory it need not wait for what the device has to do yet
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def _cost(self, batch: Batch) -> torch.Tensor:
        """What a step minimises, bits per sample: a number."""
        model = self.preset.model
        if not isinstance(model, AgaveConfig):
            return self.net.bits(batch.images, self.dtype, **batch.given).mean() / model.channels
        objective = self.preset.objective or Objective()
        terms = self.net.terms(batch.images, self.dtype)
        return objective_bits(objective, terms, model.decoder is None) / self.net.inner(batch.images)[0].numel()

    def train_step(self) -> torch.Tensor:
        """One step; the loss, bits per sample, is not waited for."""
        p, factor = self.preset, self.learning_rate()
        for optimiser, base in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = base * factor
        rounding = self.share >= p.quantise_from
        if rounding != self.rounding:
            self.net.fake_quant = self.ema.fake_quant = self.rounding = rounding
        loss = self.cost(self._tensors(self.source.batch(p.batch)))
        loss.backward()
        for optimiser, _ in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        decay = min(p.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.ema.parameters()), list(self.net.parameters()), 1 - decay)
        self.step += 1
        if self.minutes is None:
            self.share = self.step / p.steps
        return loss.detach()

    def _wait(self, recent: list[torch.Tensor]) -> list[float]:
        """Take losses off the list, waiting for what the device has to do yet.  Raises TrainingError."""
        losses = torch.stack(recent).tolist() if recent else []
        recent.clear()
        if not np.isfinite(losses).all():
            raise TrainingError(f"the loss is not finite by step {self.step}; resume with a lower rate")
        return losses

    def validate(self, whole: bool = True) -> float:
        """bpsp of the EMA weights, float32, on all validation images or, quicker, on the first of them."""
        return self.average(whole)["bpsp"]

    @torch.no_grad()
    def average(self, whole: bool) -> dict[str, float]:
        """Means over the validation images of what ``measure`` finds."""
        sums: dict[str, float] = {}
        total = 0
        with torch.random.fork_rng():  # latents are drawn, and each time the same
            torch.manual_seed(0)
            for batch in self.validation if whole else self.validation[: self.glimpse]:
                found, count = self.measure(self._tensors(batch))
                for name, value in found.items():
                    sums[name] = sums.get(name, 0.0) + value * count
                total += count
        return {name: value / total for name, value in sums.items()}

    def measure(self, batch: Batch) -> tuple[dict[str, float], int]:
        """The rate of a batch, and its weight."""
        bits = self.ema.bits(batch.images, **batch.given)
        return {"bpsp": bits.double().mean().item() / self.preset.model.channels}, len(bits)

    def run(
        self, validate_every: int | None = None, save_every: float = 120.0, report: Callable[[str], None] = log.info
    ) -> bool:
        """Train to the end of the schedule; True when finished, False when stopped by Ctrl-C.

        ``report`` is told training and validation rates every ``validate_every`` steps, or as often as the trainer
        thinks fit.  Raises TrainingError.
        """
        validate_every = validate_every or self.validate_every
        if self.lacking:
            what = "decoder" if self.preset.decoder_fixed else "generator"
            raise TrainingError(f"the {what} of this preset stays as it is: its weights must be there to begin with")
        previous = signal.signal(signal.SIGINT, self._stop)
        bar = tqdm(total=None if self.minutes else self.preset.steps, initial=self.step, unit="step",
                   disable=not self.progress)  # fmt: skip
        begun, share = time.monotonic(), self.share
        recent: list[torch.Tensor] = []
        losses: list[float] = []  # since the last report
        started = saved = begun
        try:
            while self.share < 1 and not self.stopping:
                recent.append(self.train_step())
                now = time.monotonic()
                if self.minutes is not None:
                    self.share = share + (1 - share) * (now - begun) / (60 * self.minutes)
                if len(recent) == CHECK_EVERY:
                    losses += self._wait(recent)
                bar.update()
                if self.step % validate_every == 0 or self.share >= 1:
                    losses += self._wait(recent)
                    trained, validated = float(np.mean(losses)), self.validate(self.share >= 1)
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
        self._wait(recent)  # a run that was stopped must not save what is not finite either
        self.seconds += time.monotonic() - started
        self.save()
        return not self.stopping

    def _stop(self, signum: int, frame: object) -> None:
        if self.stopping:  # a second Ctrl-C does not wait
            raise KeyboardInterrupt
        self.stopping = True
        log.warning("stopping after this step; run the same command with --resume to continue")
