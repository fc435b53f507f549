"""What every forward operator has: A(x), the gradient of its data term, its numbers, and the checks on its input."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.utils._pytree as pytree
from torch import Tensor

from lmaps_fast import door, ops
from lmaps_fast.errors import InputError
from lmaps_fast.noise import MEASUREMENT, OPERATOR, keys
from lmaps_fast.ops import PixelMap
from lmaps_fast.presets import Preset, scaled_to
from lmaps_fast.weights import AnyWeights

Real = float  # operators have a method of that name

# What an operator may be able to do, for refusals in words.
ABILITIES = {
    "linear": "a linear A with its adjoint",
    "prox": "the proximal map of the data term",
    "pinv": "a pseudo-inverse of A",
    "spectrum": "the singular values of A",
}


@dataclass(frozen=True)
class Kind:
    """What kind of problem an operator is, apart from its numbers: hashable, and equal for operators that can share a
    batch and a CUDA graph."""

    operator: type
    fixed: tuple[tuple[str, Any], ...]
    numbers: tuple[str, ...]

    def difference(self, other: "Kind") -> str:
        """In words, what differs between two kinds that are not equal."""
        if self.operator is not other.operator:
            return f"one is a {self.operator.__name__}, another a {other.operator.__name__}"
        mine, theirs = dict(self.fixed), dict(other.fixed)
        name = next(name for name in sorted(mine.keys() | theirs.keys()) if mine.get(name) != theirs.get(name))
        return f"{name} is {mine.get(name)} in one and {theirs.get(name)} in another"


class Operator:
    """A forward operator A for images of one shape: a kind, and numbers.

    `op(x)` = A(x); `op.gradient(x, y)` = A'(x)^T (A(x) - y), or the paper's surrogate of it. An operator whose K
    gradient steps collapse also has `local_map(D, data, weights)`, with data = `op.precompute(y)`; and where that is
    one kernel, `pixel_map(data)`, which `ops.step` can fuse with what is around it.

    Images are [B, C, *spatial] in [-1, 1]. What an operator draws at random or computes from its options is kept as
    numbers: tensors with a leading axis of 1, or of B for a batch whose images differ (`operators.stack`). All else
    that it keeps is fixed and hashable. An operator is a pytree of its numbers; it can be copied, pickled and moved.
    """

    name: str = "the operator"
    noise: ClassVar[Real] = 0.05  # standard deviation of the protocol's measurement noise
    can: ClassVar[frozenset[str]] = frozenset()  # which of ABILITIES
    collapses: ClassVar[bool] = False  # whether it has `local_map`, the K-step iterate at the cost of about one step
    channelwise: ClassVar[bool] = False  # whether `local_map` may be called on single channels of D and of its data
    prepares: bool = False  # whether `prepare` gives `local_map` something else than `precompute`
    recordable: ClassVar[bool] = True  # whether its work can be recorded in a CUDA graph
    runs: ClassVar[int] = 1  # how many restorations to make, of which the one that fits y best is kept
    image_like: bool = False  # whether y looks like an image of the same shape
    presets: ClassVar[dict[str, Preset]] = {}  # of LMAPS: the paper's row, and that of the embedded prior

    def __init__(
        self, shape: Sequence[int], dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        if not 2 <= len(shape) <= 4 or min(shape) < 1:
            raise InputError(f"shape must be (channels, height, width), not {tuple(shape)}")
        if dtype not in (torch.float32, torch.float64):
            raise InputError(f"an operator computes in float32 or float64, not in {dtype}: give one of them")
        self.shape = tuple(int(n) for n in shape)
        self.measurement_shape: tuple[int, ...] = self.shape
        self.dtype, self.device = dtype, door.device_of(device)
        self._numbers: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        pytree.register_pytree_node(
            cls,
            lambda operator: (list(operator.numbers.values()), operator.kind),
            lambda numbers, kind: restored(kind, list(numbers)),
            serialized_type_name=f"{cls.__module__}.{cls.__qualname__}",
        )

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: kind and numbers, without what was worked out from them."""
        return {k: v for k, v in vars(self).items() if not k.startswith("_") or k == "_numbers"}

    def number(self, name: str, value: Tensor, dtype: torch.dtype | None = None) -> None:
        """Keep numbers, [1 or B, ...], as the attribute `name`, rounded once from the precision they were computed in
        to `dtype`, the operator's unless given."""
        wanted = dtype or (door.complex_of(self.dtype) if value.is_complex() else self.dtype)
        with torch.inference_mode(False):  # autograd takes no tensor that was made in inference mode
            value = value.clone() if value.is_inference() else value
            setattr(self, name, value.to(self.device, wanted).contiguous())
        self._numbers = (*self._numbers, name)

    @property
    def numbers(self) -> dict[str, Tensor]:
        """Its tensors by name, each with a leading axis of 1 or B."""
        return {name: getattr(self, name) for name in self._numbers}

    @property
    def kind(self) -> Kind:
        """All that it is apart from its numbers."""
        fixed = ((k, v) for k, v in vars(self).items() if k not in self._numbers and not k.startswith("_"))
        return Kind(type(self), tuple(sorted(fixed, key=lambda item: item[0])), self._numbers)

    @property
    def batch(self) -> int:
        """For how many images it holds numbers; 1: one operator for all."""
        return max((len(value) for value in self.numbers.values()), default=1)

    def with_numbers(self, numbers: dict[str, Tensor]) -> Self:
        """The same kind with other numbers."""
        other = copy.copy(self)
        for name in [name for name in vars(other) if name.startswith("_") and name != "_numbers"]:
            delattr(other, name)  # what was worked out from the old numbers
        vars(other).update(numbers)
        return other

    def image(self, n: int) -> Self:
        """The operator of image n of a batch, always the same object: it may keep what it has worked out."""
        if self.batch == 1:
            return self
        known = vars(self).setdefault("_images", {})
        if n not in known:
            known[n] = self.select(slice(n, n + 1))
        return known[n]

    def select(self, images: slice | Tensor) -> Self:
        """The operator of some images of a batch."""
        if self.batch == 1:
            return self
        return self.with_numbers({k: v if len(v) == 1 else v[images] for k, v in self.numbers.items()})

    def aligned(self, numbers: Sequence[dict[str, Tensor]]) -> Sequence[dict[str, Tensor]]:
        """The numbers of several operators of this kind, in shapes that can be stacked."""
        return numbers

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """A copy elsewhere, or in float32. Raises InputError for float64: what was rounded stays so."""
        if dtype not in (None, self.dtype, torch.float32):
            raise InputError(f"numbers rounded to {self.dtype} are not exact in {dtype}: create the operator with it")
        where, wanted = self.device if device is None else door.device_of(device), dtype or self.dtype
        types = {self.dtype: wanted, door.complex_of(self.dtype): door.complex_of(wanted)}
        keep = self.exact
        moved = {k: v.to(where, v.dtype if k in keep else types.get(v.dtype, v.dtype)) for k, v in self.numbers.items()}
        other = self.with_numbers(moved)
        other.device, other.dtype = where, wanted
        return other

    exact: ClassVar[frozenset[str]] = frozenset()  # numbers that have a type of their own, whatever the operator's

    def float(self) -> Self:
        """A copy in float32."""
        return self.to(dtype=torch.float32)

    def double(self) -> Self:
        """Itself, if it is in float64; else InputError."""
        return self.to(dtype=torch.float64)

    def __call__(self, x: Tensor) -> Tensor:
        """A(x). x: [B, C, *spatial]."""
        return self.forward(x if self.is_entered(x) else self.check_image(x))

    def forward(self, x: Tensor) -> Tensor:
        """A(x), without checks."""
        raise NotImplementedError

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """A'(x)^T (A(x) - y), like x."""
        raise NotImplementedError

    def feasible(self, y: Tensor) -> Tensor:
        """y moved to where A can come; y itself unless an operator knows better."""
        return y

    def precompute(self, y: Tensor) -> Tensor:
        """What `local_map` needs of y, computed once per measurement."""
        return self.feasible(y)

    def prepare(self, y: Tensor) -> Tensor:
        """What `local_map` needs of y where that is something else than the solvers' methods need."""
        return self.precompute(y)

    def pixel_map(self, data: Tensor) -> PixelMap | None:
        """The local MAP as one kernel, where it is one."""
        return None

    def local_map(self, D: Tensor, data: Tensor, weights: AnyWeights) -> Tensor:
        """The K-step iterate from D, of an operator that `collapses`."""
        raise NotImplementedError

    def largest_eigenvalues(self) -> list[Real] | None:
        """The largest curvature |A'|^2 of the data term, for each of its numbers' images; None where it is unknown."""
        return None

    def preview(self, y: Tensor) -> Tensor | None:
        """y as images [B, C, *spatial] to put beside the restored ones; None where a measurement is no image."""
        return y if self.image_like else None

    def first_guess(self, y: Tensor) -> Tensor | None:
        """A first estimate of the image from y alone, like an image, where there is an obvious one."""
        return self.preview(y)

    @property
    def severity(self) -> list[Real]:
        """How large the errors of a measurement without noise are relative to the protocol's, for each image."""
        return [1.0] * self.batch

    def preset(self, table: str, image: int = 0, noise: Real | None = None) -> Preset:
        """The hyper-parameters of LMAPS for one image and the noise of its measurement.

        Args:
            table: "paper", which is constant, or the table that was measured for a prior, which follows severity and
                noise.
            image: which of its images.
            noise: standard deviation, in the scale of y; None: the protocol's.

        Errors: InputError for a task or a table without a preset, and for noise where the preset is for none.
        """
        if table not in self.presets:
            known = f"one of {', '.join(self.presets)}, or " if self.presets else ""
            raise InputError(f"no preset {table!r} for {self.name}: give {known}a Preset of your own")
        if table == "paper":
            return self.presets[table]
        severity = self.severity[image if self.batch > 1 else 0]
        return scaled_to(self.presets[table], severity, noise, self.noise, self.name)

    @classmethod
    def image_shape(cls, measured: Sequence[int], **parameters: Any) -> tuple[int, ...]:
        """The shape (C, *spatial) of the image that a measurement of shape `measured` stands for."""
        return tuple(measured)

    @torch.no_grad()
    def measure(self, x: Tensor, noise: Real | Sequence[Real] | None = None, seed: int = 0) -> Tensor:
        """y = A(x) + noise eps, with eps standard normal from (seed, image).

        Args:
            x: images [B, C, *spatial] in [-1, 1].
            noise: standard deviation, not negative, for all images or one for each; default: the protocol's.
            seed: a whole number; default 0.

        Returns: measurements, [B, *measurement_shape].
        Errors: InputError for images of another shape, and outside these ranges.
        """
        y = self.forward(self.check_image(x))
        levels = [self.noise] if noise is None else [noise] if isinstance(noise, int | Real) else list(noise)
        if len(levels) not in (1, len(y)) or not all(0 <= level < math.inf for level in levels):
            raise InputError(f"noise must be finite and not negative, one number or one for each image, not {noise}")
        if not any(levels) or not len(y):
            return y
        return ops.add_normal(y, keys(MEASUREMENT, seed, range(len(y)), y.device), 0, levels)

    def is_entered(self, x: Tensor) -> bool:
        """Whether x needs no conversion at the door."""
        return (
            isinstance(x, Tensor)
            and x.dtype == self.dtype
            and x.shape[1:] == self.shape
            and x.device == self.device
            and self.batch in (1, len(x))
        )

    def check_image(self, x: Any) -> Tensor:
        """Images as the operator takes them. Raises InputError for those that it cannot take."""
        return self._enter(x, self.shape, "the image")

    def check_measurement(self, y: Any) -> Tensor:
        """Measurements as the operator takes them; on a CPU they are also looked through for NaN. Raises InputError for
        those that it cannot take."""
        y = self._enter(y, self.measurement_shape, "the measurement")
        if y.device.type == "cpu" and not torch.isfinite(y).all():
            raise InputError("the measurement holds NaN or infinite values: mask or repair them first")
        return y

    def _enter(self, value: Any, shape: tuple[int, ...], what: str) -> Tensor:
        tensor = door.as_tensor(value, what)
        if tensor.dim() == 0 or tuple(tensor.shape[1:]) != shape:
            sizes = ", ".join(map(str, ("B", *shape)))
            raise InputError(f"{what} has shape {list(tensor.shape)}: {self.name} here needs [{sizes}]")
        if self.batch not in (1, len(tensor)):
            raise InputError(
                f"{what} is a batch of {len(tensor)} but {self.name} holds numbers for {self.batch} images: give as "
                f"many, or one operator for all"
            )
        return door.floating(tensor, what, self.dtype, self.device)


def restored(kind: Kind, numbers: Sequence[Any]) -> Operator:
    """The operator of a kind and its numbers, in the order of `kind.numbers`."""
    operator: Operator = object.__new__(kind.operator)
    vars(operator).update(kind.fixed)
    vars(operator).update(zip(kind.numbers, numbers, strict=True))
    operator._numbers = kind.numbers
    return operator


def stack(operators: Sequence[Operator]) -> Operator:
    """One operator for a batch, whose image n has the numbers of operators[n].

    Args:
        operators: of one kind: equal in task, shape, options, dtype and device, whatever their masks, kernels, tables
            or gains.

    Returns: an operator of the same kind, for as many images.
    Errors: InputError that names what differs, for operators of different kinds.
    """
    if not operators:
        raise InputError("there are no operators to stack: give one for each image")
    first = operators[0]
    for other in operators[1:]:
        if other.kind != first.kind:
            raise InputError(
                f"operators of different kinds cannot share a batch: {first.kind.difference(other.kind)}; restore "
                f"them one after the other"
            )
    whole = [{k: v.expand(operator.batch, *v.shape[1:]) for k, v in operator.numbers.items()} for operator in operators]
    aligned = first.aligned(whole)
    for name in first.numbers:
        shapes = {tuple(numbers[name].shape[1:]) for numbers in aligned}
        if len(shapes) > 1:
            a, b = sorted(shapes)[:2]
            raise InputError(f"operators of different sizes cannot share a batch: {name} is {list(a)} and {list(b)}")
    return first.with_numbers({name: torch.cat([numbers[name] for numbers in aligned]) for name in first.numbers})


class Linear(Operator):
    """A linear operator, or an affine one: A(x) = linear(x) + a constant, which solvers leave to `forward`."""

    can = frozenset({"linear"})

    def linear(self, x: Tensor) -> Tensor:
        """A without its constant part, so that directions can be mapped; A itself unless an operator is affine."""
        return self.forward(x)

    def adjoint(self, r: Tensor) -> Tensor:
        """A^T r, images [B, C, *spatial]."""
        raise NotImplementedError

    def gradient(self, x: Tensor, y: Tensor) -> Tensor:
        return self.adjoint(self.forward(x) - y)

    @torch.no_grad()
    def check_adjoint(self, tolerance: float = 1e-3) -> float:
        """Compare <A x, r> with <x, A^T r> for random x and r.

        Args:
            tolerance: the relative error that is let pass; default 1e-3.

        Returns: the relative error.
        Errors: InputError above the tolerance.
        """
        x = ops.normal(keys(OPERATOR, 2, [0] * self.batch, self.device), self.shape, dtype=self.dtype)
        Ax = self.linear(x)
        r = ops.normal(keys(OPERATOR, 3, [0] * self.batch, self.device), Ax.shape[1:], dtype=Ax.dtype)
        back = self.adjoint(r)
        forward, backward = (Ax * r.conj()).sum().real, (x * back).sum()
        error = ((forward - backward).abs() / (Ax.norm() * r.norm() + x.norm() * back.norm())).item()
        if not error <= tolerance:
            raise InputError(
                f"the adjoint of {self.name} does not belong to its A: <A x, r> = {forward:.6g} but <x, A^T r> = "
                f"{backward:.6g} for random x and r; correct one of the two"
            )
        return error
