"""Hands the native build to CMake; everything else is in pyproject.toml."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
# Where the kernels were asked for, and in continuous integration, a machine that cannot build them is an error.
REQUIRED = os.environ.get("LMAPS_FAST_CUDA") == "1" or os.environ.get("CI") == "true"


class CMakeBuild(build_ext):
    """Configures afresh on each call: a cache kept from an isolated build names a ninja that is gone."""

    def build_extension(self, ext: Extension) -> None:
        # CMake is the judge of compilers, and says itself what it misses. What then does not compile is an error.
        build = (Path(self.build_temp) / "cmake").resolve()
        if not ((REQUIRED or shutil.which("cmake")) and self.configure(build)):
            print("lmaps_fast: no C++ compiler, installed without native kernels: everything runs in PyTorch")
            return
        subprocess.run(["cmake", "--build", str(build)], check=True)
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(next(build.glob("_C.*so")), target)

    def configure(self, build: Path) -> bool:
        """Whether a build for this machine can be made."""
        import pybind11

        shutil.rmtree(build, ignore_errors=True)
        configure = [
            "cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DLMAPS_FAST_CUDA={os.environ.get('LMAPS_FAST_CUDA', 'auto')}",
            *os.environ.get("CMAKE_ARGS", "").split(),
        ]  # fmt: skip
        return subprocess.run(configure, check=REQUIRED).returncode == 0


setup(ext_modules=[Extension("lmaps_fast._C", sources=[], optional=not REQUIRED)], cmdclass={"build_ext": CMakeBuild})
