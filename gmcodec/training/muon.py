# SPDX-License-Identifier: MIT
"""Muon: momentum, orthogonalised by a Newton-Schulz iteration (Jordan et al. 2024).

``torch.optim.Muon`` always iterates in bfloat16, and a CPU without bfloat16 arithmetic emulates it more than a hundred
times slower than float32 (seconds a step).  Here the caller chooses the precision, and matrices of one shape are
iterated together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic polynomial that drives singular values towards one
ITERATIONS = 5


def orthogonalise(stack: Tensor, dtype: torch.dtype) -> Tensor:
    """Approximately the nearest semi-orthogonal matrix of each matrix of ``stack`` [B, rows, columns].

    The iteration runs in ``dtype``; the result has the shape and dtype of ``stack``.
    """
    a, b, c = COEFFICIENTS
    x = stack.to(dtype)
    if wide := x.shape[1] > x.shape[2]:  # iterate on the smaller Gram matrix
        x = x.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if wide else x).to(stack.dtype)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; for matrices only.  State and defaults are those of ``torch.optim.Muon``.

    Every step shrinks matrices by lr * ``weight_decay``, so that singular values stay below 1 / ``weight_decay``.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            chosen = [p for p in group["params"] if p.grad is not None]
            if not chosen:
                continue
            gradients = [p.grad for p in chosen]
            for p in chosen:
                if not self.state[p]:
                    self.state[p]["momentum_buffer"] = torch.zeros_like(p)
            buffers = [self.state[p]["momentum_buffer"] for p in chosen]
            torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
            shapes = defaultdict(list)
            for p, update in zip(chosen, torch._foreach_lerp(gradients, buffers, group["momentum"]), strict=True):
                shapes[p.shape].append((p, update))
            for (rows, columns), pairs in shapes.items():
                updates = orthogonalise(torch.stack([u for _, u in pairs]), self.dtype)
                rate = group["lr"] * max(1.0, rows / columns) ** 0.5
                matrices = [p for p, _ in pairs]
                if group["weight_decay"]:
                    torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, list(updates.unbind()), alpha=-rate)
