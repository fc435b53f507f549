"""Pictures side by side, for people."""

import os
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont

from lmaps_fast import image

MARGIN, CAPTION = 8, 22


def side_by_side(path: str | os.PathLike, panels: Sequence[tuple[str, torch.Tensor]]) -> None:
    """Write panels (caption, image [1, C, H, W] in [-1, 1]) in one row, each under its caption."""
    pictures = [Image.fromarray(image.to_array(image.Picture(pixels))).convert("RGB") for _, pixels in panels]
    width = sum(p.width for p in pictures) + MARGIN * (len(pictures) + 1)
    canvas = Image.new("RGB", (width, max(p.height for p in pictures) + CAPTION + MARGIN), "white")
    draw, left = ImageDraw.Draw(canvas), MARGIN
    font = ImageFont.load_default(size=14)
    for (caption, _), picture in zip(panels, pictures, strict=True):
        draw.text((left, 3), caption, fill="black", font=font)
        canvas.paste(picture, (left, CAPTION))
        left += picture.width + MARGIN
    image.write_image(path, canvas)
