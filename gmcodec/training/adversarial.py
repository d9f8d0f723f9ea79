# SPDX-License-Identifier: MIT
"""Adversarial training beside likelihood: Algorithm 1 of the thesis (A.3), and its games without either part.

A step of the generator lowers L_C + coefficient * L_Q (eq. 5.5 and 5.6), one of the discriminator its own loss and the
gradient penalty.  Samples are drawn from the prior and mapped to images by the inverse flow, which learns from the
likelihood only (A.2).  With mixed batches the generator sees the discriminators of chapter 4.

=========  ==========  ===========================
model      flow        adversary, likelihood
=========  ==========  ===========================
VAE        no scales   none
V-ADE      scales      none
GAN        no scales   without likelihood
AV-GDE     no scales   with it
AV-ADE     scales      with it
=========  ==========  ===========================

The GAN is a VAE whose inference net learns nothing, so its latents are drawn from the top down, unlike those of the
thesis' GAN (section 5.5.2, footnote 1).  It has no likelihood until an inference net and a deviation are trained around
its generator: ``Preset.generator_fixed``.
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

RANGE = 3.0  # of what a discriminator sees: images lie within -1..1, what is far outside is not worse
BETA_2 = 0.999  # of the discriminator's Adamax


class Game(NamedTuple):
    """Losses of mixed batches."""

    discriminator: Callable[[Tensor, Tensor], Tensor]  # of logits and beta
    generator: Callable[[Tensor], Tensor]  # of logits


MIXED = {
    "m-bgan": Game(adversarial_losses.mbgan_discriminator_loss, adversarial_losses.mbgan_generator_loss),
    "bgan": Game(adversarial_losses.bgan_discriminator_loss, adversarial_losses.bgan_generator_loss),
}


class Duel(Trainer):
    """A trainer whose preset has an adversary."""

    discriminator: Discriminator

    def _begin(self) -> None:
        adversary = self.preset.adversary
        assert adversary is not None
        assert isinstance(self.net, Ade)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.preset.seed)
            self.discriminator = Discriminator(adversary.discriminator).to(self.device)
        self.adversary = adversary
        self.rate = self.preset.adam_lr if adversary.rate is None else adversary.rate
        betas = adversary.momentum, BETA_2
        self.against = torch.optim.Adamax(self.discriminator.parameters(), lr=self.rate, betas=betas)
        for optimiser, _ in self.optimisers:
            for group in optimiser.param_groups:
                if "betas" in group:
                    group["betas"] = adversary.momentum, group["betas"][1]

    def extra_state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the net's."""
        return {"discriminator": self.discriminator.state_dict(), "against": self.against.state_dict()}

    def load_extra(self, state: dict[str, Any]) -> None:
        """Inverse of ``extra_state``."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.against.load_state_dict(state["against"])

    def _cost(self, batch: Batch) -> Tensor:
        """Of the generator: bits per sample of L_C, and L_Q in the same unit; the discriminator learns first.

        Samples are of the same classes as the images.
        """
        images, labels = batch.images, batch.labels
        real, dimensions = images.float() / 127.5 - 1, images[0].numel()
        fake = self._samples(batch)
        self._learn(real, fake.detach(), labels)
        quality = self._quality(real, fake, labels)
        cost = self.adversary.coefficient * quality / (dimensions * log(2))
        return cost + super()._cost(batch) if self.adversary.likelihood else cost

    def _samples(self, batch: Batch) -> Tensor:
        """As many images from the prior, within -1..1 and a little outside; their gradient does not reach the flow."""
        count, _, height, width = batch.images.shape
        with fixed(self.net.flow):
            grey = self.net.draw(count, height, width, self.adversary.deviation, **batch.given)
        images = grey / 127.5 - 1
        if not self.adversary.likelihood:
            return Within.apply(images)
        return images + (images.clamp(-RANGE, RANGE) - images).detach()  # with a gradient: they may come back

    def _learn(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> None:
        """A step of the discriminator."""
        a, net = self.adversary, partial(self.discriminator, labels=labels)
        for group in self.against.param_groups:
            group["lr"] = self.rate * self.learning_rate()
        if a.game == "samples":
            loss = adversarial_losses.discriminator_loss(net(real), net(fake))
            seen = adversarial_losses.interpolate(real, fake)
        else:
            beta = adversarial_losses.draw_beta(len(real), a.gamma, device=real.device)
            seen = adversarial_losses.mix(real, fake, beta)
            lose = MIXED[a.game].discriminator
            loss = lose(net(seen), beta) + lose(net(adversarial_losses.mix(real, fake, ~beta)), ~beta)
        if a.penalty:
            loss = loss + adversarial_losses.gradient_penalty(net, seen, a.penalty)
        self.against.zero_grad(set_to_none=True)
        loss.backward()
        self.against.step()

    def _quality(self, real: Tensor, fake: Tensor, labels: Tensor | None) -> Tensor:
        """L_Q, or the loss of chapter 4; nats."""
        a, net = self.adversary, partial(self.discriminator, labels=labels)
        with fixed(self.discriminator):
            if a.game == "samples":
                return adversarial_losses.quality_loss(net(fake))
            beta = adversarial_losses.draw_beta(len(real), a.gamma, device=real.device)
            loss = MIXED[a.game].generator
            return loss(net(adversarial_losses.mix(real, fake, beta))) + loss(
                net(adversarial_losses.mix(real, fake, ~beta))
            )


class Within(torch.autograd.Function):
    """Clamped to -RANGE..RANGE, with a gradient outside only where it leads back.

    Where nothing but a discriminator teaches, any other gradient takes samples further and further away: it sees none
    of it.  The generators of GANs end with a tanh instead, which VAEs do not.
    """

    @staticmethod
    def forward(context: Any, images: Tensor) -> Tensor:
        context.save_for_backward(images)
        return images.clamp(-RANGE, RANGE)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (images,) = context.saved_tensors
        return gradient.where((images.abs() <= RANGE) | (gradient * images > 0), 0.0)


@contextmanager
def fixed(module: nn.Module) -> Iterator[None]:
    """Gradients pass through a module within, and its parameters get none."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in module.parameters():
            parameter.requires_grad_(True)
