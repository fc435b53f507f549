"""The race: every contender restores the same measurements of the same photographs, in turn, in one process."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lmaps_fast import local_map, metrics
from lmaps_fast.denoisers import Denoiser
from lmaps_fast.errors import InputError
from lmaps_fast.operators import Operator
from lmaps_fast.race.contenders import Contender
from lmaps_fast.race.meter import Counts, Metered, counted, now
from lmaps_fast.race.published import as_published

QUICK = 10.0  # seconds: what takes longer is run once
PARITY_SIGMAS = (3.0, 0.3, 0.03)
# Of the relative error in the 2-norm: rounding; a quantizer's index may flip in float32; polynomials, and the tiles of
# large separable operators, have a tolerance.
TOLERANCE, FLIPS, CUT = 1e-5, 1e-2, 1e-3
TOLERANCES = {"jpeg_restoration": FLIPS, "quantization": FLIPS, "motion_deblurring": CUT, "phase_retrieval": CUT}


@dataclass(frozen=True)
class Result:
    """One restoration of one photograph. share: what part of its steps was run; below 1 the seconds and counts are
    those of the part divided by it, and there is no image to judge. network_seconds includes gradients."""

    task: str
    solver: str
    form: str
    name: str
    photograph: int
    round: int
    share: float
    seconds: float
    network_seconds: float
    network_calls: float
    gradient_calls: float
    operator_calls: float
    psnr: float | None = None
    ssim: float | None = None
    lpips: float | None = None


def parity(operator: Operator, x: Tensor, y: Tensor) -> str | None:
    """Whether the forms of one local MAP agree on the operator, at three noise levels: None, or what differs."""
    tiled = getattr(operator, "factors", None) is not None
    tolerance = CUT if tiled else TOLERANCES.get(operator.name, TOLERANCE)
    twin = as_published(operator)
    collapsed = local_map.Problem(operator, y)
    for sigma in PARITY_SIGMAS:
        weights = operator.preset("paper").weights(sigma)
        weights = dataclasses.replace(weights, steps=min(weights.steps, 20))
        loop = local_map.gradient_descent(operator, x, y, weights)
        others = {"collapsed": collapsed(x, weights)}
        if twin is not None and operator.name != "high_dynamic_range":  # there the public derivative is another one
            others["as published"] = local_map.gradient_descent(twin, x, y, weights)
        for form, other in others.items():
            error = ((other - loop).norm() / loop.norm()).item()
            if not error <= tolerance:
                return f"{operator.name}: the local MAP {form} is off the loop by {error:.1e} at sigma {sigma:g}"
    return None


def restore_once(
    contender: Contender, operator: Operator, denoiser: Denoiser, y: Tensor, seed: int, longest: float
) -> tuple[Tensor | None, float, float, Counts]:
    """x_hat or None, the share that was run, the seconds of that share, and its counts."""
    counts, device = Counts(), operator.device
    run = contender.build(counted(contender.operator(operator), counts), Metered(denoiser, counts))
    counts.reset()  # what building it took is no part of a restoration
    start = now(device)
    x_hat, share = run(y, seed, longest)
    seconds = now(device) - start
    if device.type == "cuda" and share == 1:  # what is counted waits for the GPU at each call: once more without
        run = contender.build(contender.operator(operator), denoiser)
        run(y, seed, longest)
        start = now(device)
        run(y, seed, longest)
        seconds = now(device) - start
    return x_hat, share, seconds, counts


def warm_up(denoiser: Denoiser, operator: Operator) -> None:
    """One call of the network and one with its gradient, so that nobody pays for the first."""
    x = torch.zeros(1, *operator.shape, device=operator.device, requires_grad=True)
    with torch.no_grad():
        denoiser(x, 1.0)
    D = denoiser(x, 1.0)
    if D.requires_grad:
        torch.autograd.grad(D.sum(), x)


def race(
    entered: Sequence[Contender],
    operator: Operator,
    denoiser: Denoiser,
    photographs: Sequence[Tensor],
    *,
    rounds: int = 3,
    longest: float = 120.0,
    seed: int = 0,
    lpips: str | None = None,
    say: Callable[[str], object] = print,
) -> Iterator[Result]:
    """Each contender on each photograph, [1, C, H, W] in [-1, 1], in turn; those of less than 10 s `rounds` times.

    A restoration is stopped after `longest` seconds, at the end of its step. lpips: the variant, or None for without.
    say: is told who failed, which ends no race.
    """
    warm_up(denoiser, operator)
    slow: set[str] = set()
    for number, x in enumerate(photographs):
        y = operator.measure(x, seed=seed)
        for turn in range(rounds):
            for contender in entered:
                if turn and contender.name in slow:
                    continue
                try:
                    x_hat, share, seconds, counts = restore_once(contender, operator, denoiser, y, seed, longest)
                except InputError as error:
                    say(f"{operator.name}, {contender.name}: {error}")
                    slow.add(contender.name)
                    continue
                if seconds > QUICK:
                    slow.add(contender.name)
                quality = {} if x_hat is None else judge(x_hat, x, lpips)
                yield Result(
                    task=operator.name,
                    solver=contender.solver,
                    form=contender.form,
                    name=contender.name,
                    photograph=number,
                    round=turn,
                    share=share,
                    seconds=seconds / share,
                    network_seconds=counts.network_seconds / share,
                    network_calls=counts.network_calls / share,
                    gradient_calls=counts.gradient_calls / share,
                    operator_calls=counts.operator_calls / share,
                    **quality,
                )


def judge(x_hat: Tensor, x: Tensor, lpips: str | None) -> dict[str, float]:
    quality = {"psnr": metrics.psnr(x_hat, x).item(), "ssim": metrics.ssim(x_hat, x).item()}
    if lpips:
        quality["lpips"] = metrics.lpips(x_hat, x, lpips).item()
    return quality
