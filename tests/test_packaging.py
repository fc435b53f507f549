"""The package as it is installed: complete, without a top-level `kernels`, and usable without its extension."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(code, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_kernels_are_inside_the_package(tmp_path):
    code = "import lmaps_fast.kernels, importlib.util as u; assert u.find_spec('kernels') is None"
    result = run(code, tmp_path)
    assert result.returncode == 0, result.stderr


def test_the_package_works_without_extension_and_without_triton(tmp_path):
    ignore = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "lmaps_fast", tmp_path / "lmaps_fast", ignore=ignore)
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "import torch, lmaps_fast as lf; from lmaps_fast.apps.info import report; print(report())\n"
        "op = lf.operators.create('jpeg_restoration', (3, 24, 33))\n"
        "lf.restore(op.measure(torch.zeros(1, 3, 24, 33)), op, steps=2)"
    )
    result = run(code, tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "native extension: missing" in result.stdout
    assert "cpu: the native extension is not built" in result.stdout


def test_the_extension_does_not_link_torch_nor_a_cuda_runtime():
    from lmaps_fast import _C

    linked = subprocess.run(["ldd", _C.__file__], capture_output=True, text=True, check=True).stdout
    assert "libc.so" in linked
    for library in ("torch", "c10", "libcudart", "libcuda."):
        assert library not in linked


def test_importing_the_package_leaves_triton_alone(tmp_path):
    result = run("import lmaps_fast, sys; assert 'triton' not in sys.modules", tmp_path)
    assert result.returncode == 0, result.stderr
