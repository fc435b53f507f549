"""Shared by all tests: images of our own making, weights of local MAP problems, and the tolerance table."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # where cores are shared, waiting threads would take them

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton is imported

import pytest

import lmaps_fast as lf

torch.set_num_threads(2)

# Relative to the update x_K - D, in the 2-norm. In float32 what falls on a rounding boundary goes either way: up to
# three JPEG coefficients are let pass, each of at most 16x16 pixels in three channels, and as many quantized pixels.
# The polynomials of motion deblurring have a tolerance of their own. The phase of a frequency that is nearly 0 hangs on
# the last digits.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
TASK_TOLERANCE = {
    ("motion_deblurring", torch.float64): 1e-3,
    ("motion_deblurring", torch.float32): 1e-3,
    ("phase_retrieval", torch.float64): 1e-6,
    ("phase_retrieval", torch.float32): 2e-3,
    ("quantization", torch.float32): 5e-4,
}
FLIPPED_ENTRIES = {torch.float64: 0, torch.float32: 3 * 768}
QUANTIZED = ("jpeg_restoration", "quantization")

SHAPES = [(3, 37, 53), (1, 40, 48), (3, 64, 64), (1, 17, 90)]
TASKS = sorted(lf.operators.REGISTRY)
COLLAPSED = [task for task in TASKS if task != "nonlinear_deblurring"]  # whose K steps are those of a network


def random_weights(task: str, generator: torch.Generator, steps: int) -> lf.local_map.Weights:
    """Weights at random, with a step size for which the loop converges, as in the paper's table."""
    lam, k2, share = (torch.rand(3, generator=generator) * torch.tensor([0.9, 40.0, 0.9]) + 0.05).tolist()
    if task == "high_dynamic_range":
        share /= 4  # its slope is 2
    if task == "phase_retrieval":
        share /= 100  # not convex: larger steps make chaos of rounding errors
    return lf.local_map.Weights(lam=lam, k2=k2, lr=share / (lam + (1 - lam) * k2), steps=steps)


def levels_row(weights: lf.local_map.Weights, around: tuple, draw: int = 0, device: str = "cpu") -> torch.Tensor:
    """The levels of `ops.step` for all images, [1, 10]. around: skip, out, keep, noise, scale."""
    row = (weights.lam, weights.c, weights.lr, weights.steps, *around, draw)
    return torch.tensor([row], dtype=torch.float64, device=device)


def photo_like(batch: int, shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Smooth random images in [-1, 1], with some texture."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(batch, shape[0], 8, 8, generator=generator, dtype=torch.float64)
    smooth = torch.nn.functional.interpolate(coarse, shape[1:], mode="bicubic", align_corners=False)
    noise = torch.randn(batch, *shape, generator=generator, dtype=torch.float64)
    return (0.5 * smooth + 0.05 * noise).clamp(-1, 1).to(dtype)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Small images gain nothing by a second thread, which costs much where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_adm(monkeypatch):
    """The public architecture at a tenth of its width, with its key names."""
    pytest.importorskip("azula", reason="azula is optional")
    from lmaps_fast.denoisers import adm

    torch.manual_seed(0)
    build = adm.build
    monkeypatch.setattr(adm, "ARCHITECTURES", {32: "ffhq_256x256"})
    change = {"num_channels": 32, "channel_mult": (1, 2), "num_head_channels": 16, "image_size": 32}
    monkeypatch.setattr(adm, "build", lambda architecture: build(architecture, **change))
    network = adm.build("ffhq_256x256")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@contextmanager
def importable_torchvision() -> Iterator[None]:
    """The wheel of torchvision on PyPI is built for CUDA. Beside a CPU build of torch its operators do not load, and
    its import fails where it declares them; nothing here needs them."""
    register = torch.library.register_fake

    def tolerant(name, *arguments, **options):
        return (lambda f: f) if str(name).startswith("torchvision::") else register(name, *arguments, **options)

    torch.library.register_fake = tolerant
    try:
        yield
    finally:
        torch.library.register_fake = register
