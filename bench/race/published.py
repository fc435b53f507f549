"""Operators in the form of the public implementations, for comparison only: K separate steps through autograd."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.operators import Operator
from lmaps_fast.operators.convolution import reflect_matrix, trim
from lmaps_fast.operators.denoising import Denoising
from lmaps_fast.operators.high_dynamic_range import HighDynamicRange
from lmaps_fast.operators.phase_retrieval import PhaseRetrieval, centred
from lmaps_fast.operators.structures import Autograd, Diagonal, Fourier, Kronecker, ReflectBlur
from lmaps_fast.presets import Preset

RADIUS = 30  # of the public code's kernels, 61x61 with zeros around what is smaller

Map = Callable[[Tensor], Tensor]


class Published(Autograd):
    """The A of another operator in another form, with its name, noise, shapes and presets; the gradient by autograd."""

    def __init__(self, operator: Operator, A: Map) -> None:
        super().__init__(operator.shape, operator.dtype, operator.device)
        self.original, self.A = operator, A
        self.name, self.measurement_shape = operator.name, operator.measurement_shape
        self.noise, self.runs = operator.noise, operator.runs  # type: ignore[misc]

    def forward(self, x: Tensor) -> Tensor:
        return self.A(x)

    def preview(self, y: Tensor) -> Tensor | None:
        return self.original.preview(y)

    def first_guess(self, y: Tensor) -> Tensor | None:
        return self.original.first_guess(y)

    def preset(self, table: str, image: int = 0, noise: float | None = None) -> Preset:
        return self.original.preset(table, image, noise)


def as_published(operator: Operator) -> Operator | None:
    """A twin of `operator` with the cost structure of the public code; same A to rounding, no collapsed form.

    The kernel, mask or weights are those of `operator` itself. Blur: one dense depthwise convolution of at least 61x61
    taps (where the image has room for its padding); super-resolution: taps gathered, weighted and summed, one axis
    after the other; inpainting: a product; phase retrieval: padding, FFT, magnitude. HDR: a clip, whose gradient is
    that of our operator with surrogate="autograd", whatever its own surrogate.

    None where the public code does what the reference does: JPEG and quantization, whose Jacobian is taken to be the
    identity, nonlinear deblurring, a network that needs autograd anyway, and operators of a user's own. Raises
    InputError for an operator with numbers for several images.
    """
    if operator.batch > 1:
        raise InputError(f"the public code has one operator for all images, not {operator.batch}: give one of them")
    A = form(operator)
    return None if A is None else Published(operator, A)


def form(operator: Operator) -> Map | None:
    """The public form of A, closed over the numbers of the operator."""
    if isinstance(operator, Denoising):
        return lambda x: x
    if isinstance(operator, Diagonal):
        return lambda x: x * operator.mask
    if isinstance(operator, HighDynamicRange):
        gain = operator.parameters[0, 0].item()
        return lambda x: torch.clip(x * gain, -1, 1)
    if isinstance(operator, PhaseRetrieval):
        return magnitude(*operator.margin)
    if isinstance(operator, Fourier):
        return convolution(operator, circular_kernel(operator), "circular")
    if isinstance(operator, ReflectBlur):
        return convolution(operator, reflect_kernel(operator), "reflect")
    if isinstance(operator, Kronecker):
        if operator.factors is None and operator.complex:
            return None
        rows, columns = matrices(operator)
        factors = [blur_factor(G) for G in (rows, columns)]
        if factors[0] is not None and factors[1] is not None:
            return convolution(operator, torch.outer(factors[0], factors[1]), "reflect")
        return resizer(rows, columns)
    return None


def magnitude(top: int, left: int) -> Map:
    """|F(pad(x / 2 + 1/2))|, the whole complex spectrum of the padded image."""
    return lambda x: centred(torch.fft.fft2, F.pad(x / 2 + 0.5, (left, left, top, top))).abs()


def convolution(operator: Operator, kernel: Tensor, mode: str) -> Map:
    """Depthwise correlation with a dense kernel [h, w] after padding."""
    noise = 64 * torch.finfo(operator.dtype).eps * kernel.abs().max()  # of what the kernel was computed from
    kernel = trim(torch.where(kernel.abs() > noise, kernel, 0))
    radii = [side // 2 for side in kernel.shape]
    room = [max(r, min(RADIUS, n - 1)) for r, n in zip(radii, operator.shape[1:], strict=True)]
    rim_h, rim_w = (r - used for r, used in zip(room, radii, strict=True))
    kernel = F.pad(kernel, (rim_w, rim_w, rim_h, rim_h)).to(operator.device, operator.dtype)
    channels, (r_h, r_w) = operator.shape[0], room
    weight = kernel.expand(channels, 1, *kernel.shape).contiguous()
    return lambda x: F.conv2d(F.pad(x, (r_w, r_w, r_h, r_h), mode=mode), weight, groups=channels)


def circular_kernel(operator: Fourier) -> Tensor:
    """The kernel, float64, with the largest odd sides that fit the image."""
    radii = [(n - 1) // 2 for n in operator.shape[1:]]
    whole = torch.fft.irfft2(operator.transfer[0, 0].conj().to("cpu", torch.complex128), s=operator.shape[1:])
    return whole.roll(radii, (0, 1))[: 2 * radii[0] + 1, : 2 * radii[1] + 1]


def reflect_kernel(operator: ReflectBlur) -> Tensor:
    """The kernel, float64."""
    height, width = (2 * r + 1 for r in operator.radius)
    transfer = operator.transfer[0, 0].conj().to("cpu", torch.complex128)
    return torch.fft.irfft2(transfer, s=operator.size)[:height, :width]


def blur_factor(G: Tensor) -> Tensor | None:
    """The kernel k of odd length, float64, with reflect_matrix(k, n) = G [n, n]; None if G is no such matrix.

    The first two rows determine k, from the middle outwards; the middle row adds what no mirror has touched.
    """
    n = G.shape[1]
    if G.shape[0] != n:
        return None
    tolerance = 64 * torch.finfo(G.dtype).eps * G.abs().max().item()
    G = G.double().cpu()
    taps = torch.arange(1 - n, n)
    rows = torch.tensor(sorted({0, min(1, n - 1), n // 2}))
    source = (n - 1) - ((n - 1) - (rows[:, None] + taps).abs()).abs()
    system = F.one_hot(source, n).mT.double().flatten(0, 1)
    kernel = torch.linalg.lstsq(system, G[rows].flatten()[:, None], driver="gelsd").solution[:, 0]
    return kernel if torch.allclose(reflect_matrix(kernel, n), G, rtol=0, atol=tolerance) else None


def matrices(operator: Kronecker) -> tuple[Tensor, Tensor]:
    """G_h and G_w, whole."""
    if operator.factors is None:
        return operator.rows[0, 0], operator.columns[0, 0]
    each = zip(operator.factors, (operator.taps_h, operator.taps_w), operator.shape[1:], strict=True)
    G_h, G_w = (factor.make(taps[0].cpu(), n).to(operator.device, operator.dtype) for factor, taps, n in each)
    return G_h, G_w


def resizer(rows: Tensor, columns: Tensor) -> Map:
    """y = rows x columns^T, each axis by gathering the taps of every output sample and summing them by weight."""
    (row_taps, row_weights), (column_taps, column_weights) = gather(rows), gather(columns)

    def A(x: Tensor) -> Tensor:
        x = (x[..., row_taps, :] * row_weights[..., None]).sum(-2)
        return (x[..., column_taps] * column_weights).sum(-1)

    return A


def gather(G: Tensor) -> tuple[Tensor, Tensor]:
    """Indices and weights [outputs, taps] of the entries of a matrix that are not 0, as many as its fullest row has."""
    taps = (G != 0).sum(1).max().item()
    places = G.abs().topk(int(taps), dim=1).indices.sort(1).values
    return places, G.gather(1, places)
