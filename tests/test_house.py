"""The house: imports run one way, and every registry is complete. A failure names what is missing."""

import ast
import inspect
from pathlib import Path

import pytest
import torch
from conftest import TASKS

import lmaps_fast as lf
from lmaps_fast.operators.base import ABILITIES, Operator
from lmaps_fast.ops import REGISTRY as OPERATIONS
from lmaps_fast.ops import backends

ROOT = Path(lf.__file__).parent
# In the order in which data goes and the code is read: a module imports from its own row and those above alone.
ROWS = (
    ("errors", "weights", "levels", "noise", "memory", "presets", "door"),
    ("ops",),
    ("kernels",),
    ("files",),
    ("operators",),
    ("local_map",),
    ("denoisers",),
    ("solvers",),
    ("engine",),
    ("metrics",),
    ("race", "apps"),
)
LEAVES = ("errors", "weights", "levels", "noise")


def modules():
    """{module: what it imports of the package}, imports for type checking and inside functions included."""
    found = {}
    folders = {"lmaps_fast": ROOT, "lmaps_fast.kernels": ROOT.parent / "kernels"}
    for package, path in [(p, path) for p, folder in folders.items() for path in sorted(folder.rglob("*.py"))]:
        parts = (package, *path.relative_to(folders[package]).with_suffix("").parts)
        name = ".".join(parts).removesuffix(".__init__")
        imported = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        found[name] = {name for name in imported if name.startswith("lmaps_fast.")}
    return found


def room(module):
    return module.split(".")[1] if "." in module else ""


def row(module):
    return next((i for i, rooms in enumerate(ROWS) if room(module) in rooms), None)


def test_imports_run_one_way():
    known = modules()
    for module, imported in known.items():
        if room(module) in ("", "__main__"):
            continue
        assert row(module) is not None, f"{module} has no row in this test: say where it belongs"
        for other in imported & known.keys():
            assert row(other) <= row(module), f"{module} imports {other}, which lies below it"


def test_there_is_no_circle():
    known = modules()
    known = {
        m: {i for i in imported & known.keys() if not m.startswith(f"{i}.")} - {m} for m, imported in known.items()
    }

    def reached(start):
        seen, todo = set(), list(known[start])
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += known[module]
        return seen

    assert [module for module in known if module in reached(module)] == []


def test_leaves_import_nothing_but_errors():
    known = modules()
    for leaf in LEAVES:
        imported = {name for name in known[f"lmaps_fast.{leaf}"] if name in known}
        assert imported <= {"lmaps_fast.errors"}, leaf


def test_the_kernels_know_neither_operators_nor_solvers():
    for module, imported in modules().items():
        if room(module) == "kernels":
            assert not [name for name in imported if room(name) not in ("kernels",)], module


def test_no_file_is_long():
    code = [*ROOT.rglob("*.py"), *Path(__file__).parent.glob("*.py")]
    assert [path.name for path in code if len(path.read_text().splitlines()) > 400] == []


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_its_parts(task):
    kind = lf.operators.REGISTRY[task]
    assert issubclass(kind, Operator)
    assert kind.name == task
    assert kind.can <= ABILITIES.keys(), "its `can` names unknown abilities"
    assert {"paper", "natural"} <= kind.presets.keys(), "it lacks presets"
    assert (inspect.getmodule(kind).__doc__ or "").strip(), "its module lacks the formula"
    documented = inspect.getdoc(lf.operators.factory(task)) + (inspect.getdoc(kind) or "")
    for parameter in (*lf.operators.parameters(task), "shape", "dtype", "device"):
        assert parameter in documented.partition("Args:")[2], f"its docstring lacks {parameter}"
    operator = lf.operators.create(task, (3, 32, 32))
    assert operator.collapses or task == "nonlinear_deblurring"
    for ability, method in (("prox", "prox"), ("pinv", "pinv"), ("spectrum", "to_eigenbasis"), ("linear", "adjoint")):
        assert ability not in kind.can or hasattr(operator, method), f"it says that it can {ability}"
    x = torch.zeros(1, 3, 32, 32)
    y = operator(x)
    assert tuple(y.shape[1:]) == operator.measurement_shape
    assert lf.operators.image_shape(task, operator.measurement_shape) == operator.shape
    assert operator.gradient(x, y).shape == x.shape
    assert operator.largest_eigenvalues() is not None or task == "nonlinear_deblurring"


def test_the_largest_eigenvalue_is_that_of_the_operator(generator):
    for task in TASKS:
        operator = lf.operators.create(task, (3, 32, 40), dtype=torch.float64)
        if "linear" not in operator.can:
            continue
        x = torch.randn(1, 3, 32, 40, generator=generator, dtype=torch.float64)
        for _ in range(60):
            x = operator.adjoint(operator.linear(x / x.norm()))
        assert operator.largest_eigenvalues()[0] == pytest.approx(x.norm().item(), rel=0.02), task


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_operation_has_its_parts(name):
    operation = OPERATIONS[name]
    public = getattr(lf.ops, name)
    assert "Args:" in (public.__doc__ or ""), "its public function lacks an Args block"
    for parameter in inspect.signature(public).parameters:
        assert f"{parameter}:" in public.__doc__ or f"{parameter}," in public.__doc__, (
            f"it does not tell of {parameter}"
        )
    assert (inspect.getmodule(public).__doc__ or "").strip(), "its module lacks the formula"
    kernel = Path(__file__).parents[1] / "kernels" / f"{operation.triton_module}.py"
    assert f"def {name}(" in kernel.read_text(), "there is no Triton launcher of its name"
    assert hasattr(torch.ops.lmaps_fast, name), "it is not registered with torch"
    extension = backends.native()
    if not isinstance(extension, str):
        entry = name if hasattr(extension, f"cpu_{name}") else "pointwise"
        assert hasattr(extension, f"cpu_{entry}"), "it has no native kernel"
        assert entry != "pointwise" or hasattr(extension.Pointwise, name), "the list of pointwise kernels lacks it"


@pytest.mark.parametrize("name", lf.denoisers.__all__)
def test_what_is_exported_is_documented(name):
    value = getattr(lf.denoisers, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert (value.__doc__ or "").strip(), name


@pytest.mark.parametrize(
    "function",
    [lf.restore, lf.Restorer, lf.Restorer.__call__, lf.local_map.solve, lf.local_map.gradient_descent, lf.use_backend,
     lf.operators.create, lf.operators.stack, lf.operators.blur, lf.operators.from_callable, lf.operators.from_deepinv,
     lf.Preset, lf.local_map.Weights, Operator.measure],
    ids=lambda function: function.__qualname__,
)  # fmt: skip
def test_public_functions_tell_of_every_argument(function):
    text = (function.__doc__ or "").partition("Args:")[2]
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name != "self":
            assert parameter.name in text, f"its Args block lacks {parameter.name}"


# Of these each argument is one more of the same.
LISTS = {"Sequential", "Options", "ignore_patterns"}


def test_nobody_passes_more_than_six_arguments_by_position():
    """What Triton compiles, and its launch, have no names for pointers."""
    found = []
    for path in [*ROOT.rglob("*.py"), *(Path(__file__).parents[1] / "bench").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or isinstance(node.func, ast.Subscript):
                continue
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if len(node.args) > 6 and called not in LISTS and "kernel" not in path.name:
                found.append(f"{path.name}:{node.lineno}")
    assert found == []
