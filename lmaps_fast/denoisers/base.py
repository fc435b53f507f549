"""The denoiser protocol, and what adapts a network to it."""

import copy
import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from lmaps_fast.errors import InputError

Method = TypeVar("Method", bound=Callable[..., Any])


class Denoiser(Protocol):
    """Any callable D(x, sigma): the posterior mean E[x0 | x] of x = x0 + sigma * noise, without clipping.

    Solvers such as DPS ask for its gradient, others do not. It may have these attributes:
        batched_sigma: True if it also takes sigma as a tensor [B], float64 on the device of x: a level for each image.
        recordable: True if a CUDA graph can hold its call: it reads no tensor on the host and copies none to the GPU.
        preset: the name of its table of hyper-parameters.
        sigma_range: the least and the greatest sigma of its training.
        preconditioned: a method; see `Preconditioned`.

    Args:
        x: [B, C, *spatial], in the scale of images in [-1, 1].
        sigma: a positive float, the same for the whole batch.

    Returns:
        [B, C, *spatial], in the type of x.
    """

    def __call__(self, x: Tensor, sigma: float, /) -> Tensor: ...


class Preconditioned(Protocol):
    """A denoiser as its network F and the linear maps around it: D(x, sigma) = skip x + out F(scale x, condition).

    A denoiser whose method `preconditioned(shape)` returns one for images [C, H, W] (or None) lets solvers fuse those
    maps with what they do between two calls. No method reads a tensor on the host.
    """

    dtype: torch.dtype  # of the network's input and output

    def preconditioning(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """skip, out and scale, each [n] in float64, for sigma [n] in float64."""

    def condition(self, sigma: Tensor) -> Tensor:
        """What tells the network the noise level: [n] in float64, for sigma [n] in float64."""

    def evaluate(self, scaled: Tensor, condition: Tensor) -> Tensor:
        """F, [B, C, H, W], for scaled = scale x, [B, C, H, W], and condition, [B] in float32. Both images are in
        `dtype` and channels_last, with the strides that torch.empty gives them."""


def levels(sigma: float | Tensor, x: Tensor, zero: bool = False) -> Tensor:
    """Noise levels as a tensor, without a wait for the device.

    Args:
        sigma: one for all images, or a tensor with one for each.
        x: the images, [B, ...].
        zero: whether a level may be 0.

    Returns:
        [1 or B] in float64, on the device of x.

    Raises:
        InputError: for a float that is not positive, and for another number of levels.
    """
    if isinstance(sigma, Tensor):
        if sigma.numel() not in (1, len(x)):
            raise InputError(f"sigma holds {sigma.numel()} levels for {len(x)} images: give one, or one for each")
        return sigma.to(x.device, torch.float64).flatten()
    if not (0 < sigma < math.inf or (zero and sigma == 0)):
        raise InputError(f"sigma must be positive and finite, not {sigma}: give the noise level of x")
    return torch.full((1,), sigma, dtype=torch.float64, device=x.device)


def working_dtype(x: Tensor) -> torch.dtype:
    """What is computed in around a network for images x: their own type, but float32 at least."""
    if not x.is_floating_point():
        raise InputError(f"a denoiser takes images of a floating type, not {x.dtype}: scale them to [-1, 1]")
    return torch.promote_types(x.dtype, torch.float32)


def columns(values: Tensor, x: Tensor) -> Tensor:
    """values, [n], in `working_dtype(x)` and of a shape that multiplies images like x."""
    return values.to(working_dtype(x)).view(-1, *[1] * (x.dim() - 1))


def without_autocast(method: Method) -> Method:
    """A method of (self, tensor, ...) whose operations keep their types inside of torch.autocast too."""

    @wraps(method)
    def call(self: Any, x: Tensor, *arguments: Any, **options: Any) -> Any:
        with torch.autocast(x.device.type, enabled=False):
            return method(self, x, *arguments, **options)

    return cast(Method, call)


def _layout(dim: int) -> torch.memory_format:
    return {4: torch.channels_last, 5: torch.channels_last_3d}.get(dim, torch.contiguous_format)


def _arranged(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x in dtype and channels_last, with the strides of torch.empty: where an axis has one entry, others would do for
    torch, but kernels go by strides."""
    layout = _layout(x.dim())
    # `to` looks at the order of the strides alone, and leaves a slice of a channels_last tensor as it is.
    x = x.to(dtype, memory_format=layout).contiguous(memory_format=layout)
    strides = torch.empty(x.shape, device="meta", memory_format=layout).stride()
    return x if x.stride() == strides else x.as_strided(x.shape, strides)


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


@torch.inference_mode(False)  # weights that are made inside could have no gradients outside
def convert(network: nn.Module, dtype: torch.dtype, device: torch.device | str | None = None) -> nn.Module:
    """The network, changed in place: on the device, floating weights in dtype and channels_last, in eval mode."""
    for tensor in _tensors(network):
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        tensor.data = tensor.data.to(device, kind).contiguous(memory_format=_layout(tensor.dim()))
    return network.eval()


def _fits(network: nn.Module, dtype: torch.dtype) -> bool:
    """Whether `convert` would leave the network as it is."""
    return not any(module.training for module in network.modules()) and all(
        (tensor.dtype == dtype or not tensor.is_floating_point())
        and tensor.is_contiguous(memory_format=_layout(tensor.dim()))
        for tensor in _tensors(network)
    )


def rounded(dtype: torch.dtype, module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The hook (with `partial`) of a layer whose first input is made in float32 and enters it in dtype."""
    return inputs[0].to(dtype), *inputs[1:]


class Scaled:
    """A denoiser as a network F between linear maps; what it is made of in a class for each convention (`EDM`, `VP`).

    The network is left as it is. Where its weights are in `dtype` and channels_last and it is in eval mode, it is used
    itself, and shares its memory; else a copy is made, which later changes do not reach. Inside of torch.autocast it
    runs as torch.autocast has it.

    Args:
        network: network(x, condition) takes x, [B, C, *spatial] in `dtype` and channels_last, and condition(sigma), [B]
            in float32. Of more than C channels that it returns the first C are taken.
        dtype: what the network computes in. Default float32.
        recordable: whether a CUDA graph can hold a call of the network; see `Denoiser`. Default False.

    Calls take sigma as a float or as a tensor [1 or B], and raise InputError for a sigma that is not positive, for
    images of integers, and where the network returns another shape.
    """

    batched_sigma = True

    def __init__(self, network: nn.Module, dtype: torch.dtype = torch.float32, recordable: bool = False) -> None:
        self.network = network if _fits(network, dtype) else convert(copy.deepcopy(network), dtype)
        self.dtype, self.recordable = dtype, recordable

    def preconditioning(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """skip, out and scale, each [n] in float64, for sigma [n] in float64."""
        raise NotImplementedError

    def condition(self, sigma: Tensor) -> Tensor:
        """What tells the network the noise level: [n] in float64, for sigma [n] in float64."""
        raise NotImplementedError

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        level = levels(sigma, x)
        skip, out, scale = (columns(number, x) for number in self.preconditioning(level))
        condition = self.condition(level).float().expand(len(x)).contiguous()
        F = self.evaluate(_arranged(x * scale, self.dtype), condition)
        # skip x first: the result takes the memory format of x.
        return torch.addcmul(x * skip, F.to(skip.dtype), out).to(x.dtype)

    def preconditioned(self, shape: Sequence[int]) -> Preconditioned | None:
        """Itself for images [C, H, W], None for other numbers of axes."""
        return self if len(shape) == 3 else None

    def evaluate(self, scaled: Tensor, condition: Tensor) -> Tensor:
        """F, as `Preconditioned` has it. The network is not called for an empty batch."""
        if not len(scaled):
            return scaled
        with torch.set_grad_enabled(torch.is_grad_enabled() and scaled.requires_grad):  # not for the weights alone
            F = self.network(scaled, condition)[:, : scaled.shape[1]]
        if F.shape != scaled.shape:
            raise InputError(
                f"the network returns {list(F.shape)} for images {list(scaled.shape)}: it must return their shape"
            )
        return _arranged(F, self.dtype)


class EDM(Scaled):
    """EDM preconditioning: D = c_skip x + c_out F(c_in x, ln(sigma) / 4), with c_skip = sd^2 / (s^2 + sd^2),
    c_out = s sd / sqrt(s^2 + sd^2) and c_in = 1 / sqrt(s^2 + sd^2).

    Args:
        network, dtype, recordable: see `Scaled`, which says when the network is copied.
        sigma_data: sd, the standard deviation of the images of its training. Default .5.

    Source: Karras et al., 2022, https://arxiv.org/abs/2206.00364.
    """

    def __init__(
        self,
        network: nn.Module,
        sigma_data: float = 0.5,
        dtype: torch.dtype = torch.float32,
        recordable: bool = False,
    ) -> None:
        super().__init__(network, dtype, recordable)
        self.sigma_data = sigma_data

    def preconditioning(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        total = sigma.square() + self.sigma_data**2
        scale = total.rsqrt()
        return self.sigma_data**2 / total, sigma * self.sigma_data * scale, scale

    def condition(self, sigma: Tensor) -> Tensor:
        return sigma.log() / 4
