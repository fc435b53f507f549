"""Pseudoinverse-Guided Diffusion Models, PiGDM (Song et al., 2023), https://openreview.net/forum?id=9_gsMA8MRKQ, in the
scale x = x0 + sigma eps."""

from dataclasses import dataclass

from torch import Tensor

from lmaps_fast.denoisers import Denoiser
from lmaps_fast.errors import InputError
from lmaps_fast.operators import JpegRestoration, Operator, Quantization
from lmaps_fast.operators.structures import Krylov, Spectral
from lmaps_fast.renoise import Noise, renoise
from lmaps_fast.solvers.ddpm import LEAST_NOISE, LINEAR_TASKS, DDPMSettings, DDPMSolver, ancestral, with_vjp

# Their A^+ is the identity: A^+ A = A, since both only round.
ROUNDING = JpegRestoration | Quantization


@dataclass(frozen=True)
class PiGDMSettings(DDPMSettings):
    """Those of the paper: 100 steps, eta 1 (as in DDIM: 0 draws no noise, 1 all of DDPM's)."""

    steps: int = 100
    eta: float = 1.0


class PiGDM(DDPMSolver):
    """Per noise level: one network call with its gradient, which takes the guidance

    A^T (A A^T + sigma_y^2 / r^2 I)^{-1} (y - A D),  r^2 = sigma^2 / (1 + sigma^2),

    back through the network: x_next = DDIM(x, D) + (dD/dx)^T guidance. For JPEG and quantization the guidance is
    A^+ y - A^+ A(D) with A^+ = I, whatever sigma_y.
    """

    operator: Spectral | Krylov | JpegRestoration | Quantization
    settings: PiGDMSettings

    def __init__(
        self, operator: Operator, denoiser: Denoiser, settings: PiGDMSettings | None = None, backend: str | None = None
    ) -> None:
        if not isinstance(operator, Spectral | Krylov | ROUNDING):
            raise InputError(
                f"pigdm needs a pseudo-inverse of A, unknown for {operator.name}: use jpeg_restoration, quantization, "
                f"{LINEAR_TASKS}"
            )
        super().__init__(operator, denoiser, settings or PiGDMSettings(), backend)
        self.sigma_y = max(self.sigma_y, LEAST_NOISE)

    def begin(self, y: Tensor) -> Tensor:
        return y if isinstance(self.operator, ROUNDING) else self.operator.precompute(y)

    def guidance(self, D: Tensor, data: Tensor, sigma: float) -> Tensor:
        if isinstance(self.operator, ROUNDING):
            return data - self.operator(D)
        r2 = sigma**2 / (1 + sigma**2)
        return self.operator.prox(D, data, r2 / self.sigma_y**2) - D

    def step(self, x: Tensor, index: int, data: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        sigma, sigma_next = self.sigmas[index : index + 2]
        D, vjp = with_vjp(self.denoiser, x, sigma)
        g = vjp(self.guidance(D, data, sigma))
        rho = ancestral(sigma, sigma_next, self.settings.eta)
        return renoise(x, D, sigma, sigma_next, rho, noise) + g, D + g
