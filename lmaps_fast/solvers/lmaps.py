"""Local MAP Sampling (Zhang, Brekelmans, Ver Steeg, 2025, https://arxiv.org/abs/2510.07343), Eq. 8b and 13."""

from typing import NamedTuple

import torch
from torch import Tensor

from lmaps_fast import ops
from lmaps_fast.denoisers import Denoiser
from lmaps_fast.levels import polynomial
from lmaps_fast.local_map import Problem, check_convergence
from lmaps_fast.operators import Operator
from lmaps_fast.ops import PixelMap, backends
from lmaps_fast.presets import Preset
from lmaps_fast.solvers.base import Level, Solver, State
from lmaps_fast.solvers.renoise import renoise, shares


class FusedState(NamedTuple):
    """Buffers that `ops.step` overwrites: x, x0, and what the network is called on next."""

    x: Tensor
    x0: Tensor
    network_input: Tensor


def layout(x: Tensor) -> torch.memory_format:
    """That of network tensors like x."""
    return torch.channels_last if x.dim() == 4 else torch.contiguous_format


class LMAPS(Solver):
    """Per noise level: one network call, one local MAP, one renoising.

    Where the denoiser is a network F with D(x, sigma) = skip x + out F(scale x), F is called on its own, and the rest
    is one kernel (`ops.step`), or one kernel after the local MAP where that is none itself: equal to the step in its
    parts, to rounding.
    """

    name = "lmaps"
    uses_noise = True
    Settings = Preset

    def __init__(self, operator: Operator, denoiser: Denoiser, backend: str | None = None) -> None:
        super().__init__(operator, denoiser, backend)
        fuses = operator.dtype == torch.float32 and backends.requested(backend) != "reference"
        network = getattr(denoiser, "preconditioned", None) if fuses else None
        self.network = network(operator.shape) if network else None

    @classmethod
    def published(cls, task: str, noise: float | None = None) -> Preset:
        from lmaps_fast.operators import preset

        return preset(task, "paper")

    def check(self, operator: Operator, settings: Preset) -> None:
        sigmas = self.sigmas(settings)
        for sigma in (sigmas[0], sigmas[-2]):  # lam, and with it the curvature, moves one way from step to step
            check_convergence(operator, settings.weights(sigma))

    def sigmas(self, settings: Preset) -> list[float]:
        return polynomial(settings.steps, settings.sigma_max, settings.sigma_min)

    def columns(self, operator: Operator, settings: Preset, sigma: float, sigma_next: float, share: float) -> dict:
        weights = settings.weights(sigma)
        keep, noise = shares(sigma, sigma_next, settings.rho)
        skip = out = scale = scale_next = condition = 0.0
        if self.network is not None:
            # At sigma_next = 0 there is no further call: whatever its level, its input is not read.
            both = torch.tensor([sigma, sigma_next or sigma], dtype=torch.float64)
            (skip, _), (out, _), (scale, scale_next) = (part.tolist() for part in self.network.preconditioning(both))
            condition = self.network.condition(both)[0].item()
        return {
            "lam": weights.lam,
            "c": weights.c,
            "lr": weights.lr,
            "K": weights.steps,
            "skip": skip,
            "out": out,
            "keep": keep,
            "noise": noise,
            "scale": scale_next,
            "k2": weights.k2,
            "scale_now": scale,
            "condition": condition,
            "guessed": float(settings.start == "measurement"),
        }

    def start(self, problem: Problem, level: Level) -> State | FusedState:
        x = level.add_normal(level.guessed * problem.guess, level.sigma)
        if self.network is None:
            return State(x, x)
        # With the strides of torch.empty, as the network's output has them.
        scaled = torch.empty(x.shape, dtype=self.network.dtype, device=x.device, memory_format=layout(x))
        return FusedState(x, torch.empty_like(x), scaled.copy_(x * level.scale_now))

    def step(self, problem: Problem, state: State | FusedState, level: Level) -> State | FusedState:
        if isinstance(state, FusedState):
            return self.fused(problem, state, level)
        D = self.denoise(state.x, level)
        x0 = problem(D, level.weights)
        return State(renoise(state.x, x0, level), x0)

    def fused(self, problem: Problem, state: FusedState, level: Level) -> FusedState:
        """The same, with what lies between two network calls in one kernel."""
        assert self.network is not None
        with level.caller():
            F = self.network.evaluate(state.network_input, level.each("condition", torch.float32))
        local_map = problem.pixel_map
        if local_map is None:
            x0 = problem(torch.addcmul(level.skip * state.x, level.out, F.to(state.x.dtype)), level.weights)
            local_map, F = PixelMap("given", x0.contiguous()), None
        most = level.weights.most
        ops.step(local_map, *state, F, keys=level.keys, levels=level.steps, most=most, backend=self.backend)
        return state
