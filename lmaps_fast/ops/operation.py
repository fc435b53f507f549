"""One registration for each operation: its PyTorch form, its checks, its kernels and its gradient, with torch.library.

So the operations trace under torch.compile(fullgraph=True), have gradients and pass opcheck. torch's dispatcher chooses
between the CPU and the CUDA kernel of torch.ops.lmaps_fast.<name>; Triton has an operation of its own.
"""

import functools
import inspect
import os
import typing
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from lmaps_fast.errors import InputError
from lmaps_fast.ops import backends, checks
from lmaps_fast.weights import COLUMNS

NAMESPACE = "lmaps_fast"
LIBRARY = torch.library.Library(NAMESPACE, "FRAGMENT")
REGISTRY: dict[str, "Operation"] = {}


class Operation:
    """A leaf operation, called with the backend that is asked for and the arguments of its PyTorch form.

    form: the operation in PyTorch, which is the reference of its kernels; its annotations are the schema. fits: raises
    InputError for arguments that a kernel cannot take. native: the call of the C++ kernels, for tensors of a CPU and of
    a GPU. triton: the module of lmaps_fast.kernels with a launcher of the same name. weighted: the last two arguments
    are the values of a `WeightTable` and its largest K, which `fits` does not get. gradient: (arguments, gradient of
    the result) -> the gradients with respect to the first two arguments; a constant has none. overwrites: how many of
    the first arguments are overwritten.
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
        overwrites: int = 0,
    ) -> None:
        self.name, self.form, self.fits, self.native = name, form, fits, native
        self.weighted, self.overwrites = weighted, overwrites
        self.triton_module, self.gradient = triton, gradient
        self.parameters = list(inspect.signature(form).parameters)
        mutated = self.parameters[:overwrites]
        schema = torch.library.infer_schema(prototype(form), mutates_args=mutated)
        LIBRARY.define(name + schema, tags=torch.Tag.pt2_compliant_tag)
        LIBRARY.impl(name, self._kernel, "CompositeExplicitAutograd")
        self._complete(f"{NAMESPACE}::{name}")
        self.operator = getattr(getattr(torch.ops, NAMESPACE), name).default
        self.triton: Any = self._launch_triton
        # Under the interpreter a launcher is no operation that could be traced: it runs as it is.
        if os.environ.get("TRITON_INTERPRET") != "1" and backends.unavailable("triton", "cuda") is None:
            launch = functools.wraps(form)(lambda *arguments: self._launch_triton(*arguments))
            named = f"{NAMESPACE}::{name}_triton"
            self.triton = torch.library.triton_op(named, launch, mutates_args=mutated, schema=schema)
            self._complete(self.triton)
        REGISTRY[name] = self

    def __call__(self, backend: str | None, *arguments: Any) -> Any:
        name = backends.choose(backend, arguments[0].device.type)
        if name not in ("torch", "triton"):
            return self.operator(*arguments)
        if self.overwrites and not torch.compiler.is_compiling():  # where tensors have no addresses
            self._apart(arguments)
        return self._portable(*arguments) if name == "torch" else self.triton(*arguments)

    def check(self, *arguments: Any) -> None:
        """Raise InputError for arguments that do not fit together."""
        if self.weighted:
            self.fits(*arguments[:-2])
            checks.rows("weights", arguments[-2], (len(COLUMNS),), arguments[0])
        else:
            self.fits(*arguments)

    def _complete(self, operator: Any) -> None:
        torch.library.register_fake(operator, self._fake)
        if self.gradient is not None:
            torch.library.register_autograd(operator, self._backward, setup_context=self._keep)

    def _portable(self, *arguments: Any) -> Any:
        self.check(*arguments)
        if self.gradient is not None and self._wants_gradient(arguments):
            return Portable.apply(self.name, *arguments)
        return self.form(*arguments)

    def _kernel(self, *arguments: Any) -> Any:
        """What torch's dispatcher runs on tensors of any device: the C++ kernel, or the form where there is none."""
        self.check(*arguments)
        device = arguments[0].device.type
        run = self.form if backends.unavailable(device, device) else self.native
        if not self.overwrites:
            return run(*arguments)
        self._apart(arguments)
        run(*arguments)
        for tensor in arguments[: self.overwrites]:
            if not tensor.is_inference():
                torch.autograd.graph.increment_version(tensor)  # so that autograd sees what kernels overwrite

    def _launch_triton(self, *arguments: Any) -> Any:
        self.check(*arguments)
        return getattr(import_module(f"lmaps_fast.kernels.{self.triton_module}"), self.name)(*arguments)

    def _fake(self, *arguments: Any) -> Any:
        self.check(*arguments)
        return None if self.overwrites else torch.empty_like(arguments[0])

    def _apart(self, arguments: Sequence[Any]) -> None:
        checks.apart(dict(zip(self.parameters, arguments[: self.overwrites], strict=False)))

    def _wants_gradient(self, arguments: Sequence[Any]) -> bool:
        """Whether a result that autograd follows is asked for. Raises InputError where it is one that is not known."""
        wanted = [isinstance(value, Tensor) and value.requires_grad for value in arguments]
        if torch.is_grad_enabled() and any(wanted[2:]):
            constant = self.parameters[wanted.index(True, 2)]
            raise InputError(f"{self.name} has no gradient with respect to {constant}: detach it")
        return torch.is_grad_enabled() and any(wanted)

    def _keep(self, ctx: Any, inputs: tuple, output: Any) -> None:
        with torch.enable_grad():
            self._wants_gradient(inputs)
        ctx.save_for_backward(*(value for value in inputs if isinstance(value, Tensor)))
        ctx.inputs = [None if isinstance(value, Tensor) else value for value in inputs]

    def _backward(self, ctx: Any, grad: Tensor) -> tuple:
        saved = iter(ctx.saved_tensors)
        arguments = [next(saved) if value is None else value for value in ctx.inputs]
        assert self.gradient is not None
        return *self.gradient(arguments, grad), *[None] * (len(arguments) - 2)


def prototype(form: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the signature of the form, in the spelling of lists that torch has known since 2.6."""

    def function() -> None: ...

    signature = inspect.signature(form)
    spelled = []
    for parameter in signature.parameters.values():
        if typing.get_origin(parameter.annotation) is list:
            (kind,) = typing.get_args(parameter.annotation)
            parameter = parameter.replace(annotation=typing.Sequence[kind])  # type: ignore[valid-type]
        spelled.append(parameter)
    function.__signature__ = signature.replace(parameters=spelled)  # type: ignore[attr-defined]
    return function


class Portable(torch.autograd.Function):
    """The PyTorch form of an operation, with the gradient of the operation: that of its surrogate where it has one."""

    @staticmethod
    def forward(name: str, *arguments: Any) -> Tensor:
        return REGISTRY[name].form(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.name = inputs[0]
        REGISTRY[ctx.name]._keep(ctx, inputs[1:], output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple:
        return None, *REGISTRY[ctx.name]._backward(ctx, grad)
