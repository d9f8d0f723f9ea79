# SPDX-License-Identifier: MIT
"""Adversarial training together with likelihood: Algorithm 1 of the thesis (A.3), and variants without either part.

A step of the generator lowers L_C + coefficient * L_Q (eq. 5.5 and 5.6); a step of the discriminator lowers its own
loss and the gradient penalty.  Samples are drawn from the prior and mapped to images by the inverse flow, which learns
from the likelihood only (A.2).  With mixed batches the discriminators and losses are those of chapter 4.

=========  ==========  ===========================
model      flow        adversary, likelihood
=========  ==========  ===========================
VAE        no scales   none
V-ADE      scales      none
GAN        no scales   without likelihood
AV-GDE     no scales   with it
AV-ADE     scales      with it
=========  ==========  ===========================

The GAN is a VAE whose inference net learns nothing.  Its latents are therefore drawn from the top down, unlike those of
the thesis' GAN (section 5.5.2, footnote 1).  It has no likelihood until an inference net and a deviation are trained
around its generator: ``Preset.generator_fixed``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import log
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gmcodec.models.ade.float import Ade
from gmcodec.training import adversarial_losses
from gmcodec.training.data import Batch
from gmcodec.training.discriminators import Discriminator
from gmcodec.training.loop import Trainer

SAMPLE_LIMIT = 3.0  # samples are clamped to this before a discriminator sees them; images lie within -1..1
BETA_2 = 0.999  # of the discriminator's Adamax


class MixedLosses(NamedTuple):
    """The two losses of training with mixed batches."""

    discriminator: Callable[[Tensor, Tensor], Tensor]  # of logits and beta
    generator: Callable[[Tensor], Tensor]  # of logits


MIXED_LOSSES = {
    "m-bgan": MixedLosses(adversarial_losses.mbgan_discriminator_loss, adversarial_losses.mbgan_generator_loss),
    "bgan": MixedLosses(adversarial_losses.bgan_discriminator_loss, adversarial_losses.bgan_generator_loss),
}


class AdversarialTrainer(Trainer):
    """A trainer whose preset has an adversary: it trains the net and a discriminator in turn."""

    discriminator: Discriminator

    def _set_up(self) -> None:
        adversary = self.preset.adversary
        assert adversary is not None
        assert isinstance(self.net, Ade)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.preset.seed)
            self.discriminator = Discriminator(adversary.discriminator).to(self.device)
        self.adversary = adversary
        self.discriminator_rate = self.preset.adam_lr if adversary.rate is None else adversary.rate
        self.discriminator_optimiser = torch.optim.Adamax(
            self.discriminator.parameters(), lr=self.discriminator_rate, betas=(adversary.momentum, BETA_2)
        )
        for optimiser, _ in self.optimisers:
            for group in optimiser.param_groups:
                if "betas" in group:
                    group["betas"] = adversary.momentum, group["betas"][1]

    def extra_state(self) -> dict[str, Any]:
        """State of the discriminator and its optimiser, for the checkpoint."""
        return {
            "discriminator": self.discriminator.state_dict(),
            "discriminator_optimiser": self.discriminator_optimiser.state_dict(),
        }

    def load_extra(self, state: dict[str, Any]) -> None:
        """Inverse of ``extra_state``."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.discriminator_optimiser.load_state_dict(state["discriminator_optimiser"])

    def _cost(self, batch: Batch) -> Tensor:
        """The generator's loss, after a step of the discriminator: L_C + coefficient * L_Q, bits per sample."""
        images, labels = batch.images, batch.labels
        real, dimensions = images.float() / 127.5 - 1, images[0].numel()
        fake = self._samples(batch)
        self._train_discriminator(real, fake.detach(), labels)
        quality = self._generator_loss(real, fake, labels)
        cost = self.adversary.coefficient * quality / (dimensions * log(2))
        return cost + super()._cost(batch) if self.adversary.likelihood else cost

    def _samples(self, batch: Batch) -> Tensor:
        """Samples from the prior, [B, C, H, W], as many as ``batch`` has images and of the same classes.

        They lie within -1..1 or a little outside.  Their gradient does not reach the flow's weights.
        """
        count, _, height, width = batch.images.shape
        with fixed(self.net.flow):
            grey = self.net.sample(count, height, width, self.adversary.deviation, **batch.condition)
        images = grey / 127.5 - 1
        if not self.adversary.likelihood:
            return ClampWithReturn.apply(images)
        # clamped, but with the gradient of what was not clamped: likelihood brings samples back
        return images + (images.clamp(-SAMPLE_LIMIT, SAMPLE_LIMIT) - images).detach()

    def _train_discriminator(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> None:
        """A step of the discriminator."""
        a, net = self.adversary, partial(self.discriminator, labels=labels)
        for group in self.discriminator_optimiser.param_groups:
            group["lr"] = self.discriminator_rate * self.learning_rate()
        if a.loss == "samples":
            loss = adversarial_losses.discriminator_loss(net(real), net(fake))
            seen = adversarial_losses.interpolate(real, fake)
        else:
            beta = adversarial_losses.draw_beta(len(real), a.gamma, device=real.device)
            seen = adversarial_losses.mix(real, fake, beta)
            mixed_loss = MIXED_LOSSES[a.loss].discriminator
            loss = mixed_loss(net(seen), beta) + mixed_loss(net(adversarial_losses.mix(real, fake, ~beta)), ~beta)
        if a.penalty:
            loss = loss + adversarial_losses.gradient_penalty(net, seen, a.penalty)
        self.discriminator_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.discriminator_optimiser.step()

    def _generator_loss(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> Tensor:
        """L_Q, or with mixed batches the generator's loss of chapter 4; nats."""
        a, net = self.adversary, partial(self.discriminator, labels=labels)
        with fixed(self.discriminator):
            if a.loss == "samples":
                return adversarial_losses.quality_loss(net(fake))
            beta = adversarial_losses.draw_beta(len(real), a.gamma, device=real.device)
            batches = (adversarial_losses.mix(real, fake, chosen) for chosen in (beta, ~beta))
            first, second = (MIXED_LOSSES[a.loss].generator(net(batch)) for batch in batches)
            return first + second


class ClampWithReturn(torch.autograd.Function):
    """Clamps to -SAMPLE_LIMIT..SAMPLE_LIMIT; beyond the limit only gradients that lead back pass.

    Without likelihood a sample beyond the limit would drift further and further: the discriminator sees the clamped
    value and cannot tell.  GANs avoid this with a tanh at the end of the generator, which VAEs do not have.
    """

    @staticmethod
    def forward(context: Any, images: Tensor) -> Tensor:
        context.save_for_backward(images)
        return images.clamp(-SAMPLE_LIMIT, SAMPLE_LIMIT)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (images,) = context.saved_tensors
        return gradient.where((images.abs() <= SAMPLE_LIMIT) | (gradient * images > 0), 0.0)


@contextmanager
def fixed(module: nn.Module) -> Iterator[None]:
    """Gradients pass through a module within the block, but its parameters get none."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in module.parameters():
            parameter.requires_grad_(True)
