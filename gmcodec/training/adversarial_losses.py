# SPDX-License-Identifier: MIT
"""Losses of adversarial training (thesis, chapters 4 and 5), in nats, from logits: D = sigmoid(logit).

There are two kinds of training:

* **Samples one by one** (chapter 5).  The discriminator minimises ``discriminator_loss`` and a gradient penalty,
  the generator minimises L_Q, ``quality_loss``.  Two older generator losses are there for comparison.
* **Mixed batches** (chapter 4).  A proportion p* of a batch is real.  The discriminator, whose layers read batch means
  (discriminators.py), estimates that proportion:

      p* ~ U(0, 1)   beta_b ~ Bernoulli(p*)   m = mix(real, fake, beta)   logits o = net(m)   D(m) -> mean(beta)

  BGAN compares the mean of the logits with the proportion of real samples, M-BGAN compares each logit with it.

The real and fake samples that ``beta`` leaves out form a second batch, with ``~beta``.  When the discriminator learns,
it gets fake samples without their graph (``detach``); when the generator learns, with it.

Where the text of the thesis differs from its derivations, or says nothing, this follows the derivations:

* Eq. 4.5, E ln D(m), is called a loss, but the generator maximises it: with an optimal D it equals
  -KL(p_balanced || p_unbalanced) - ln 2 (section 4.3.2), which has to grow.
* The last line of eq. 5.2 leaves out ln 2.
* In BGAN D(m) is the sigmoid of the mean logit, not the mean of probabilities: eq. 4.10 averages the outputs of the
  last layer, which has no nonlinearity.
* The generator of M-BGAN averages losses over all samples of a mixed batch, real ones included: it changes their logits
  through the batch means.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

PENALTY = 100.0  # coefficient of the gradient penalty (A.2)

# -- samples one by one --------------------------------------------------------------------------------


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """-E ln D(x) - E ln(1 - D(G(z))) (eq. 2.75, negated), a scalar, from logits of real and of fake samples, [B] each.

    The optimal D is p* / (p* + p), where the loss is 2 ln 2 - 2 JS(p*, p) (eq. 5.1).
    """
    return functional.softplus(-real).mean() + functional.softplus(fake).mean()


def saturating_loss(fake: Tensor) -> Tensor:
    """E ln(1 - D(G(z))), a scalar, from logits of fake samples, [B] (Goodfellow et al. 2014).

    With D optimal the loss is KL(p || (p + p*) / 2) - ln 2 (eq. 5.2).
    """
    return -functional.softplus(fake).mean()


def nonsaturating_loss(fake: Tensor) -> Tensor:
    """-E ln D(G(z)), a scalar, from logits of fake samples, [B] (Goodfellow et al. 2014)."""
    return functional.softplus(-fake).mean()


def quality_loss(fake: Tensor) -> Tensor:
    """L_Q = -E [ln D(G(z)) - ln(1 - D(G(z)))] (eqs. 5.3, 5.6), a scalar, from logits of fake samples, [B].

    ln D - ln(1 - D) is the logit.  With D optimal the loss is KL(p || p*).
    """
    return -fake.mean()


def interpolate(real: Tensor, fake: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """e x + (1 - e) x~, [B, ..], with one e ~ U(0, 1) for each sample: Gulrajani et al. 2017 take gradients there."""
    shape = (len(real), *[1] * (real.ndim - 1))
    e = torch.rand(shape, generator=generator, device=real.device, dtype=real.dtype)
    return e * real + (1 - e) * fake


def gradient_penalty(
    discriminator: Callable[[Tensor], Tensor], x: Tensor, coefficient: float = PENALTY, target: float = 1.0
) -> Tensor:
    """coefficient * E (||grad_x o(x)||_2 - target)^2 (eq. 2.77), a differentiable scalar; ``x`` [B, ..].

    The gradient is that of the logit.  The thesis does not say where it is taken: ``x`` may be real, or interpolated
    (``interpolate``), as in the paper that the thesis cites.  If a discriminator reads batch means, the gradient is
    that of the sum of a batch's logits, and the penalty bounds no single one.
    """
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return coefficient * (gradient.flatten(1).norm(dim=1) - target).square().mean()


# -- mixed batches -------------------------------------------------------------------------------------


def draw_beta(
    count: int, gamma: float = 0.5, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> Tensor:
    """Which samples of a batch are real, bool [B]: independent of one another, given p*.

    p* is uniform on [0, gamma] and [1 - gamma, 1] ("batch smoothing-gamma", section 4.3.1).  With gamma = 1/2 it is
    U(0, 1), with 0 every batch is all real or all fake; a smaller gamma makes the discriminator's task easier.  Raises
    ValueError.
    """
    if not 0 <= gamma <= 0.5:
        raise ValueError(f"gamma {gamma} is not within 0..1/2")
    low, side = torch.rand(2, generator=generator, device=device)
    p = torch.where(side < 0.5, gamma * low, 1 - gamma * low)
    return torch.rand(count, generator=generator, device=device) < p


def mix(real: Tensor, fake: Tensor, beta: Tensor) -> Tensor:
    """m_beta(x, x~) = beta x + (1 - beta) x~ (eq. 4.2), samples or labels [B, ..] of any dtype, beta bool [B]."""
    return torch.where(beta.view(-1, *[1] * (real.ndim - 1)), real, fake)


def bernoulli_divergence(logits: Tensor, target: Tensor) -> Tensor:
    """KL(B(u) || B(v)) (eq. 4.3) with u = ``target`` and v = sigmoid(``logits``), [..] each; they broadcast."""
    negative_entropy = torch.xlogy(target, target) + torch.xlogy(1 - target, 1 - target)
    return negative_entropy + target * functional.softplus(-logits) + (1 - target) * functional.softplus(logits)


def bgan_discriminator_loss(logits: Tensor, beta: Tensor) -> Tensor:
    """KL(B(#beta / B) || B(D(m))), a scalar (eqs. 4.4, 4.13), from logits of a mixed batch, [B], and beta, bool [B].

    The optimal D(m) is the posterior mean of #beta / B (eq. 4.20).
    """
    return bernoulli_divergence(logits.mean(), beta.to(logits.dtype).mean())


def mbgan_discriminator_loss(logits: Tensor, beta: Tensor) -> Tensor:
    """1/B sum_b KL(B(#beta / B) || B(sigmoid(o_b))), a scalar (eqs. 4.4, 4.14), from logits [B] and beta, bool [B].

    The target of every logit is the proportion of the whole batch, not whether its own sample is real.
    """
    return bernoulli_divergence(logits, beta.to(logits.dtype).mean()).mean()


def bgan_generator_loss(logits: Tensor) -> Tensor:
    """-ln D(m), a scalar (eqs. 4.5, 4.13), from logits of a mixed batch, [B]."""
    return functional.softplus(-logits.mean())


def mbgan_generator_loss(logits: Tensor) -> Tensor:
    """-1/B sum_b ln sigmoid(o_b), a scalar (eqs. 4.5, 4.14), from logits of a mixed batch, [B], real ones too."""
    return functional.softplus(-logits).mean()
