"""Image files and tensors: the one place that knows ranges, 0..255 or 0..65535 in files and [-1, 1] in tensors."""

import io
import os
import secrets
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from lmaps_fast.errors import InputError

ORIENTATION_TAG = 0x0112
FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
SAVE_OPTIONS = {"JPEG": {"quality": 95}, "WEBP": {"quality": 95}}


@dataclass(frozen=True)
class Picture:
    """pixels: [1, C, H, W] in [-1, 1], C = 1 or 3. alpha: [H, W] in [0, 1], or None. bits: 8 or 16, of the file."""

    pixels: Tensor
    alpha: Tensor | None = None
    bits: int = 8

    def with_pixels(self, pixels: Tensor) -> "Picture":
        """A picture of other pixels, of any size, with the same alpha and bits."""
        alpha = self.alpha
        if alpha is not None and alpha.shape != pixels.shape[2:]:
            alpha = F.interpolate(alpha[None, None], pixels.shape[2:], mode="bilinear", align_corners=False)[0, 0]
        return replace(self, pixels=pixels, alpha=alpha)


def open_image(path: str | os.PathLike, ycbcr: bool = False) -> Image.Image:
    """A decoded Pillow image; with ycbcr a colour JPEG keeps its planes, not yet clamped to RGB.

    Raises InputError if the file cannot be read, is no image, or is cut short.
    """
    path = Path(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(path)
            if ycbcr and picture.format == "JPEG" and picture.mode == "RGB":
                picture.draft("YCbCr", None)
            picture.load()
            return picture
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (UnidentifiedImageError, IsADirectoryError):
        raise InputError(f"{path}: this is not an image that can be read (PNG, JPEG, WebP, BMP or TIFF)") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(f"{path}: the image has more than {Image.MAX_IMAGE_PIXELS} pixels: make it smaller") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: the image is damaged or cut short ({error}): get a whole copy of it") from None


def read(path: str | os.PathLike) -> Picture:
    """Read an image upright (EXIF orientation applied): grey as one channel, anything else as three."""
    picture = open_image(path)
    orientation = picture.getexif().get(ORIENTATION_TAG, 1)
    bits = 8
    if picture.format == "PNG" and Path(path).read_bytes()[24] == 16:
        array, bits = _read_png16(path), 16
    elif picture.mode.startswith("I;16"):
        array, bits = np.asarray(picture).astype(np.uint16), 16
    elif picture.mode in ("I", "F"):
        raise InputError(f"{path}: pixels of type {picture.mode} have no known range: convert it to 8 or 16 bits")
    else:
        array = np.asarray(picture.convert(_simple_mode(picture)))
    array = array.reshape(*array.shape[:2], -1)
    values = upright(torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1), orientation) / (2**bits - 1)
    colours = 1 if array.shape[2] <= 2 else 3
    alpha = values[-1] if array.shape[2] in (2, 4) else None
    return Picture((values[:colours] * 2 - 1)[None].contiguous(), alpha, bits)


def read_array(path: str | os.PathLike) -> Tensor:
    """A measurement that was written by `write_array`, [1, C, H, W] in float32."""
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: this is not a .npy file that can be read ({error})") from None
    if array.ndim != 3 or array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise InputError(f"{path}: a measurement is an array [C, H, W] of finite real numbers, not {array.shape}")
    return torch.from_numpy(array.astype(np.float32))[None]


def write_array(path: str | os.PathLike, y: Tensor) -> None:
    """Write one measurement [1, C, H, W] as .npy: not rounded and not clipped, unlike an image file."""
    check_output(path, (*FORMATS, ".npy"))
    buffer = io.BytesIO()
    np.save(buffer, y[0].float().cpu().numpy())
    write_bytes(Path(path), buffer.getvalue())


def _simple_mode(picture: Image.Image) -> str:
    alpha = picture.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info
    grey = picture.mode in ("1", "L", "LA", "La")
    return ("LA" if alpha else "L") if grey else ("RGBA" if alpha else "RGB")


def _read_png16(path: str | os.PathLike) -> np.ndarray:
    # Pillow reduces 16-bit colour to 8 bits without a word, so OpenCV reads these.
    array = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise InputError(f"{path}: the image is damaged or cut short: get a whole copy of it")
    return _swap_red_and_blue(array)


def _swap_red_and_blue(array: np.ndarray) -> np.ndarray:
    return array if array.ndim == 2 else np.ascontiguousarray(array[..., [2, 1, 0, 3][: array.shape[2]]])


def upright(x: Tensor, orientation: int) -> Tensor:
    """Apply an EXIF orientation (1..8; others do nothing) to [..., H, W]."""
    turned: dict[int, Callable[[Tensor], Tensor]] = {
        2: lambda t: t.flip(-1),
        3: lambda t: t.flip(-1, -2),
        4: lambda t: t.flip(-2),
        5: lambda t: t.mT,
        6: lambda t: t.mT.flip(-1),
        7: lambda t: t.mT.flip(-1, -2),
        8: lambda t: t.mT.flip(-2),
    }
    return turned.get(orientation, lambda t: t)(x).contiguous()


def to_array(picture: Picture, alpha: bool = True) -> np.ndarray:
    """[H, W] or [H, W, C] of uint8 or uint16, clipped and rounded, alpha as the last channel if there is one."""
    top = 2**picture.bits - 1
    values = picture.pixels[0].float().cpu() * 0.5 + 0.5
    if alpha and picture.alpha is not None:
        values = torch.cat([values, picture.alpha[None]])
    array = (values.clamp(0, 1) * top).round().permute(1, 2, 0).numpy().astype(np.uint8 if top == 255 else np.uint16)
    return array[..., 0] if array.shape[2] == 1 else array


def check_output(path: str | os.PathLike, endings: Sequence[str] = tuple(FORMATS)) -> None:
    """Raise InputError unless a file can be written at this path: a known ending, in a folder that takes files."""
    path = Path(path)
    if path.suffix.lower() not in endings:
        raise InputError(f"{path}: unknown ending {path.suffix!r}: use one of {', '.join(endings)}")
    if path.is_dir():
        raise InputError(f"{path} is a folder: name a file")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: there is no such folder: make it first")
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise InputError(f"{path.parent}: cannot write into this folder ({error.strerror})") from None


def write(path: str | os.PathLike, picture: Picture, **options: object) -> None:
    """Write an image by its ending, whole or not at all. 16 bits need PNG; alpha is left out of JPEG and BMP.

    options: of Pillow's writer for that format, such as quality.
    """
    kind = FORMATS.get(Path(path).suffix.lower())
    if picture.bits == 16 and kind == "PNG":
        array = to_array(picture)
        if array.ndim == 3 and array.shape[2] == 2:  # OpenCV has no grey with alpha
            array = array[..., [0, 0, 0, 1]]
        check_output(path)
        write_bytes(Path(path), cv2.imencode(".png", _swap_red_and_blue(array))[1].tobytes())
    else:
        array = to_array(replace(picture, bits=8), alpha=kind not in ("JPEG", "BMP"))
        write_image(path, Image.fromarray(array), **options)


def write_image(path: str | os.PathLike, picture: Image.Image, **options: object) -> None:
    """Write a Pillow image by the ending of the path, whole or not at all."""
    check_output(path)
    kind, buffer = FORMATS[Path(path).suffix.lower()], io.BytesIO()
    picture.save(buffer, kind, **{**SAVE_OPTIONS.get(kind, {}), **options})
    write_bytes(Path(path), buffer.getvalue())


def write_bytes(path: Path, data: bytes) -> None:
    """Write to a temporary file beside `path`, then rename. Raises InputError if the disk refuses."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"{path}: could not be written ({error.strerror})") from None
