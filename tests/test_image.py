"""Image files: every kind that is read, written back unharmed, or refused in one sentence."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import lmaps_fast as lf
from lmaps_fast.files import image, jpeg_file
from lmaps_fast.operators.jpeg_restoration import JpegRestoration
from lmaps_fast.ops.jpeg_codec import quality_tables

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), np.uint8)


@pytest.mark.parametrize("ending", [".png", ".webp", ".bmp", ".tif"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_round_trip(tmp_path, ending, mode):
    path, copy = tmp_path / f"in{ending}", tmp_path / f"out{ending}"
    Image.fromarray(RGB).convert(mode).save(path, **({"lossless": True} if ending == ".webp" else {}))
    picture = image.read(path)
    assert picture.pixels.shape == (1, 3 if mode == "RGB" or ending == ".webp" else 1, 20, 30)
    assert picture.pixels.min() >= -1
    assert picture.pixels.max() <= 1
    image.write(copy, picture)
    if ending != ".webp":  # written lossy
        assert torch.equal(image.read(copy).pixels, picture.pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bit_png_keeps_its_bits(tmp_path, channels):
    array = RNG.integers(0, 65536, (18, 22, channels), np.uint16)
    cv2.imwrite(str(tmp_path / "in.png"), array)
    picture = image.read(tmp_path / "in.png")
    assert picture.bits == 16
    image.write(tmp_path / "out.png", picture)
    copy = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED).reshape(array.shape)
    np.testing.assert_array_equal(copy, array)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1", "CMYK"])
def test_other_modes_become_grey_or_colour_and_keep_alpha(tmp_path, mode):
    path = tmp_path / ("in.tif" if mode == "CMYK" else "in.png")
    source = Image.fromarray(RGB)
    source = source.convert("L").convert(mode) if mode == "LA" else source.convert(mode)
    if mode in ("RGBA", "LA"):
        source.putalpha(Image.fromarray(RGB[..., 0]))
    source.save(path)
    picture = image.read(path)
    assert picture.pixels.shape[1] == (1 if mode in ("LA", "1") else 3)
    assert (picture.alpha is not None) == (mode in ("RGBA", "LA"))
    image.write(tmp_path / "out.png", picture)
    if picture.alpha is not None:
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png"))[..., -1], RGB[..., 0])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_pillows(tmp_path, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[image.ORIENTATION_TAG] = orientation
    Image.fromarray(RGB).save(tmp_path / "in.png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / "in.png")))
    np.testing.assert_array_equal(image.to_array(image.read(tmp_path / "in.png")), expected)


def smooth(height, width):
    y, x = np.mgrid[:height, :width]
    waves = [127 + 100 * np.sin(x / a + y / b) for a, b in ((9, 14), (12, -8), (-7, 10))]
    return np.stack(waves, -1).astype(np.uint8)


@pytest.mark.parametrize("size", [(64, 80), (61, 47)], ids=str)
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_a_jpeg_file_gives_back_its_tables_and_coefficients(tmp_path, subsampling, size):
    path = tmp_path / "in.jpg"
    Image.fromarray(smooth(*size)).save(path, quality=20, subsampling=subsampling)
    file = jpeg_file.read(path)
    assert file.subsampling == subsampling
    assert torch.equal(file.tables, quality_tables(20))
    operator, y = JpegRestoration.from_file(path)
    assert y.shape == (1, 3, *size)
    # The planes that were decoded lie within rounding of the coefficients found again.
    pixels = operator.codec.from_planes(file.planes).float()
    inner = (..., slice(0, size[0] // 16 * 16), slice(0, size[1] // 16 * 16))
    assert (y - pixels)[inner].abs().mean() < 0.75 / 127.5
    torch.testing.assert_close(operator(y)[inner], y[inner], rtol=0, atol=1e-4)


def test_a_grey_jpeg_file(tmp_path):
    Image.fromarray(RGB).convert("L").save(tmp_path / "grey.jpg", quality=30)
    operator, y = JpegRestoration.from_file(tmp_path / "grey.jpg")
    assert y.shape == (1, 1, 20, 30)
    assert operator.codec.channels == 1


def test_files_that_are_no_images(tmp_path):
    text, cut, folder = tmp_path / "text.png", tmp_path / "cut.jpg", tmp_path / "folder.png"
    text.write_text("hello")
    Image.fromarray(smooth(200, 200)).save(cut)
    cut.write_bytes(cut.read_bytes()[:1500])
    folder.mkdir()
    for path, sentence in (
        (text, "not an image"),
        (cut, "damaged or cut short"),
        (folder, "not an image"),
        (tmp_path / "none.png", "no such file"),
    ):
        with pytest.raises(lf.InputError, match=sentence):
            image.read(path)
    Image.fromarray(RGB).save(tmp_path / "photo.png")
    with pytest.raises(lf.InputError, match="not a JPEG file: give its quality"):
        jpeg_file.read(tmp_path / "photo.png")


def test_outputs_that_cannot_be_written(tmp_path):
    picture = image.Picture(torch.zeros(1, 3, 16, 16))
    for path, sentence in (
        (tmp_path / "out.xyz", "unknown ending"),
        (tmp_path / "none" / "out.png", "no such folder"),
        (tmp_path, "unknown ending"),
        ("/proc/out.png", "cannot write into this folder"),
    ):
        with pytest.raises(lf.InputError, match=sentence):
            image.write(path, picture)
    assert list(tmp_path.iterdir()) == []


def test_files_are_as_readable_as_others_and_nothing_of_the_process_changes(tmp_path, monkeypatch):
    plain, written = tmp_path / "plain", tmp_path / "out.png"
    plain.touch()
    monkeypatch.setattr("os.umask", None)  # threads share it
    image.write(written, image.Picture(torch.zeros(1, 3, 16, 16)))
    assert written.stat().st_mode == plain.stat().st_mode
