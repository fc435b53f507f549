"""SITCOM (Alkhouri et al., ICML 2025, https://arxiv.org/abs/2410.04479): step-wise triple-consistent sampling."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.local_map import Problem
from lmaps_fast.operators import Operator
from lmaps_fast.presets import whole
from lmaps_fast.solvers.base import Level, State, sum_of_each
from lmaps_fast.solvers.ddpm import DDPMSettings, DDPMSolver
from lmaps_fast.solvers.published import with_settings_for

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # of Adam
MARGIN = 0.001  # added to sigma_y in the stopping rule


@dataclass(frozen=True)
class SITCOMSettings(DDPMSettings):
    """Those of the public code: 20 steps; inner_steps K: network calls at each noise level, all but the last with their
    gradient; lr of Adam; project: end every noise level by x0 <- clamp(x0 - A^T (A x0 - y)), as for box inpainting.
    sigma_y tells where the inner steps stop."""

    steps: int = 20
    inner_steps: int = 30
    lr: float = 0.02
    project: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("inner_steps", self.inner_steps)
        if not 0 < self.lr < math.inf:
            raise InputError(f"lr must be finite and positive, not {self.lr}")


class SITCOM(DDPMSolver):
    """Per noise level: Adam on the network's input z until A(x0(z)) fits y, then x_{t-1} = a x0 + s eps.

    Each image stops on its own, so a batch equals its single images. The gradient of the misfit is the operator's own,
    so that surrogate Jacobians (JPEG, quantization, HDR) count here too.
    """

    name = "sitcom"
    differentiates = True
    recordable = False
    Settings = SITCOMSettings

    @classmethod
    def published(cls, task: str, noise: float | None = None) -> SITCOMSettings:
        """The defaults of the public code, which are also what the paper of LMAPS compares with: 20 x 30 calls."""
        with_settings_for(cls.name, task)
        return SITCOMSettings(project=task == "inpainting_box", sigma_y=noise)

    def columns(
        self, operator: Operator, settings: SITCOMSettings, sigma: float, sigma_next: float, share: float
    ) -> dict:
        own = {"inner_steps": settings.inner_steps, "lr": settings.lr, "project": float(settings.project)}
        return {**super().columns(operator, settings, sigma, sigma_next, share), **own}

    def step(self, problem: Problem, state: State, level: Level) -> State:
        x0 = self.fit(problem, state.x, level)
        if any(level.on_host("project")):
            projected = (x0 - problem.A.gradient(x0, problem.y)).clamp(-1, 1)
            x0 = torch.where(level.project > 0, projected, x0)
        return State(x0 if level.last else level.add_normal(x0, level.sigma_next), x0)

    def fit(self, problem: Problem, x: Tensor, level: Level) -> Tensor:
        """x0(z) = clamp(D(z / a, sigma), -1, 1) after at most K - 1 steps of Adam on |A(x0(z)) - y|^2 from z = a x.

        a = 1 / sqrt(1 + sigma^2): z is in the scale of DDPM, on which Adam's steps depend. An image whose loss is less
        than (sigma_y + .001)^2 times the number of its measured values stays as it is.
        """
        a = (1 + level.sigma**2) ** -0.5
        tolerance = (level.sigma_y + MARGIN) ** 2 * problem.y[0].numel()
        most = level.on_host("inner_steps")
        z = a * x
        m, v = torch.zeros_like(z), torch.zeros_like(z)
        for k in range(1, int(max(most))):
            D, vjp = self.with_vjp(z / a, level)
            x0 = D.clamp(-1, 1)
            loss = sum_of_each((problem.A.forward(x0) - problem.y).abs().square())
            unfit = (loss.view(-1, *[1] * (z.dim() - 1)) >= tolerance) & (k < level.inner_steps)
            if not unfit.any():
                return x0
            g = vjp(2 / a * problem.A.gradient(x0, problem.y) * (x0 == D))  # the clamp stops it elsewhere
            m, v = torch.lerp(m, g, 1 - BETA1), torch.lerp(v, g.square(), 1 - BETA2)
            mhat, vhat = m / (1 - BETA1**k), v / (1 - BETA2**k)
            z = torch.where(unfit, z - level.lr * mhat / (vhat.sqrt() + EPSILON), z)
        # The public code takes a K-th step too, which changes nothing that is used.
        return self.denoise(z / a, level).clamp(-1, 1)
