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
