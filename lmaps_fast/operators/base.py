"""What every forward operator has: A(x), the gradient of its data term, and the checks on what it is given."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.renoise import MEASUREMENT, OPERATOR, Noise


class Operator(torch.nn.Module):
    """A forward operator A for images of one shape.

    `op(x)` = A(x); `op.gradient(x, y)` = A'(x)^T (A(x) - y), or the paper's surrogate of it. An operator whose K
    gradient steps collapse also has `local_map(D, data, weights)`, with data = `op.precompute(y)`; and where that is
    one kernel, `pixel_map(data)`, which names it so that `ops.step` can fuse it with what is around it. Images are
    [B, C, H, W] in [-1, 1]; what an operator draws at random is drawn here, from its seed, and kept as buffers.
    """

    name: str = "the operator"
    noise: ClassVar[float] = 0.05  # standard deviation of the protocol's measurement noise
    channelwise: ClassVar[bool] = False  # whether `local_map` may be called on single channels of D and of its data
    runs: ClassVar[int] = 1  # how many restorations to make, of which the one that fits y best is kept

    def __init__(self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: str = "cpu") -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"shape must be (channels, height, width), not {tuple(shape)}")
        self.shape = tuple(shape)
        self.measurement_shape: tuple[int, ...] = self.shape
        self.register_buffer("_place", torch.empty(0, dtype=dtype, device=device), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        return self._place.dtype  # type: ignore[return-value]

    @property
    def device(self) -> torch.device:
        return self._place.device  # type: ignore[return-value]

    def constant(self, name: str, value: Tensor) -> None:
        """Keep a constant, rounded once from the precision it was computed in, as the buffer `name`."""
        self.register_buffer(name, value.to(self.device, self.dtype).contiguous(), persistent=False)

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """A'(x)^T (A(x) - y), [B, C, H, W]."""
        raise NotImplementedError

    def precompute(self, y: Tensor) -> Tensor:
        """What `local_map` needs of y, computed once per measurement; y itself unless an operator knows better."""
        return y

    def preview(self, y: Tensor) -> Tensor | None:
        """y as images [B, C, H, W] to put beside the restored ones; None where a measurement is no image."""
        return y if self.measurement_shape == self.shape else None

    def first_guess(self, y: Tensor) -> Tensor | None:
        """A first estimate of the image from y alone, [B, C, H, W], where there is an obvious one."""
        return self.preview(y)

    @property
    def severity(self) -> float:
        """How large the errors of a measurement without noise are relative to the protocol's."""
        return 1.0

    @classmethod
    def image_shape(cls, measured: Sequence[int], **parameters: Any) -> tuple[int, ...]:
        """The shape (C, H, W) of the image that a measurement of shape `measured` stands for."""
        return tuple(measured)

    def measure(self, x: Tensor, noise: float | None = None, seed: int = 0) -> Tensor:
        """y = A(x) + noise * eps, with eps standard normal from (seed, image). noise: the protocol's unless given."""
        self.check_image(x)
        level = self.noise if noise is None else noise
        if not level >= 0:
            raise InputError(f"noise must not be negative, not {level}")
        y = self(x)
        if level == 0:
            return y
        return Noise(MEASUREMENT, seed, range(len(y)), y.shape[1:], device=y.device).add(y, level)

    def check_image(self, x: Tensor) -> None:
        self._check(x, self.shape, "the image")

    def check_measurement(self, y: Tensor) -> None:
        self._check(y, self.measurement_shape, "the measurement")
        if not torch.isfinite(y).all():
            raise InputError("the measurement holds NaN or infinite values: mask or repair them first")

    def _check(self, tensor: Tensor, shape: tuple[int, ...], what: str) -> None:
        if tensor.dim() == 0 or tuple(tensor.shape[1:]) != shape:
            sizes = ", ".join(map(str, ("B", *shape)))
            raise InputError(f"{what} has shape {list(tensor.shape)}: {self.name} here needs [{sizes}]")
        real = tensor.real if tensor.is_complex() else tensor
        if real.dtype != self.dtype or tensor.device != self.device:
            raise InputError(
                f"{what} is {tensor.dtype} on {tensor.device} but the operator is {self.dtype} on {self.device}: "
                f"create the operator with that dtype and device"
            )


class Linear(Operator):
    """A linear operator: adds the adjoint A^T, so that the gradient is A^T (A x - y)."""

    def adjoint(self, r: Tensor) -> Tensor:
        """A^T r, [B, C, H, W]."""
        raise NotImplementedError

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return self.adjoint(self(x) - y)

    @torch.no_grad()
    def check_adjoint(self, tolerance: float = 1e-3) -> float:
        """The relative error of <A x, r> = <x, A^T r> for random x and r. Raises InputError above the tolerance."""
        x = Noise(OPERATOR, 2, [0], self.shape, self.dtype, self.device)()
        Ax = self(x) - self(torch.zeros_like(x))
        r = Noise(OPERATOR, 3, [0], Ax.shape[1:], Ax.dtype, self.device)()
        back = self.adjoint(r)
        forward, backward = (Ax * r.conj()).sum().real, (x * back).sum()
        error = ((forward - backward).abs() / (Ax.norm() * r.norm() + x.norm() * back.norm())).item()
        if not error <= tolerance:
            raise InputError(
                f"the adjoint of {self.name} does not belong to its A: <A x, r> = {forward:.6g} but <x, A^T r> = "
                f"{backward:.6g} for random x and r; correct one of the two"
            )
        return error
