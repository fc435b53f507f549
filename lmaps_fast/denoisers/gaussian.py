"""The exact denoiser of a Gaussian prior: the oracle that samplers are tested against."""

import torch
from torch import Tensor


class Gaussian:
    """Prior N(mean, covariance) over flattened images: D(x, sigma) = mean + C (C + sigma^2 I)^{-1} (x - mean).

    mean: [C, H, W]; covariance: [n, n] with n = C H W. Computed in the eigenbasis of C.
    """

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.mean = mean
        self.variances, self.vectors = torch.linalg.eigh(covariance)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        gain = self.variances / (self.variances + sigma**2)
        centred = (x - self.mean).flatten(1) @ self.vectors
        return self.mean + ((centred * gain) @ self.vectors.T).view_as(x)

    @property
    def covariance(self) -> Tensor:
        """C, [n, n]."""
        return (self.vectors * self.variances) @ self.vectors.T

    def log_density(self, x: Tensor, sigma: float) -> Tensor:
        """log N(x; mean, C + sigma^2 I), [B]."""
        variances = self.variances + sigma**2
        centred = (x - self.mean).flatten(1) @ self.vectors
        return -0.5 * (centred.square() / variances + (2 * torch.pi * variances).log()).sum(1)

    def posterior_variances(self, sigma: float) -> Tensor:
        """The eigenvalues, [n], of the covariance of x0 given x, V = C - C (C + sigma^2 I)^{-1} C, which has the
        eigenvectors of C: c sigma^2 / (c + sigma^2) for an eigenvalue c of C."""
        return self.variances * (sigma**2 / (self.variances + sigma**2))

    def colour(self, eps: Tensor, sigma: float) -> Tensor:
        """V^{1/2} eps, [B, C, H, W], with V as above: standard normal eps become errors of D(x, sigma)."""
        deviations = self.posterior_variances(sigma).clamp(min=0).sqrt()  # rounding may leave a c just below 0
        return ((eps.flatten(1) @ self.vectors * deviations) @ self.vectors.T).view_as(eps)
