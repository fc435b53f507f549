"""The exact denoiser of a Gaussian prior: the oracle that samplers are tested against."""

import torch
from torch import Tensor

from lmaps_fast.denoisers.base import levels, without_autocast


class Gaussian:
    """Prior N(mean, covariance) over flattened images: D(x, sigma) = mean + C (C + sigma^2 I)^{-1} (x - mean).

    Computed in the eigenbasis of C and in its type; sigma is a float, 0 included, or a tensor [1 or B].

    Args:
        mean: [C, H, W].
        covariance: [n, n] with n = C H W.
    """

    batched_sigma = recordable = True

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.mean = mean
        self.variances, self.vectors = torch.linalg.eigh(covariance)

    @without_autocast
    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        gain = (self.variances / self._noisy_variances(x, sigma)).to(self.vectors.dtype)
        change = ((self._coordinates(x) * gain) @ self.vectors.T).view(x.shape)
        return (self.mean + change).to(x.dtype)

    def _coordinates(self, x: Tensor) -> Tensor:
        """x - mean in the eigenbasis, [B, n]."""
        return (x - self.mean).flatten(1).to(self.vectors.dtype) @ self.vectors

    def _noisy_variances(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The eigenvalues of C + sigma^2 I, [1 or B, n] in float64."""
        return self.variances + _squared(x, sigma)

    @property
    def covariance(self) -> Tensor:
        """C, [n, n]."""
        return (self.vectors * self.variances) @ self.vectors.T

    @without_autocast
    def log_density(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """log N(x; mean, C + sigma^2 I), [B]."""
        variances = self._noisy_variances(x, sigma)
        return -0.5 * (self._coordinates(x).square() / variances + (2 * torch.pi * variances).log()).sum(1)

    def posterior_variances(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """The eigenvalues, [1 or B, n] in float64, of the covariance of x0 given x, V = C - C (C + sigma^2 I)^{-1} C,
        which has the eigenvectors of C: c sigma^2 / (c + sigma^2) for an eigenvalue c of C."""
        return self.variances * (_squared(x, sigma) / self._noisy_variances(x, sigma))

    @without_autocast
    def colour(self, eps: Tensor, sigma: float | Tensor) -> Tensor:
        """V^{1/2} eps, [B, C, H, W], with V as above: standard normal eps become errors of D(x, sigma)."""
        variances = self.posterior_variances(eps, sigma).clamp(min=0)  # rounding may leave a c just below 0
        eigen = eps.flatten(1).to(self.vectors.dtype) @ self.vectors * variances.sqrt().to(self.vectors.dtype)
        return (eigen @ self.vectors.T).view(eps.shape).to(eps.dtype)


def _squared(x: Tensor, sigma: float | Tensor) -> Tensor:
    return levels(sigma, x, zero=True)[:, None].square()
