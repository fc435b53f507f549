"""Denoising PSNR over noise levels."""

import argparse
import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import photo_like

from lmaps_fast.apps.evaluate import (
    SIGMAS,
    add_arguments,
    as_json,
    bm3d,
    centre,
    evaluate,
    level,
    photographs,
    run,
    table,
)
from lmaps_fast.errors import InputError
from lmaps_fast.files import image


def identity(x, sigma):
    return x


def test_noise_is_on_the_scale_of_images_in_0_to_1():
    images = [torch.zeros(1, 3, 64, 64), torch.full((1, 3, 64, 64), 0.1)]
    figures = evaluate(identity, images, [5 / 255, 25 / 255])  # clipped at the fifth standard deviation: never
    for sigma, psnr in figures.items():
        assert psnr == pytest.approx(-20 * math.log10(sigma), abs=0.1)


def test_the_denoiser_is_called_on_its_own_scale_and_the_result_clipped():
    seen = []

    def white(x, sigma):
        seen.append((round(x.std().item() / sigma, 1), sigma))
        return torch.full_like(x, 3.0)

    assert evaluate(white, [torch.zeros(1, 3, 64, 64)], [0.25]) == {0.25: pytest.approx(-20 * math.log10(0.5))}
    assert seen == [(1.0, 0.5)]


def test_a_figure_depends_neither_on_other_levels_nor_on_the_other_denoisers():
    images = [photo_like(1, (3, 24, 32), torch.float32, seed) for seed in range(2)]
    alone, beside = evaluate(identity, images, [0.1]), evaluate(identity, images, (*SIGMAS, 0.1))
    assert alone[0.1] == beside[0.1]
    assert len(beside) == 10
    falling = [beside[sigma] for sigma in sorted(beside)]
    assert falling == sorted(falling, reverse=True)


def test_nothing_to_evaluate_is_refused():
    with pytest.raises(InputError, match="no image"):
        evaluate(identity, [])
    with pytest.raises(InputError, match="positive"):
        evaluate(identity, [torch.zeros(1, 3, 16, 16)], [0.0])


def test_photographs_are_rgb_and_sorted_also_in_folders_below(tmp_path):
    (tmp_path / "b").mkdir()
    grey = photo_like(1, (1, 20, 30), torch.float32)
    image.write(tmp_path / "b" / "grey.png", image.Picture(grey))
    image.write(tmp_path / "a.png", image.Picture(photo_like(1, (3, 20, 30), torch.float32)))
    read = dict(photographs(tmp_path))
    assert list(read) == ["a.png", "b/grey.png"]
    torch.testing.assert_close(read["b/grey.png"][:, 2:], grey, atol=0.005, rtol=0)


def test_the_middle_of_an_image():
    x = torch.arange(5 * 8).view(1, 1, 5, 8)
    assert centre(x, 4).tolist() == x[..., 0:4, 2:6].tolist()
    assert centre(x, 6).shape == (1, 1, 5, 6)


def test_bm3d_is_called_on_its_own_scale(monkeypatch):
    calls = []

    def fake(noisy, sigma):
        calls.append((noisy.shape, noisy.dtype, sigma))
        return noisy.squeeze()

    monkeypatch.setitem(sys.modules, "bm3d", SimpleNamespace(bm3d=fake, bm3d_rgb=fake))
    for channels in (3, 1):
        x = photo_like(2, (channels, 8, 12), torch.float32)
        torch.testing.assert_close(bm3d()(x, 0.5), x)
    assert calls == [((8, 12, 3), np.float64, 0.25)] * 2 + [((8, 12, 1), np.float64, 0.25)] * 2


def test_bm3d_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "bm3d", None)
    with pytest.raises(InputError, match="pip install bm3d"):
        bm3d()


def test_table_and_json():
    results = {"natural": {25 / 255: 30.129, 0.5: 22.0}, "BM3D": {25 / 255: 30.0, 0.5: 21.0}}
    rows = [["sigma", "25/255", "0.5"], ["natural", "30.13", "22.00"], ["BM3D", "30.00", "21.00"]]
    assert [line.split() for line in table(results).splitlines()] == rows
    wanted = {"images": 8, "unit": "dB", "psnr": {"natural": {"25/255": 30.129, "0.5": 22.0}}}
    assert json.loads(as_json({"natural": results["natural"]}, 8)) == wanted


def test_levels_of_the_command_line():
    assert [level("25/255"), level(".25")] == [25 / 255, 0.25]
    for text in ("0", "-1", "1/0", "nan", "inf", "x"):
        with pytest.raises(ValueError, match=r".*"):
            level(text)


def test_the_command(tmp_path, capsys):
    image.write(tmp_path / "a.png", image.Picture(photo_like(1, (3, 40, 48), torch.float32)))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = ["--images", str(tmp_path), "--sigmas", "50/255", "1", "--crop", "32", "--device", "cpu"]
    run(parser.parse_args([*options, "--json", str(tmp_path / "out.json")]))
    text = capsys.readouterr().out
    assert "natural" in text
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["psnr"]["natural"]["50/255"] > 20
    assert figures["images"] == 1
    with pytest.raises(InputError, match="--crop"):
        run(parser.parse_args([*options, "--crop", "0"]))
