"""The package as it is installed: complete, without a top-level `kernels`, and usable without its extension."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Where each part of the package lies in the sources.
PARTS = {"lmaps_fast": "lmaps_fast", "kernels": "lmaps_fast/kernels", "bench/race": "lmaps_fast/race"}
DATA = ("lmaps_fast/py.typed", "lmaps_fast/denoisers/natural.safetensors", "lmaps_fast/denoisers/natural.md")


def run(arguments, cwd, **environment):
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "LMAPS_FAST_CUDA")}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=kept | environment, capture_output=True, text=True, check=False
    )


def python_files(folder):
    return {path.relative_to(ROOT / folder) for path in (ROOT / folder).rglob("*.py")}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A source distribution, and the wheel that it gives where there is no CMake: the files of both, and what pip would
    have shown."""
    folder = tmp_path_factory.mktemp("build")
    ignore = shutil.ignore_patterns("*.so", "__pycache__", ".*", "build", "dist", "demo", "*.egg-info")
    shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=ignore)
    for link in (folder / "tree" / "lmaps_fast").iterdir():  # of a working tree that runs without being installed
        if link.is_symlink():
            link.unlink()
    result = run(["setup.py", "-q", "sdist", "-d", str(folder)], folder / "tree")
    assert result.returncode == 0, result.stderr
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    (folder / "empty").mkdir()
    result = run(["setup.py", "bdist_wheel", "-d", str(folder)], source, PATH=str(folder / "empty"))
    assert result.returncode == 0, result.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder / "installed")
    return source, folder / "installed", result.stdout


def test_the_source_distribution_is_whole(built):
    source, _, _ = built
    for path in ("CMakeLists.txt", "setup.py", "csrc/module.cpp", "csrc/core/step.h", "csrc/cuda/step.cu", *DATA):
        assert (source / path).is_file(), path
    for folder in (*PARTS, "bench", "tests"):
        assert {path for path in python_files(folder) if not (source / folder / path).is_file()} == set()


def test_the_wheel_holds_every_module_and_its_data(built):
    _, installed, _ = built
    for folder, package in PARTS.items():
        assert {path for path in python_files(folder) if not (installed / package / path).is_file()} == set()
    assert all((installed / path).is_file() for path in DATA)
    assert [path.name for path in installed.iterdir() if "dist-info" not in path.name] == ["lmaps_fast"]
    (entry_points,) = installed.glob("*.dist-info/entry_points.txt")
    assert "lmaps-fast = lmaps_fast.apps.cli:main" in entry_points.read_text()


def test_without_a_compiler_and_without_triton_everything_runs_in_pytorch(built, tmp_path):
    _, installed, printed = built
    assert "no C++ compiler, installed without native kernels: everything runs in PyTorch" in printed
    assert not list(installed.rglob("*.so"))
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        "import torch, lmaps_fast as lf; from lmaps_fast.apps.info import report; print(lf.__file__, report())\n"
        "op = lf.operators.create('jpeg_restoration', (3, 24, 33))\n"
        "lf.restore(op.measure(torch.zeros(1, 3, 24, 33)), op, steps=2)"
    )
    result = run(["-c", code], tmp_path, PYTHONPATH=str(installed))
    assert result.returncode == 0, result.stderr
    assert str(installed) in result.stdout
    assert "native extension: missing" in result.stdout
    assert "cpu: the native extension is not built" in result.stdout


def test_the_extension_does_not_link_torch_nor_a_cuda_runtime():
    from lmaps_fast import _C

    linked = subprocess.run(["ldd", _C.__file__], capture_output=True, text=True, check=True).stdout
    assert "libc.so" in linked
    for library in ("torch", "c10", "libcudart", "libcuda."):
        assert library not in linked
