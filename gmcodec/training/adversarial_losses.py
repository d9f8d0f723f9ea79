# SPDX-License-Identifier: MIT
"""Losses of adversarial training (thesis, chapters 4 and 5), in nats, from logits: D = sigmoid(logit).

Two games, and what is minimised by whom:

* **Samples one by one** (chapter 5).  The discriminator minimises ``discriminator_loss`` and a gradient penalty,
  the generator L_Q, ``quality_loss``; two older generator losses are there to compare.
* **Mixed batches** (chapter 4).  A share p* of a batch is real; the discriminator, whose layers read batch means
  (discriminators.py), says which share:

      p* ~ U(0, 1)   beta_b ~ Bernoulli(p*)   m = mix(real, fake, beta)   logits o = net(m)   D(m) -> mean(beta)

  BGAN compares the mean of the logits with the share of real samples, M-BGAN each logit.

Real samples that ``beta`` leaves out, and fake ones, go into a second batch with ``~beta``.  To learn, the
discriminator gets fake samples without their graph (``detach``), the generator with it.

As the thesis derives it, where its text says something else or nothing:

* Eq. 4.5, E ln D(m), is called a loss.  The generator maximises it, as -KL(p_balanced || p_unbalanced) - ln 2, which it
  is where D is optimal (section 4.3.2), has to grow.
* The last line of eq. 5.2 leaves out ln 2.
* BGAN has D(m) = sigmoid(mean of logits), and not the mean of probabilities: eq. 4.10 averages what the last layer
  gives, which has no nonlinearity.
* The generator of M-BGAN averages over losses too, of all samples of a mixed batch: of real ones, whose logits it
  changes through batch means.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

PENALTY = 100.0  # coefficient of the gradient penalty (A.2)

# -- samples one by one --------------------------------------------------------------------------------


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-E ln D(x) - E ln(1 - D(G(z))) (eq. 2.75, negated), a number; logits of real and of fake samples, [B] each.

    The optimal D is p* / (p* + p), where the loss is 2 ln 2 - 2 JS(p*, p) (eq. 5.1).
    """
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def saturating_loss(fake: Tensor) -> Tensor:
    """E ln(1 - D(G(z))), a number; logits of fake samples, [B] (Goodfellow et al. 2014).

    With D optimal the loss is KL(p || (p + p*) / 2) - ln 2 (eq. 5.2).
    """
    return -functional.softplus(fake).mean()


def nonsaturating_loss(fake: Tensor) -> Tensor:
    """-E ln D(G(z)), a number; logits of fake samples, [B] (Goodfellow et al. 2014)."""
    return functional.softplus(-fake).mean()


def quality_loss(fake: Tensor) -> Tensor:
    """L_Q = -E [ln D(G(z)) - ln(1 - D(G(z)))] (eqs. 5.3, 5.6), a number; logits of fake samples, [B].

    ln D - ln(1 - D) is the logit.  With D optimal the loss is KL(p || p*).
    """
    return -fake.mean()


def interpolate(real: Tensor, fake: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """e x + (1 - e) x~ with one e ~ U(0, 1) a sample: where Gulrajani et al. 2017 take gradients; [B, ..] all."""
    shape = (len(real), *[1] * (real.ndim - 1))
    e = torch.rand(shape, generator=generator, device=real.device, dtype=real.dtype)
    return e * real + (1 - e) * fake


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], x: Tensor, coefficient: float = PENALTY, target: float = 1.0
) -> Tensor:
    """coefficient * E (||grad_x o(x)||_2 - target)^2 (eq. 2.77), a number, differentiable; ``x`` [B, ..].

    The gradient is that of the logit.  The thesis does not say where it is taken: ``x`` may be interpolated
    (``interpolate``, as in the paper that it cites), or real.  Where a discriminator reads batch means it is the
    gradient of the sum of a batch's logits, and no bound of a single one.
    """
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return coefficient * (gradient.flatten(1).norm(dim=1) - target).square().mean()


# -- mixed batches -------------------------------------------------------------------------------------


def draw_beta(
    count: int, gamma: float = 0.5, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> Tensor:
    """Which samples of a batch are real, bool [B]: independent of one another, given p*.

    p* is uniform on [0, gamma] and [1 - gamma, 1] ("batch smoothing-gamma", section 4.3.1): gamma = 1/2 is U(0, 1),
    with 0 batches are pure, less makes it easier for the discriminator.
    """
    if not 0 <= gamma <= 0.5:
        raise ValueError(f"gamma {gamma} is not within 0..1/2")
    low, side = torch.rand(2, generator=generator, device=device)
    p = torch.where(side < 0.5, gamma * low, 1 - gamma * low)
    return torch.rand(count, generator=generator, device=device) < p


def mix(real: Tensor, fake: Tensor, beta: Tensor) -> Tensor:
    """m_beta(x, x~) = beta x + (1 - beta) x~ (eq. 4.2); [B, ..] of any type, labels too, and beta, bool [B]."""
    return torch.where(beta.view(-1, *[1] * (real.ndim - 1)), real, fake)


def share_divergence(logits: Tensor, share: Tensor) -> Tensor:
    """KL(B(u) || B(v)) (eq. 4.3), u = ``share`` and v = sigmoid(``logits``); [..] both, broadcast."""
    own = torch.xlogy(share, share) + torch.xlogy(1 - share, 1 - share)
    return own + share * functional.softplus(-logits) + (1 - share) * functional.softplus(logits)


def bgan_discriminator_loss(logits: Tensor, beta: Tensor) -> Tensor:
    """KL(B(#beta / B) || B(D(m))), a number (eqs. 4.4, 4.13); logits of a mixed batch, [B], and beta, bool [B].

    The optimal D(m) is the posterior mean of #beta / B (eq. 4.20).
    """
    return share_divergence(logits.mean(), beta.to(logits.dtype).mean())


def mbgan_discriminator_loss(logits: Tensor, beta: Tensor) -> Tensor:
    """1/B sum_b KL(B(#beta / B) || B(sigmoid(o_b))), a number (eqs. 4.4, 4.14); logits [B] and beta, bool [B].

    Every logit is told the share of the whole batch, not whether its own sample is real.
    """
    return share_divergence(logits, beta.to(logits.dtype).mean()).mean()


def bgan_generator_loss(logits: Tensor) -> Tensor:
    """-ln D(m), a number (eqs. 4.5, 4.13); logits of a mixed batch, [B]."""
    return functional.softplus(-logits.mean())


def mbgan_generator_loss(logits: Tensor) -> Tensor:
    """-1/B sum_b ln sigmoid(o_b), a number (eqs. 4.5, 4.14); logits of a mixed batch, [B], real samples' too."""
    return functional.softplus(-logits).mean()
