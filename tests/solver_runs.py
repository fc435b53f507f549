"""What tests of solvers share: a solver's run from its settings, one of its levels, and the draws that it makes."""

import math

import torch

import lmaps_fast as lf
from lmaps_fast import noise, ops
from lmaps_fast.engine.schedule import Schedule
from lmaps_fast.engine.trajectory import sample
from lmaps_fast.local_map import Problem
from lmaps_fast.solvers import REGISTRY


def run(name, operator, denoiser, settings, y, images=None, seed=0):
    """The restored images of a solver with these settings."""
    keys = noise.keys(noise.SAMPLER, seed, range(len(y)) if images is None else images)
    solver = REGISTRY[name](operator, denoiser)
    solver.check(operator, settings)
    with torch.no_grad():
        return sample(solver, Problem(operator, y), Schedule(solver, operator, [settings]), keys)


def level_of(solver, operator, settings, index, like, images=None, seed=0):
    """The level of step `index` for images like these."""
    keys = noise.keys(noise.SAMPLER, seed, range(len(like)) if images is None else images)
    return Schedule(solver, operator, [settings]).level(index, keys, like)


class Draws:
    """The standard normal draws of some images: one after the other, or by their number."""

    def __init__(self, images, shape, seed=0, dtype=torch.float64):
        self.keys, self.shape, self.dtype = noise.keys(noise.SAMPLER, seed, images), shape, dtype
        self.number = 0

    def at(self, number):
        return ops.normal(self.keys, self.shape, number, self.dtype)

    def __call__(self):
        self.number += 1
        return self.at(self.number - 1)


def gaussian_prior(shape, scale=0.1):
    n, generator = math.prod(shape), torch.Generator().manual_seed(0)
    factor = torch.randn(n, n, generator=generator, dtype=torch.float64) / n**0.5
    mean = 0.1 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return lf.denoisers.Gaussian(mean, scale * factor @ factor.T + 0.01 * torch.eye(n, dtype=torch.float64))
