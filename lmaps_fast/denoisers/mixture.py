"""The exact denoiser of a Gaussian-mixture prior: an oracle with several modes."""

import torch
from torch import Tensor

from lmaps_fast.denoisers.gaussian import Gaussian
from lmaps_fast.errors import InputError


class GaussianMixture:
    """Prior sum_k w_k N(mean_k, C_k): D(x, sigma) = sum_k r_k(x) D_k(x, sigma), where D_k is that of the k-th Gaussian
    and r_k(x) = w_k N(x; mean_k, C_k + sigma^2 I), normalized, is how probable the k-th is.

    weights: [K], positive, of any sum; means: [K, C, H, W]; covariances: [K, n, n] with n = C H W. Raises InputError
    for weights that are not positive. Source: Appendix A of arXiv 2510.07343.
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        if not (weights > 0).all():
            raise InputError("the weights of a mixture must be positive: leave out components of weight 0")
        self.log_weights = weights.log()
        self.components = [Gaussian(mean, C) for mean, C in zip(means, covariances, strict=True)]

    def responsibilities(self, x: Tensor, sigma: float) -> Tensor:
        """r_k(x), [K, B]."""
        scores = []
        for log_weight, g in zip(self.log_weights, self.components, strict=True):
            variances = g.variances + sigma**2
            centred = (x - g.mean).flatten(1) @ g.vectors
            scores.append(log_weight - 0.5 * (centred.square() / variances + variances.log()).sum(1))
        return torch.stack(scores).softmax(0)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        means = torch.stack([g(x, sigma) for g in self.components])
        return (self.responsibilities(x, sigma).view(*means.shape[:2], 1, 1, 1) * means).sum(0)
