"""Photographs as training data: random crops, augmented, and some photographs held out to measure progress on."""

import hashlib
import os
import re
import warnings

import cv2
import numpy as np
import torch
from torch import Tensor

from lmaps_fast.apps.evaluate import centre, photographs
from lmaps_fast.errors import InputError
from lmaps_fast.files.image import Picture, to_array

HELD_OUT_SHARE = 60  # one photograph in so many
MOST_HELD_OUT, HELD_OUT_SIDE = 32, 256
SIZE_MULTIPLE = 8
FLIPPED, TURNED, GREY, PERMUTED = 0.5, 0.15, 0.08, 0.12  # shares of the crops
LEAST_REDUCED, MOST_REDUCED = 2.0, 3.0
SCALES = re.compile(r"__\d+(?=\.\w+$)")


class Photographs:
    """The photographs of a folder, in memory, three bytes per pixel.

    One in 60, at least one, is held out: `held_out`, the middle of each, [1, 3, H, W] in [-1, 1], at most 256x256 and
    32 of them. NAME__480.webp and NAME__960.webp count as one photograph in two sizes, so that neither is trained on
    when the other is held out. Photographs of which a side is below `least` pixels are skipped with a warning.

    `digest` is the same for the same files in names and sizes.

    Raises InputError if fewer than two photographs are left.
    """

    def __init__(self, folder: str | os.PathLike, least: int) -> None:
        arrays: dict[str, np.ndarray] = {}
        for name, pixels in photographs(folder):
            if min(pixels.shape[2:]) < least:
                warnings.warn(
                    f"{name} is smaller than the crop of {least}x{least} pixels (skipped): give a smaller crop",
                    stacklevel=2,
                )
            else:
                arrays[name] = to_array(Picture(pixels))
        groups = sorted({SCALES.sub("", name) for name in arrays})
        if len(groups) < 2:
            raise InputError(
                f"{folder}: training needs two photographs at least, one of them held out, of {least}x{least} pixels "
                f"or more, and there are {len(groups)}: add photographs or give a smaller crop"
            )
        held_out = set(groups[::HELD_OUT_SHARE])
        kept = [name for name in arrays if SCALES.sub("", name) in held_out][:MOST_HELD_OUT]
        self.held_out = [self._middle(arrays[name]) for name in kept]
        self.training = [array for name, array in arrays.items() if SCALES.sub("", name) not in held_out]
        shapes = repr([(name, array.shape) for name, array in arrays.items()])
        self.digest = hashlib.sha256(shapes.encode()).hexdigest()

    @staticmethod
    def _middle(array: np.ndarray) -> Tensor:
        side = min(HELD_OUT_SIDE, *(size // SIZE_MULTIPLE * SIZE_MULTIPLE for size in array.shape[:2]))
        return centre(torch.from_numpy(array).permute(2, 0, 1)[None], side).float() / 127.5 - 1

    def crops(self, rng: np.random.Generator, count: int, side: int) -> tuple[Tensor, Tensor]:
        """Crops [count, side, side, 3] of uint8 with their colour matrices [count, 3, 3]; `assemble` makes images of
        both. A photograph is drawn with probability proportional to min(area, 400000)^.6, if it is large enough;
        where none is, the side is that of the largest. All are reduced by averaging areas, by a factor uniform
        between 2 and 3 or what the photograph allows: compression and demosaicing have smoothed what it shows at its
        full size. Half are mirrored, 15 % turned, 8 % made grey, and 12 % have their colours permuted."""
        shortest = np.array([min(array.shape[:2]) for array in self.training])
        side = min(side, int(shortest.max()) // SIZE_MULTIPLE * SIZE_MULTIPLE)
        areas = np.array([array.shape[0] * array.shape[1] for array in self.training], np.float64)
        weights = np.where(shortest >= side, np.minimum(areas, 400_000) ** 0.6, 0)
        out = np.empty((count, side, side, 3), np.uint8)
        colours = np.empty((count, 3, 3), np.float32)
        for k, index in enumerate(rng.choice(len(self.training), count, p=weights / weights.sum())):
            array = self.training[index]
            most = min(MOST_REDUCED, shortest[index] / side)
            factor = rng.uniform(min(LEAST_REDUCED, most), most)
            taken = round(side * factor)
            top, left = (rng.integers(size - taken + 1) for size in array.shape[:2])
            crop = array[top : top + taken, left : left + taken]
            if taken > side:
                crop = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
            if rng.random() < FLIPPED:
                crop = crop[:, ::-1]
            if rng.random() < TURNED:
                crop = np.rot90(crop, int(rng.integers(1, 4)))
            out[k], colours[k] = crop, _colours(rng)
        return torch.from_numpy(out), torch.from_numpy(colours)


def _colours(rng: np.random.Generator) -> np.ndarray:
    kind = rng.random()
    if kind < GREY:
        return np.full((3, 3), 1 / 3)
    return np.eye(3)[rng.permutation(3)] if kind < GREY + PERMUTED else np.eye(3)


def assemble(crops: Tensor, colours: Tensor) -> Tensor:
    """Images [B, 3, H, W] in [-1, 1], channels_last: the colour matrix of each times its pixels."""
    pixels = crops.float() / 127.5 - 1
    mixed = torch.bmm(pixels.flatten(1, 2), colours.mT)
    return mixed.view_as(pixels).permute(0, 3, 1, 2)
