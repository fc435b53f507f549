"""Where and when a figure was measured: what stands beside it in a table or a JSON file."""

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from lmaps_fast.ops import backends


def describe() -> dict[str, str | int | float | None]:
    """Processor, cores this process may use, torch's threads, the kernels' instruction set, GPU, versions, load, git
    revision ("-dirty": with uncommitted changes), UTC date and command line. None: not known here.

    load is the machine's load average over the last minute, in processes: call this before measuring, and distrust
    times where it was not near 0.
    """
    extension = backends.native()
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "instructions": None if isinstance(extension, str) else extension.isa(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lmaps_fast": _version("lmaps_fast"),
        "backend": backends.requested(),
        "revision": _revision(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
    }


def line(machine: dict[str, str | int | float | None]) -> str:
    """The most telling of `describe`, for a person."""
    device = machine["gpu"] or machine["processor"] or machine["architecture"]
    return (
        f"{device}, {machine['threads']} threads of {machine['cores']} cores, load {machine['load']}, "
        f"torch {machine['torch']}, revision {machine['revision']}, {machine['date']}"
    )


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.processor() or None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _revision() -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():  # installed: the repository around site-packages, if any, is another one
        return None
    try:
        git = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
