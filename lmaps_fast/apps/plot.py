"""Pictures side by side, for people."""

import os
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont

from lmaps_fast.files import image

MARGIN, CAPTION = 8, 22
Panel = tuple[str, torch.Tensor]  # a caption, and an image [1, C, H, W] in [-1, 1]


def side_by_side(path: str | os.PathLike, panels: Sequence[Panel]) -> None:
    """Write panels in one row, each under its caption."""
    sheet(path, [panels])


def sheet(path: str | os.PathLike, rows: Sequence[Sequence[Panel]], **options: object) -> None:
    """Write rows of panels, each under its caption, as one picture. options: of Pillow's writer, such as quality."""
    drawn = [[(text, Image.fromarray(image.to_array(image.Picture(x))).convert("RGB")) for text, x in r] for r in rows]
    heights = [max(picture.height for _, picture in row) + CAPTION + MARGIN for row in drawn]
    widths = [sum(picture.width + MARGIN for _, picture in row) + MARGIN for row in drawn]
    canvas = Image.new("RGB", (max(widths), sum(heights)), "white")
    draw, font, top = ImageDraw.Draw(canvas), ImageFont.load_default(size=14), 0
    for row, height in zip(drawn, heights, strict=True):
        left = MARGIN
        for caption, picture in row:
            draw.text((left, top + 3), caption, fill="black", font=font)
            canvas.paste(picture, (left, top + CAPTION))
            left += picture.width + MARGIN
        top += height
    image.write_image(path, canvas, **options)
