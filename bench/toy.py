"""The toy of the paper's Appendix A as one figure: a Gaussian mixture in two dimensions, measured along one direction.

    python bench/toy.py [-o docs/toy.png] [--seed K] [--points N]

Upper row: the DDIM update with the posterior mean, the local MAP or a posterior sample, each given the measurement.
Lower row: the solvers DPS, DAPS and LMAPS, whose denoiser knows the prior alone. Under each panel the share of points
in each mode beside the exact weights. Prints the same numbers as a Markdown table.
"""

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

import lmaps_fast as lf
from lmaps_fast import ops
from lmaps_fast.denoisers import GaussianMixture
from lmaps_fast.levels import polynomial
from lmaps_fast.noise import SAMPLER, keys
from lmaps_fast.presets import Preset
from lmaps_fast.solvers import renoise
from lmaps_fast.solvers.daps import DAPSSettings
from lmaps_fast.solvers.dps import DPSSettings

SHAPE = (1, 1, 2)  # a point as an image of two pixels
A, Y, NOISE = torch.tensor([[0.8, 0.6]], dtype=torch.float64), torch.tensor([0.05], dtype=torch.float64), 0.1

# Weight, mean, standard deviations along the axes of an ellipse, and its angle in degrees. The first four agree with Y.
MODES = (
    (0.15, (-0.55, 0.72), (0.10, 0.05), 60),
    (0.25, (-0.18, 0.28), (0.08, 0.04), -30),
    (0.10, (0.22, -0.22), (0.03, 0.03), 0),
    (0.15, (0.62, -0.68), (0.12, 0.05), 20),
    (0.20, (0.60, 0.55), (0.10, 0.06), -45),
    (0.15, (-0.65, -0.45), (0.09, 0.05), 30),
)
AGREEING = 4
SIGMAS = 10.0, 0.01  # highest and lowest noise level: DPS has those of DDPM

MOST_DRAWN = 2000  # points of a panel
VARIANTS = {"mean": "posterior mean", "map": "local MAP", "sample": "posterior sample"}


@dataclass(frozen=True)
class Steps:
    """Steps of the variants and of the solvers."""

    ddim: int = 20
    dps: int = 1000
    daps: int = 100
    lmaps: int = 200


def prior() -> GaussianMixture:
    weights, means, deviations, degrees = (
        torch.tensor(column, dtype=torch.float64) for column in zip(*MODES, strict=True)
    )
    angle = degrees.deg2rad()
    axes = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    covariances = axes @ deviations.square().diag_embed() @ axes.mT
    return GaussianMixture(weights, means.view(-1, *SHAPE), covariances)


def draw_points(mixture: GaussianMixture, points: int, seed: int) -> Tensor:
    """Exact draws, [points, 1, 1, 2]: of x0 given an x of so much noise that it tells nothing."""
    x = torch.zeros(points, *SHAPE, dtype=torch.float64)
    return mixture.sample(x, 1e6, keys(SAMPLER, seed, range(points)))


def ddim(estimate: Callable[[Tensor, float, int], Tensor], draws: int, steps: int, noise: Tensor, rho: float) -> Tensor:
    """x0 = estimate(x, sigma, draw), then x = x0 + sigma_next (sqrt(1 - rho^2) (x - x0) / sigma + rho eps), from
    SIGMAS[0]. estimate may use `draws` draws from `draw`; noise: the keys of the points. Returns the last x0,
    [B, 1, 1, 2]."""
    x = SIGMAS[0] * ops.normal(noise, SHAPE, dtype=torch.float64)
    for i, (sigma, sigma_next) in enumerate(pairwise(polynomial(steps, *SIGMAS))):
        draw = 1 + i * (draws + 1)
        x0 = estimate(x, sigma, draw)
        keep, level = renoise.shares(sigma, sigma_next, rho)
        x = ops.add_normal(torch.lerp(x0, x, keep), noise, draw + draws, level)
    return x0


def variants(posterior: GaussianMixture, points: int, steps: int, seed: int, rho: float) -> dict[str, Tensor]:
    """The last x0 of the DDIM update with each of VARIANTS."""
    noise = keys(SAMPLER, seed, range(points))
    estimates = {
        "mean": (lambda x, sigma, draw: posterior(x, sigma), 0),
        "map": (lambda x, sigma, draw: posterior.local_map(x, sigma), 0),
        "sample": (lambda x, sigma, draw: posterior.sample(x, sigma, noise, draw), 2),
    }
    return {name: ddim(*estimates[name], steps, noise, rho) for name in VARIANTS}


def solvers(mixture: GaussianMixture, points: int, steps: Steps, seed: int) -> dict[str, Tensor]:
    """The last x0 of each. The weights of DAPS and LMAPS follow from the measurement's noise; the scale of DPS and the
    step size of DAPS (1e-3 or 4e-3) follow from nothing and are the best of a few."""
    operator = lf.operators.from_callable(
        lambda x: x.flatten(1) @ A.T, SHAPE, adjoint=lambda r: (r @ A).view(-1, *SHAPE), dtype=torch.float64
    )
    settings = {
        "dps": DPSSettings(steps.dps, scale=0.05),  # the best energy distance among .03, .05, .1 and .3
        "daps": DAPSSettings(steps.daps, 50, 1e-3, tau=NOISE, c=1.0, sigma_max=SIGMAS[0], sigma_min=SIGMAS[1]),
        # k1^2 / k2 = NOISE^2: the local MAP is that of the covariance sigma^2 I of x0 given x.
        "lmaps": Preset(steps.lmaps, 100, 0.1, 0.3, 0.09 / NOISE**2, sigma_max=SIGMAS[0], sigma_min=SIGMAS[1]),
    }
    y = Y.expand(points, 1).contiguous()
    return {name: lf.Restorer(operator, mixture, name, preset=preset)(y, seed) for name, preset in settings.items()}


def compute(
    points: int, seed: int = 0, steps: Steps | None = None, rho: float = 1.0
) -> tuple[GaussianMixture, dict[str, Tensor]]:
    """The exact posterior, and the clouds [points, 2] of "exact" draws from it, of VARIANTS and of the solvers."""
    steps, mixture = steps or Steps(), prior()
    posterior = mixture.posterior(A, Y, NOISE)
    clouds = {"exact": draw_points(posterior, points, seed + 1)}
    clouds |= variants(posterior, points, steps.ddim, seed, rho) | solvers(mixture, points, steps, seed)
    return posterior, {name: x.flatten(1) for name, x in clouds.items()}


@dataclass(frozen=True)
class Scores:
    """shares: of the points in each mode, [modes]; distance: energy distance to exact draws; log_density: the mean of
    the exact posterior's at the points."""

    shares: Tensor
    distance: float
    log_density: float

    @classmethod
    def of(cls, cloud: Tensor, posterior: GaussianMixture, reference: Tensor) -> "Scores":
        x = cloud.view(-1, *SHAPE)
        mode = posterior.responsibilities(x, 0.0).argmax(0)
        shares = torch.bincount(mode, minlength=len(MODES)) / len(x)
        return cls(shares, energy_distance(cloud, reference), posterior.log_density(x).mean().item())


def energy_distance(x: Tensor, z: Tensor) -> float:
    """sqrt(2 E|x - z| - E|x - x'| - E|z - z'|) of two clouds, [N, 2] and [M, 2]."""
    between, within = torch.cdist(x, z).mean(), torch.cdist(x, x).mean() + torch.cdist(z, z).mean()
    return (2 * between - within).clamp(min=0).sqrt().item()


def titles(steps: Steps, rho: float) -> dict[str, str]:
    """What each panel is called, in the order of the panels."""
    ddim = {
        name: f"DDIM update with the {what}\ngiven y (N = {steps.ddim}, rho = {rho:g})"
        for name, what in VARIANTS.items()
    }
    return ddim | {
        "dps": f"DPS\n(N = {steps.dps}, gradient of the denoiser)",
        "daps": f"DAPS\n(N = {steps.daps}, 5 calls, 50 Langevin steps)",
        "lmaps": f"LMAPS\n(N = {steps.lmaps}, 100 gradient steps, rho = 1)",
    }


def draw(
    path: Path, posterior: GaussianMixture, clouds: dict[str, Tensor], scores: dict[str, Scores], names: dict[str, str]
) -> None:
    """Six panels with the density of the posterior in grey, and under each its shares of the modes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    points, line = len(clouds["exact"]), torch.linspace(-1.05, 1.05, 211, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line).view(-1, *SHAPE)
    height = posterior.log_density(grid).view(len(line), -1).T
    figure = pyplot.figure(figsize=(10.5, 10.2), dpi=90, layout="constrained")
    cells = figure.add_gridspec(4, 3, height_ratios=[4, 1, 4, 1])
    numbers = torch.arange(AGREEING)
    for i, (name, title) in enumerate(names.items()):
        row, column = 2 * (i // 3), i % 3
        color, score = f"C{i}", scores[name]
        panel = figure.add_subplot(cells[row, column], aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
        levels = height.max() + torch.tensor([-6.0, -4, -2, 0.1], dtype=torch.float64)
        panel.contourf(line, line, height, levels, colors=("0.88", "0.78", "0.66"))
        panel.plot(line, (Y[0] - A[0, 0] * line) / A[0, 1], color="0.5", linewidth=0.8, linestyle="--")
        panel.scatter(*clouds[name][:MOST_DRAWN].T, s=1.2, color=color, linewidths=0)
        for k, (_, mean, _, _) in enumerate(MODES):
            if k < AGREEING:
                panel.annotate(str(k + 1), mean, textcoords="offset points", xytext=(18, 12))
            else:
                panel.plot(*mean, marker="x", color="0.5")
        panel.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05))
        panel.set_title(title, fontsize=10)
        text = f"energy distance {score.distance:.3f}\nmean log density {score.log_density:.2f}"
        panel.text(0.03, 0.03, text, transform=panel.transAxes, fontsize=9)
        bars = figure.add_subplot(cells[row + 1, column], ylim=(0, 0.8), yticks=())
        for offset, shares, shade in ((-0.2, posterior.weights, "0.66"), (0.2, score.shares, color)):
            drawn = bars.bar(numbers + 1 + offset, shares[:AGREEING], width=0.38, color=shade)
            bars.bar_label(drawn, fmt=lambda share: f"{100 * share:.0f}", fontsize=8)
        bars.set_xticks(numbers + 1, [f"mode {k + 1}" for k in numbers])
        bars.spines[["top", "left", "right"]].set_visible(False)
    exact = scores["exact"]
    figure.suptitle(
        "Grey: the exact posterior, down to exp(-6) of its peak. Dashed: A x = y. Crosses: modes that y rules out.\n"
        f"Bars: percent of the {points} points in each mode, beside the exact weights in grey.\n"
        f"Exact draws: energy distance {exact.distance:.3f}, mean log density {exact.log_density:.2f}",
        fontsize=10,
    )
    part = path.with_suffix(".part.png")
    figure.savefig(part)
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/toy.png"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--points", type=int, default=4000)
    parser.add_argument("--rho", type=float, default=1.0, help="share of fresh noise in the DDIM update, 0 to 1")
    arguments = parser.parse_args()
    if arguments.points < 1 or not 0 <= arguments.rho <= 1:
        raise SystemExit("give --points of at least 1 and --rho between 0 and 1")
    if importlib.util.find_spec("matplotlib") is None:
        raise SystemExit("the figure needs matplotlib: pip install matplotlib")
    steps = Steps()
    posterior, clouds = compute(arguments.points, arguments.seed, steps, arguments.rho)
    reference = draw_points(posterior, arguments.points, arguments.seed + 2).flatten(1)
    scores = {name: Scores.of(cloud, posterior, reference) for name, cloud in clouds.items()}
    print(
        "| points | "
        + " | ".join(f"mode {k + 1}" for k in range(AGREEING))
        + " | elsewhere | energy distance | mean log density |"
    )
    print("|---" * (AGREEING + 4) + "|")
    for name, score in scores.items():
        shares = [*score.shares[:AGREEING].tolist(), score.shares[AGREEING:].sum().item()]
        print(
            f"| {name} | "
            + " | ".join(f"{s:.3f}" for s in shares)
            + f" | {score.distance:.3f} | {score.log_density:.2f} |"
        )
    draw(arguments.output, posterior, clouds, scores, titles(steps, arguments.rho))


if __name__ == "__main__":
    main()
