"""A training run from its settings to its weights."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from tqdm import tqdm

from lmaps_fast import door
from lmaps_fast.apps.evaluate import Figures, label
from lmaps_fast.apps.training import teacher as ffdnet
from lmaps_fast.apps.training.checkpoint import Run, Settings, fresh_network
from lmaps_fast.apps.training.loop import Loop
from lmaps_fast.apps.training.photographs import SIZE_MULTIPLE, Photographs
from lmaps_fast.denoisers.natural import read_network
from lmaps_fast.errors import InputError
from lmaps_fast.files import image

CHANNELS, BLOCKS = (64, 128, 192), 2


def train(
    images: str | os.PathLike,
    out: str | os.PathLike,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    teacher: str | os.PathLike | None = None,
    start: str | os.PathLike | None = None,
    batch: int = 16,
    crop: int = 64,
    learning_rate: float = 1.2e-3,
    seed: int = 0,
    device: str = "cpu",
    channels: tuple[int, int, int] = CHANNELS,
    blocks: int = BLOCKS,
    half: bool = False,
    checkpoint_minutes: float = 5.0,
) -> Figures:
    """Train the network of "natural" on the photographs of a folder.

    The objective is EDM's (`objective`); each eighth step takes crops twice as large, a quarter as many, with large
    noise. AdamW with warm-up, a constant phase and a cosine decay over the planned length. bfloat16 where the hardware
    has it, weights in float32.

    A run of so many steps that was killed and went on ends, on a CPU and with as many threads, with the very weights of
    one that was not; a run in minutes, or on a GPU, with equally good ones.

    Args:
        images: a folder of photographs, those in the folders below included; one of them is held out.
        out: where to write the moving average of the weights, .safetensors. Beside it OUT.state holds all that the run
            depends on; if it is there, and of the same settings, the run goes on from it.
        steps: length of the run in steps; this or minutes must be given.
        minutes: length of the run in minutes, which are counted over interruptions.
        teacher: an FFDNet-colour checkpoint, ffdnet_color.pth, to learn from it as well; default: none.
        start: weights to begin from, whose widths are taken; default: random ones.
        batch: crops per step; default 16.
        crop: their side in pixels, a multiple of 8; default 64.
        learning_rate: its largest value; default .0012.
        seed: of crops, noise and initial weights; another one when you go on from weights with start; default 0.
        device: what the network trains on; default "cpu".
        channels: the three widths of the network; default 64,128,192.
        blocks: residual blocks per stage; default 2.
        half: write float16; default: float32.
        checkpoint_minutes: between writings of out and its state, which are written at the end too; default 5.

    Returns: PSNR in dB on held-out photographs, by sigma on [0, 1].
    Errors: InputError for settings out of range, a folder with fewer than two photographs of the crop's size, weights,
    teacher or state that are damaged, hostile or of another network, a full disk (the last checkpoint survives) and a
    run that diverges.
    """
    path, state = Path(out), Path(f"{out}.state")
    _check(steps, minutes, batch, crop, learning_rate, channels=channels, blocks=blocks)
    image.check_output(path, (".safetensors",))
    door.device_of(device)
    taught_by = None if teacher is None else ffdnet.load(teacher, device)
    torch.manual_seed(seed)
    network = fresh_network(channels, blocks) if start is None else read_network(start)
    photographs = Photographs(images, crop)
    settings: Settings = {
        "steps": steps,
        "minutes": minutes,
        "batch": batch,
        "crop": crop,
        "learning_rate": learning_rate,
        "seed": seed,
        "teacher": None if teacher is None else str(teacher),
        "start": None if start is None else str(start),
        "channels": list(channels) if start is None else None,
        "blocks": blocks if start is None else None,
        "photographs": photographs.digest,
    }
    run = Run(network, learning_rate, device)
    if state.exists():
        run.resume(state, settings)
        tqdm.write(f"{state}: going on from step {run.step}")
    loop = Loop(run, photographs, settings, taught_by, device)
    figures = None
    with (
        ThreadPoolExecutor(1) as pool,
        tqdm(total=steps, initial=run.step, desc=path.name, unit="step", disable=None) as bar,
    ):
        saved = time.monotonic()
        begun = saved - run.seconds
        coming = pool.submit(loop.batch, run.step)
        while loop.done < 1:
            current, coming = coming.result(), pool.submit(loop.batch, run.step + 1)
            loop.advance(current)
            bar.update()
            run.seconds = time.monotonic() - begun
            if time.monotonic() - saved >= 60 * checkpoint_minutes or loop.done >= 1:
                figures = loop.validate()
                run.save(state, settings)
                run.export(path, loop.metadata(figures), half)
                text = ", ".join(f"{label(sigma)} {value:.2f}" for sigma, value in figures.items())
                bar.set_postfix_str(f"PSNR {text}")
                tqdm.write(f"step {run.step}, {loop.images_seen} images, loss {loop.take_loss():.4f}, PSNR {text}")
                saved = time.monotonic()
    if figures is None:  # the run had ended before
        figures = loop.validate()
        run.export(path, loop.metadata(figures), half)
    return figures


def _check(
    steps: int | None,
    minutes: float | None,
    batch: int,
    crop: int,
    learning_rate: float,
    channels: tuple[int, ...],
    blocks: int,
) -> None:
    if (steps is None) == (minutes is None):
        raise InputError("say how long to train: either a number of steps or minutes")
    if not (steps or minutes or 0) > 0:
        raise InputError("the length of the training must be positive: give more steps or minutes")
    if batch < 1 or blocks < 1:
        raise InputError(f"batch and blocks must be at least 1, not {batch} and {blocks}")
    if crop < 2 * SIZE_MULTIPLE or crop % SIZE_MULTIPLE:
        raise InputError(f"crop must be a multiple of {SIZE_MULTIPLE} and at least {2 * SIZE_MULTIPLE}, not {crop}")
    if not 0 < learning_rate < 1:
        raise InputError(f"learning_rate must lie between 0 and 1, not {learning_rate}")
    if len(channels) != 3 or min(channels) < 1:
        raise InputError(f"channels are the three widths of the network, for example 64,128,192, not {channels}")
