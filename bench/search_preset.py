"""Search the hyper-parameters of LMAPS for a prior, on crops of a folder of photographs.

    python bench/search_preset.py FOLDER [--prior NAME_OR_FILE] [--tasks TASK ...] [--steps 20]

Coordinate search from the paper's values: each hyper-parameter in turn is multiplied and divided by its factor for as
long as the mean PSNR rises. Prints one line per evaluation and, last, one `Preset(...)` per task. Tune on photographs
that no figure is made of.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

import lmaps_fast as lf
from lmaps_fast.files import image

# In the order in which they are searched. lr follows k2 so that lr * k2, the data step, is searched on its own.
FACTORS = {"sigma_max": 1.6, "k2": 2.0, "k1": 1.6, "sigma_min": 1.6, "lr": 2.0}
START = {"sigma_max": 1.0, "sigma_min": 0.03, "start": "measurement"}


def crops(folder: Path, count: int, size: int, seed: int = 0) -> torch.Tensor:
    """One random crop of each of `count` photographs, [count, 3, size, size]."""
    rng = np.random.default_rng(seed)
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in image.FORMATS)
    if len(files) < count:
        raise SystemExit(f"{folder} holds {len(files)} images: at least {count} are needed")
    out = []
    for i in rng.permutation(len(files)):
        pixels = image.read(files[i]).pixels
        height, width = pixels.shape[2:]
        if pixels.shape[1] == 3 and min(height, width) >= size:
            top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
            out.append(pixels[..., top : top + size, left : left + size])
        if len(out) == count:
            return torch.cat(out)
    raise SystemExit(f"{folder} holds too few colour photographs of at least {size}x{size}")


def search(task: str, prior: lf.denoisers.Denoiser, photos: torch.Tensor, steps: int) -> lf.Preset:
    operator = lf.operators.create(task, tuple(photos.shape[1:]), seed=3)
    y = operator.measure(photos, seed=1)
    prior_limit = 80.0  # beyond what priors of this kind are trained for

    def score(preset: lf.Preset) -> float:
        result = lf.restore(y, operator, prior, preset=preset, seed=2)
        value = lf.metrics.psnr(result, photos).mean().item()
        print(f"{task} {value:.3f} {preset}", flush=True)
        return value

    # The score falls beyond a peak in each hyper-parameter, so the first fall ends its search.
    best = lf.operators.preset(task, "paper").override(steps=steps, **START)
    best_score = score(best)
    for name, factor in FACTORS.items():
        for direction in (factor, 1 / factor):
            rose = False
            while True:
                values = {name: float(f"{getattr(best, name) * direction:.2g}")}
                if name == "k2":
                    values["lr"] = float(f"{best.lr / direction:.2g}")
                trial = best.override(**values)
                if not 2 * trial.sigma_min <= trial.sigma_max <= prior_limit:
                    break
                value = score(trial)
                if not value > best_score + 0.01:
                    break
                best, best_score, rose = trial, value, True
            if rose:
                break
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prior", default="natural")
    # The K steps of nonlinear deblurring are those of a network: a search would take days, so it is made by request.
    quick = [task for task in lf.operators.REGISTRY if task != "nonlinear_deblurring"]
    parser.add_argument("--tasks", nargs="+", default=quick)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--photos", type=int, default=6)
    parser.add_argument("--size", type=int, default=128)
    arguments = parser.parse_args()
    photos = crops(arguments.folder, arguments.photos, arguments.size)
    prior = lf.denoisers.load(arguments.prior)
    found = {task: search(task, prior, photos, arguments.steps) for task in arguments.tasks}
    for task, preset in found.items():
        print(f'    "{task}": {preset},')


if __name__ == "__main__":
    main()
