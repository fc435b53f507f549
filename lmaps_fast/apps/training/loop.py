"""The steps of a training run: crops, noise, objective, one step of the optimizer and of the moving average."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lmaps_fast.apps.evaluate import Figures, evaluate, label
from lmaps_fast.apps.training import objective
from lmaps_fast.apps.training.checkpoint import Run, Settings
from lmaps_fast.apps.training.photographs import Photographs, assemble
from lmaps_fast.denoisers import EDM
from lmaps_fast.denoisers.natural import fast_dtype
from lmaps_fast.errors import InputError

LARGE_EVERY, LARGE_FACTOR = 8, 2  # each eighth step: crops twice as high and wide, a quarter as many
EMA_DECAY = 0.999
LARGEST_GRADIENT = 1.0  # in the 2-norm; training in bfloat16 has spikes
VALIDATION_SIGMAS = (5 / 255, 25 / 255, 50 / 255, 1.0)


class Batch(NamedTuple):
    """crops, colours: of `Photographs.crops`; sigma: [B]; all on the CPU."""

    crops: Tensor
    colours: Tensor
    sigma: Tensor
    noise_seed: int


class Loop:
    """One step after the other. What a step does depends on the run's state, the seed and its number alone."""

    def __init__(
        self, run: Run, photographs: Photographs, settings: Settings, teacher: objective.Teacher | None, device: str
    ) -> None:
        self.run, self.photographs, self.settings, self.teacher = run, photographs, settings, teacher
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device)
        self.dtype = fast_dtype(self.device.type)
        self.held_out = [x.to(self.device) for x in photographs.held_out]
        self.loss, self.counted = torch.zeros((), device=self.device), 0

    @property
    def done(self) -> float:
        """The share of the planned length that is behind, 1 at its end."""
        if self.settings["steps"] is not None:
            return self.run.step / self.settings["steps"]
        return self.run.seconds / (60 * self.settings["minutes"])

    @property
    def large_batch(self) -> int:
        return max(1, self.settings["batch"] // 4)

    @property
    def images_seen(self) -> int:
        large = self.run.step // LARGE_EVERY
        return (self.run.step - large) * self.settings["batch"] + large * self.large_batch

    def batch(self, step: int) -> Batch:
        """The data of a step, on the CPU: a function of the seed and of its number."""
        rng = np.random.default_rng((self.settings["seed"], step))
        large = step % LARGE_EVERY == LARGE_EVERY - 1
        count = self.large_batch if large else self.settings["batch"]
        side = self.settings["crop"] * (LARGE_FACTOR if large else 1)
        crops, colours = self.photographs.crops(rng, count, side)
        return Batch(crops, colours, objective.draw_sigma(rng, count, large), int(rng.integers(2**63)))

    def advance(self, batch: Batch) -> None:
        """One step of the optimizer and of the moving average."""
        run = self.run
        rate = self.settings["learning_rate"] * objective.learning_rate_factor(run.step, self.done)
        for group in run.optimizer.param_groups:
            group["lr"] = rate
        x = assemble(batch.crops.to(self.device), batch.colours.to(self.device))
        sigma = batch.sigma.to(self.device)
        noise = torch.randn(x.shape, generator=self.generator.manual_seed(batch.noise_seed), device=self.device)
        y = x + sigma.view(-1, 1, 1, 1) * noise
        with self._autocast():
            D = objective.denoise(run.network, y, sigma)
            wanted = objective.target(x, y, batch.sigma, self.teacher)
        loss = objective.loss(D, wanted, sigma)
        run.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.network.parameters(), LARGEST_GRADIENT)
        run.optimizer.step()
        run.step += 1
        with torch.no_grad():
            share = 1 - min(EMA_DECAY, (1 + run.step) / (10 + run.step))
            torch._foreach_lerp_(list(run.ema.parameters()), list(run.network.parameters()), share)
            self.loss += loss
        self.counted += 1

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.dtype == torch.bfloat16)

    def validate(self) -> Figures:
        """PSNR of the moving average on held-out photographs. Raises InputError if it is no number any more."""
        with self._autocast():
            figures = evaluate(EDM(self.run.ema), self.held_out, VALIDATION_SIGMAS)
        if not all(map(math.isfinite, figures.values())):
            raise InputError(
                f"training diverged before step {self.run.step}; the last checkpoint is kept: give a lower learning "
                f"rate and another output"
            )
        return figures

    def take_loss(self) -> float:
        """The mean loss since the last call."""
        mean = self.loss.item() / max(1, self.counted)
        self.loss.zero_()
        self.counted = 0
        return mean

    def metadata(self, figures: Figures) -> dict[str, object]:
        """The header of the exported file: steps, images seen, settings, PSNR on the held-out photographs."""
        psnr = {label(sigma): round(value, 3) for sigma, value in figures.items()}
        return {
            "steps": self.run.step,
            "images_seen": self.images_seen,
            "settings": self.settings,
            "held_out_psnr": psnr,
        }
