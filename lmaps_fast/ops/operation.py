"""One registration for each operation: its PyTorch form, its checks, its kernels and its gradient, with torch.library.

So the operations trace under torch.compile(fullgraph=True), have gradients and pass opcheck. torch's dispatcher chooses
between the CPU and the CUDA kernel of torch.ops.lmaps_fast.<name>; Triton has an operation of its own.
"""

import functools
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.ops import backends, checks
from lmaps_fast.weights import COLUMNS

NAMESPACE = "lmaps_fast"
REGISTRY: dict[str, "Operation"] = {}


class Operation:
    """A leaf operation, called with the arguments of its PyTorch form and the backend that is asked for.

    form: the operation in PyTorch, which is the reference of its kernels; its annotations are the schema. fits: raises
    InputError for arguments that a kernel cannot take. native: the call of the C++ kernels, for tensors of a CPU and of
    a GPU. triton: the module of lmaps_fast.kernels with a launcher of the same name. weighted: the last two arguments
    are the values of a `WeightTable` and its largest K, which `fits` does not get. gradient: (arguments, gradient of
    the result) -> the gradients with respect to the first two arguments; a constant has none. mutates: the names of the
    arguments that are overwritten.
    """

    def __init__(
        self,
        name: str,
        form: Callable[..., Any],
        fits: Callable[..., None],
        native: Callable[..., Any],
        *,
        triton: str,
        weighted: bool = True,
        gradient: Callable[..., tuple[Tensor | None, Tensor | None]] | None = None,
        mutates: Sequence[str] = (),
    ) -> None:
        self.name, self.form, self.fits, self.native = name, form, fits, native
        self.weighted = weighted
        self.triton_module, self.gradient = triton, gradient
        self.operator = torch.library.custom_op(
            f"{NAMESPACE}::{self.name}", self._like_form(self._kernel), mutates_args=mutates
        )
        self.operator.register_fake(self._like_form(self._fake))
        if gradient is not None:
            self.operator.register_autograd(self._backward, setup_context=self._keep)
        # Under the interpreter a launcher is no operation that could be traced: it runs as it is.
        self.triton: Any = self._like_form(self._launch_triton)
        if os.environ.get("TRITON_INTERPRET") != "1" and backends.unavailable("triton", "cuda") is None:
            self.triton = torch.library.triton_op(f"{NAMESPACE}::{self.name}_triton", self.triton, mutates_args=mutates)
            self.triton.register_fake(self._like_form(self._fake))
            if gradient is not None:
                self.triton.register_autograd(self._backward, setup_context=self._keep)
        REGISTRY[self.name] = self

    def __call__(self, backend: str | None, *arguments: Any) -> Any:
        name = backends.choose(backend, arguments[0].device.type)
        if name == "torch":
            return self._portable(*arguments)
        if name == "triton":
            return self.triton(*arguments)
        return self.operator(*arguments)

    def _like_form(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function with the signature of the form, from which torch takes the schema."""

        @functools.wraps(self.form)
        def call(*arguments: Any, **named: Any) -> Any:
            return function(*arguments, **named)

        return call

    def check(self, *arguments: Any) -> None:
        self.fits(*(arguments[:-2] if self.weighted else arguments))
        if self.weighted:
            checks.rows("weights", arguments[-2], (len(COLUMNS),), arguments[0])

    def _portable(self, *arguments: Any) -> Any:
        self.check(*arguments)
        return self.form(*arguments)

    def _kernel(self, *arguments: Any) -> Any:
        """What torch's dispatcher runs on tensors of any device: the C++ kernel, or the form where there is none."""
        self.check(*arguments)
        device = arguments[0].device.type
        return (self.form if backends.unavailable(device, device) else self.native)(*arguments)

    def _launch_triton(self, *arguments: Any) -> Any:
        self.check(*arguments)
        return getattr(import_module(f"lmaps_fast.kernels.{self.triton_module}"), self.name)(*arguments)

    def _fake(self, *arguments: Any) -> Any:
        self.check(*arguments)
        return torch.empty_like(arguments[0]) if self.operator._opoverload._schema.returns else None

    def _keep(self, ctx: Any, inputs: tuple, output: Any) -> None:
        for position, value in enumerate(inputs[2:], 2):
            if isinstance(value, Tensor) and value.requires_grad:
                raise InputError(
                    f"{self.name} has gradients with respect to its images alone: detach argument {position + 1}"
                )
        tensors = [value for value in inputs if isinstance(value, Tensor)]
        ctx.save_for_backward(*tensors)
        ctx.rest = [None if isinstance(value, Tensor) else value for value in inputs]
        ctx.is_tensor = [isinstance(value, Tensor) for value in inputs]

    def _backward(self, ctx: Any, grad: Tensor) -> tuple:
        saved = iter(ctx.saved_tensors)
        pairs = zip(ctx.is_tensor, ctx.rest, strict=True)
        arguments = [next(saved) if is_tensor else value for is_tensor, value in pairs]
        assert self.gradient is not None
        first, second = self.gradient(arguments, grad)
        return first, second, *[None] * (len(arguments) - 2)
