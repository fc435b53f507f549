"""The exact denoiser of a Gaussian-mixture prior: an oracle with several modes."""

import torch
from torch import Tensor

from lmaps_fast.denoisers.base import without_autocast
from lmaps_fast.denoisers.gaussian import Gaussian
from lmaps_fast.errors import InputError
from lmaps_fast.ops import normal


class GaussianMixture:
    """Prior sum_k w_k N(mean_k, C_k): D(x, sigma) = sum_k r_k(x) m_k(x), the mean of x0 given x = x0 + sigma eps.

    Given x, the k-th component is as probable as r_k(x), proportional to w_k N(x; mean_k, C_k + sigma^2 I), and if it
    is the one, x0 is normal with mean m_k(x) = mean_k + C_k (C_k + sigma^2 I)^{-1} (x - mean_k) and covariance
    V_k = C_k - C_k (C_k + sigma^2 I)^{-1} C_k. D has gradients; sigma is a float or a tensor [1 or B] in all methods.

    Args:
        weights: [K], positive, of any sum.
        means: [K, C, H, W].
        covariances: [K, n, n] with n = C H W, positive definite.

    Raises:
        InputError: for weights that are not positive.

    Source: Appendix A of arXiv 2510.07343, with a = 1, s = sigma.
    """

    batched_sigma = recordable = True

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        if not (weights > 0).all():
            raise InputError("the weights of a mixture must be positive: leave out components of weight 0")
        self.log_weights = (weights / weights.sum()).log()
        self.components = [Gaussian(mean, C) for mean, C in zip(means, covariances, strict=True)]

    @property
    def weights(self) -> Tensor:
        """w_k, [K], of sum 1."""
        return self.log_weights.exp()

    def log_joint(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """log w_k N(x; mean_k, C_k + sigma^2 I), [K, B]."""
        return self.log_weights[:, None] + torch.stack([g.log_density(x, sigma) for g in self.components])

    def log_density(self, x: Tensor, sigma: float | Tensor = 0.0) -> Tensor:
        """log sum_k w_k N(x; mean_k, C_k + sigma^2 I), [B]: of images without noise, or of images with noise sigma."""
        return self.log_joint(x, sigma).logsumexp(0)

    def responsibilities(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """r_k(x), [K, B]."""
        return self.log_joint(x, sigma).softmax(0)

    def component_means(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """m_k(x), [K, B, C, H, W]."""
        return torch.stack([g(x, sigma) for g in self.components])

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        means = self.component_means(x, sigma)
        return (self.responsibilities(x, sigma).view(*means.shape[:2], 1, 1, 1) * means).sum(0).to(x.dtype)

    def local_map(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """m_k(x) of the k that maximises r_k(x) |V_k|^{-1/2}, [B, C, H, W]; sigma > 0.

        At m_k the k-th summand of p(x0 | x) has the height r_k (2 pi)^{-n/2} |V_k|^{-1/2}: of the components' modes
        this is the one of the greatest height. It is the maximum of p(x0 | x) itself where components do not overlap.
        """
        half_log_V = torch.stack([0.5 * g.posterior_variances(x, sigma).log().sum(1) for g in self.components])
        return self._chosen((self.log_joint(x, sigma) - half_log_V).argmax(0), self.component_means(x, sigma))

    def sample(self, x: Tensor, sigma: float | Tensor, keys: Tensor, draw: int = 0) -> Tensor:
        """One draw of x0 given x for each image, [B, C, H, W]: k with probability r_k(x), then m_k(x) + V_k^{1/2} eps.

        keys: [B] int64, of `lmaps_fast.noise.keys`. draw: from 0; this draw and the next are used.
        """
        # The standard normal distribution function makes one of the normal numbers uniform.
        u = torch.special.ndtr(normal(keys, x.shape[1:], draw, x.dtype).flatten(1)[:, 0])
        k = (self.responsibilities(x, sigma).cumsum(0) < u).sum(0).clamp(max=len(self.components) - 1)
        eps = normal(keys, x.shape[1:], draw + 1, x.dtype)
        errors = torch.stack([g.colour(eps, sigma) for g in self.components])
        return self._chosen(k, self.component_means(x, sigma) + errors)

    @without_autocast
    def posterior(self, A: Tensor, y: Tensor, noise: float) -> "GaussianMixture":
        """The distribution of x0 given y = A x0 + noise eps, a mixture again, whose D(x, sigma) is E[x0 | x, y].

        With S_k = A C_k A^T + noise^2 I and the gain G_k = C_k A^T S_k^{-1}: means mean_k + G_k (y - A mean_k),
        covariances C_k - G_k A C_k, weights proportional to w_k N(y; A mean_k, S_k).

        A: [m, n], of flattened images; y: [m]; noise > 0: a standard deviation. Raises InputError otherwise.
        """
        n = self.components[0].mean.numel()
        if A.dim() != 2 or A.shape[1] != n or y.shape != A.shape[:1]:
            raise InputError(f"A and y have the shapes {list(A.shape)} and {list(y.shape)}: give [m, {n}] and [m]")
        if not noise > 0:
            raise InputError(f"noise must be positive, not {noise}: a small one stands for a measurement without any")
        log_weights, means, covariances = [], [], []
        for log_weight, g in zip(self.log_weights, self.components, strict=True):
            C, residual = g.covariance, y - A @ g.mean.flatten()
            S = A @ C @ A.T + noise**2 * torch.eye(len(y), dtype=C.dtype, device=C.device)
            gain = torch.linalg.solve(S, A @ C).T
            log_weights.append(log_weight - 0.5 * (residual @ torch.linalg.solve(S, residual) + S.logdet()))
            means.append(g.mean + (gain @ residual).view_as(g.mean))
            # In this form rounding leaves no negative eigenvalues.
            rest = torch.eye(n, dtype=C.dtype, device=C.device) - gain @ A
            covariances.append(rest @ C @ rest.T + noise**2 * gain @ gain.T)
        # A component that y rules out keeps the least weight there is.
        weights = torch.stack(log_weights).softmax(0).clamp(min=torch.finfo(y.dtype).tiny)
        return GaussianMixture(weights, torch.stack(means), torch.stack(covariances))

    @staticmethod
    def _chosen(k: Tensor, candidates: Tensor) -> Tensor:
        """candidates[k[i], i] for each image i."""
        return candidates[k, torch.arange(len(k), device=k.device)]
