"""The command line, end to end, and bad input: one sentence, status 2, nothing written."""

import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import lmaps_fast as lf
from lmaps_fast.apps import restore
from lmaps_fast.apps.cli import main
from lmaps_fast.denoisers import Natural
from lmaps_fast.files import image, jpeg_file
from lmaps_fast.ops.jpeg_codec import quality_tables

EXAMPLE = Path(__file__).parents[1] / "examples" / "astronaut.png"


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.open(EXAMPLE).crop((80, 10, 176, 90)).save(path)
    return path


def psnrs(text):
    return [float(v) for v in re.findall(r"([\d.]+) dB", text)]


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("inpainting_random", ["--operator-seed", "4"]),
        ("inpainting_random", ["--missing", "0.5"]),
        ("gaussian_deblurring", ["--sigma", "2"]),
        ("jpeg_restoration", ["--quality", "10"]),
        ("denoising", []),
        ("super_resolution", ["--scale", "2"]),
        ("super_resolution", ["--method", "average"]),
        ("motion_deblurring", ["--operator-seed", "3"]),
        ("motion_deblurring", ["--kernel", "kernel.png", "--padding", "circular"]),
        ("high_dynamic_range", ["--gain", "1.5"]),
        ("quantization", ["--bits", "3"]),
    ],
)
def test_degrade_and_restore(task, options, photo, tmp_path, capsys):
    kernel = np.zeros((7, 9), np.uint8)
    kernel[range(7), range(1, 8)] = 255
    Image.fromarray(kernel).save(tmp_path / "kernel.png")
    options = [str(tmp_path / option) if option == "kernel.png" else option for option in options]
    degraded, restored = tmp_path / "degraded.png", tmp_path / "restored.png"
    noise = ["--noise", "0.2"] if task == "denoising" else []
    options = [*options, *noise]
    assert main(["degrade", str(photo), "-o", str(degraded), "--task", task, *options]) == 0
    arguments = [str(degraded), "-o", str(restored), "--task", task, *options, "--metrics", str(photo), "--plot"]
    assert main(["restore", *arguments, "--seed", "3"]) == 0
    before, after = psnrs(capsys.readouterr().out)
    assert after > before
    assert Image.open(restored).size == (96, 80)
    assert Image.open(tmp_path / "restored.plot.png").width > 3 * 96
    leftovers = [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert leftovers == []


def test_a_jpeg_file_restores_itself(photo, tmp_path, capsys):
    degraded, restored = tmp_path / "photo.jpg", tmp_path / "restored.png"
    assert main(["degrade", str(photo), "-o", str(degraded), "--task", "jpeg_restoration", "--quality", "10"]) == 0
    arguments = ["restore", str(degraded), "-o", str(restored), "--task", "jpeg_restoration"]
    assert main([*arguments, "--metrics", str(photo)]) == 0
    before, after = psnrs(capsys.readouterr().out)
    assert after > before


def test_a_turned_jpeg_file_comes_out_upright(photo, tmp_path):
    exif = Image.Exif()
    exif[image.ORIENTATION_TAG] = 6
    Image.open(photo).save(tmp_path / "turned.jpg", quality=30, exif=exif)
    arguments = ["restore", str(tmp_path / "turned.jpg"), "-o", str(tmp_path / "out.png"), "--task", "jpeg_restoration"]
    assert main([*arguments, "--steps", "2"]) == 0
    assert Image.open(tmp_path / "out.png").size == (80, 96)


def test_a_mask_of_ones_own_and_several_inputs(photo, tmp_path):
    mask = np.full((80, 96), 255, np.uint8)
    mask[20:40, 30:60] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    other = tmp_path / "other.png"
    shutil.copy(photo, other)
    out = tmp_path / "out"
    out.mkdir()
    arguments = [
        str(photo),
        str(other),
        "-o",
        str(out),
        "--task",
        "inpainting_box",
        "--mask",
        str(tmp_path / "mask.png"),
    ]
    assert main(["restore", *arguments, "--steps", "2"]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["other.png", "photo.png"]
    one, two = (image.read(out / name).pixels for name in ("other.png", "photo.png"))
    assert torch.equal(one, two)


def test_alpha_and_grey_survive(photo, tmp_path):
    source = Image.open(photo).convert("L")
    source.putalpha(Image.fromarray(np.arange(80 * 96, dtype=np.uint8).reshape(80, 96)))
    source.save(tmp_path / "la.png")
    arguments = ["restore", str(tmp_path / "la.png"), "-o", str(tmp_path / "out.png"), "--task", "denoising"]
    assert main([*arguments, "--steps", "2"]) == 0
    out = Image.open(tmp_path / "out.png")
    assert out.mode == "LA"
    np.testing.assert_array_equal(np.asarray(out)[..., 1], np.asarray(source)[..., 1])


def test_measurements_that_are_no_images_go_through_npy(photo, tmp_path, capsys):
    y, restored = tmp_path / "y.npy", tmp_path / "restored.png"
    task = ["--task", "phase_retrieval"]
    assert main(["degrade", str(photo), "-o", str(y), *task]) == 0
    assert np.load(y).shape == (3, 120, 144)
    arguments = ["restore", str(y), "-o", str(restored), *task, "--steps", "2", "--runs", "1", "--plot"]
    assert main([*arguments, "--metrics", str(photo)]) == 0
    assert Image.open(restored).size == (96, 80)
    assert len(psnrs(capsys.readouterr().out)) == 1  # there is no degraded image to compare with
    # Any task may go this way, without the rounding and clipping of an image file.
    assert main(["degrade", str(photo), "-o", str(y), "--task", "denoising", "--noise", "1"]) == 0
    assert np.abs(np.load(y)).max() > 1.5


def test_a_side_that_the_scale_does_not_divide(photo, tmp_path):
    odd, small, out = tmp_path / "odd.png", tmp_path / "small.png", tmp_path / "out.png"
    Image.open(photo).crop((0, 0, 90, 79)).save(odd)
    task = ["--task", "super_resolution", "--steps", "2"]
    assert main(["degrade", str(odd), "-o", str(small), *task[:2]]) == 0
    assert Image.open(small).size == (23, 20)
    assert main(["restore", str(small), "-o", str(out), *task]) == 0
    assert Image.open(out).size == (92, 80)
    assert main(["restore", str(small), "-o", str(out), *task, "--metrics", str(odd)]) == 0
    assert Image.open(out).size == (90, 79)


def test_tasks_lists_every_task_with_its_options(capsys):
    assert main(["tasks"]) == 0
    text = capsys.readouterr().out
    for task in lf.operators.REGISTRY:
        assert f"{task}\n  " in text
    for option in ("--scale", "--kernel", "--sigma", "--mask", "--bits", "--quality", "--weights"):
        assert option in text


def test_the_options_of_a_jpeg_file_that_degrade_writes(photo, tmp_path):
    path = tmp_path / "out.jpg"
    options = ["--task", "jpeg_restoration", "--quality", "20", "--subsampling", "4:2:2"]
    assert main(["degrade", str(photo), "-o", str(path), *options]) == 0
    file = jpeg_file.read(path)
    assert torch.equal(file.tables, quality_tables(20))
    assert file.subsampling == "4:2:2"


def test_options_of_the_restorer_reach_it(photo, tmp_path, monkeypatch):
    seen = {}

    class Spy(lf.Restorer):
        def __init__(self, *arguments, **options):
            seen.update(options)
            super().__init__(*arguments, **options)

    monkeypatch.setattr(restore.SET_UP, "function", Spy)
    given = "--task denoising --solver lmaps --steps 2 --preset natural --backend torch --tile 64 --runs 2 --noise .1"
    command = ["restore", str(photo), "-o", str(tmp_path / "out.png"), *given.split(), "--no-graphs"]
    assert main(command) == 0
    assert {type(seen.pop(name)) for name in ("operator", "denoiser")} == {lf.operators.REGISTRY["denoising"], Natural}
    numbers = {"steps": 2, "tile": 64, "runs": 2, "noise": 0.1, "graphs": False}
    assert seen == {"solver": "lmaps", "preset": "natural", "backend": "torch", **numbers}
    seen.clear()
    assert main([*command[:6], "--steps", "2"]) == 0
    assert seen.keys() == {"operator", "denoiser", "steps"}  # what is not given is left to the restorer


def test_the_module_is_the_command(tmp_path):
    run = subprocess.run([sys.executable, "-m", "lmaps_fast", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout == f"lmaps-fast {lf.__version__}\n"


def test_the_command_line_is_light_to_import():
    heavy = "'triton', 'torch._dynamo', 'matplotlib', 'skimage', 'deepinv', 'azula', 'diffusers', 'torchvision'"
    code = f"import lmaps_fast.apps.cli, sys; print([name for name in ({heavy}) if name in sys.modules])"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert run.stdout == "[]\n"


def test_tiles_from_the_command_line(photo, tmp_path):
    whole, tiled = tmp_path / "whole.png", tmp_path / "tiled.png"
    task = ["--task", "inpainting_random", "--missing", ".4", "--steps", "3"]
    assert main(["restore", str(photo), "-o", str(whole), *task]) == 0
    assert main(["restore", str(photo), "-o", str(tiled), *task, "--tile", "64"]) == 0
    assert lf.metrics.psnr(image.read(whole).pixels, image.read(tiled).pixels) > 40


def test_a_random_network_is_announced_in_one_sentence(photo, tmp_path, capsys):
    arguments = ["degrade", str(photo), "-o", str(tmp_path / "out.png"), "--task", "nonlinear_deblurring"]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(arguments) == 0
    error = capsys.readouterr().err
    assert error.startswith("lmaps-fast: nonlinear_deblurring without weights uses a random network")
    assert error.count("\n") == 1


def test_info_names_what_runs(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for word in ("torch", "native extension", "cpu: yes", "gaussian_deblurring", "natural"):
        assert word in text


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def bad_files(folder):
    (folder / "new").mkdir()
    (folder / "text.png").write_text("no image")
    Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:700])
    (folder / "text.npy").write_text("no array")
    Image.new("RGB", (96, 80)).save(folder / "photo.jpg")
    Image.new("L", (5, 5), 255).save(folder / "odd.png")
    Image.new("L", (96, 80), 255).save(folder / "mask.png")
    Image.new("RGB", (15, 40)).save(folder / "tiny.png")
    Image.new("L", (4, 4), 255).save(folder / "tiny_even.png")
    Image.new("L", (5, 5), 0).save(folder / "tiny_black.png")
    Image.new("L", (50, 50), 255).save(folder / "mask_size.png")
    Image.new("L", (96, 80), 0).save(folder / "mask_black.png")
    Image.fromarray(np.full((80, 96), np.nan, np.float32)).save(folder / "nan.tif")
    (folder / "prior.safetensors").write_text("not a prior")
    save_file({"a": torch.zeros(3)}, folder / "other.safetensors")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("restore text.png -o out.png --task denoising", "not an image"),
        ("restore none.png -o out.png --task denoising", "no such file"),
        ("restore cut.jpg -o out.png --task jpeg_restoration", "damaged or cut short"),
        ("restore photo.png -o out.png --task inpainting_box --mask mask_size.png", "the mask has shape [50, 50]"),
        ("restore photo.png -o out.png --task inpainting_box --mask mask_black.png", "hides every pixel"),
        ("restore nan.tif -o out.png --task denoising", "convert it to 8 or 16 bits"),
        ("restore photo.png -o out.png --task sharpen", "unknown task 'sharpen': choose one of"),
        ("restore tiny.png -o out.png --task denoising", "smallest that can be restored is 16x16"),
        ("restore photo.png -o none/out.png --task denoising", "no such folder"),
        ("restore photo.png -o /proc/out.png --task denoising", "cannot write into this folder"),
        ("restore photo.png -o out.gif --task denoising", "unknown ending"),
        ("restore photo.png -o out.png --task denoising --prior prior.safetensors", "this is not a whole checkpoint"),
        ("restore photo.png -o out.png --task denoising --prior other.safetensors", "the weights of another network"),
        ("restore photo.png -o out.png --task denoising --prior nothing", "neither a prior"),
        ("restore photo.png -o out.png --task denoising --sigma 3", "has no parameter 'sigma'"),
        ("restore photo.png -o out.png --task denoising --steps none", "invalid int value"),
        ("restore photo.png -o out.png --task denoising --device cuda", "device 'cuda' cannot be used here"),
        ("restore photo.png -o out.png --task denoising --metrics tiny.png", "differ in channels or size"),
        ("restore photo.png -o out.png --task jpeg_restoration", "not a JPEG file: give its quality"),
        ("restore photo.png tiny.png -o out.png --task denoising", "several inputs need an existing folder"),
        ("restore photo.png -o photo.png --task denoising", "is input and output"),
        ("degrade photo.png -o out.png --task phase_retrieval", "write it as .npy"),
        ("restore text.npy -o out.png --task phase_retrieval", "not a .npy file"),
        ("restore photo.png -o out.npy --task denoising", "unknown ending '.npy'"),
        ("degrade photo.png -o out.png --task super_resolution --scale 1", "scale must be a whole number from 2"),
        ("degrade photo.png -o out.png --task motion_deblurring --kernel tiny_even.png", "two odd sides"),
        ("degrade photo.png -o out.png --task motion_deblurring --kernel tiny_black.png", "zero everywhere"),
        ("restore photo.png -o out.png --task denoising --tile 70", "multiple of 8"),
        ("restore photo.png -o out.png --task denoising --runs 0", "runs must be a whole number, at least 1"),
        ("degrade photo.png -o out.png --task denoising --noise -1", "noise must be finite and not negative"),
        ("degrade photo.png -o out.jpg --task jpeg_restoration --quality 0", "quality must be from 1 to 100"),
        ("restore photo.png -o out.png --task inpainting_random --missing .5 --mask mask.png", "leave mask or missing"),
        ("restore photo.png -o out.png --task inpainting_box --box 1 2 3 4 --mask mask.png", "leave mask or box out"),
        ("degrade photo.png -o out.png --task motion_deblurring --intensity 1 --kernel odd.png", "or kernel out"),
        ("restore photo.png -o out.png --task super_resolution --mask mask.png", "has no parameter 'mask'"),
        ("restore photo.jpg -o out.png --task jpeg_restoration --sigma 3", "has no parameter 'sigma'"),
        ("restore photo.jpg -o out.png --task jpeg_restoration --subsampling 4:2:2", "carries its own subsampling"),
        ("restore photo.jpg -o out.png --task jpeg_restoration --noise .1", "leave noise out"),
        ("restore photo.png -o out.png --task quantization --noise .1", "leave noise out"),
        ("restore photo.png -o out.png --task denoising --noise .1 --solver pigdm --preset paper", "leave preset out"),
        ("restore photo.png -o out.png --task denoising --noise .1 --solver daps", "leave noise out"),
        ("restore photo.png -o out.png --task denoising --noise .1 --preset paper", "leave noise out"),
        ("degrade photo.png -o out.jpg --task jpeg_restoration --noise .1", "leave noise out"),
        ("restore photo.png -o out.png --task denoising --graphs", "CUDA graphs need an operator on a GPU"),
        ("restore photo.jpg tiny.png -o new --task denoising --metrics photo.png", "--metrics compares one image"),
        ("polish photo.png", "invalid choice"),
        ("restore", "required"),
    ],
)
def test_bad_input(arguments, sentence, photo, tmp_path, capsys, monkeypatch):
    if "cuda" in arguments and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    bad_files(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    assert main(arguments.split()) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert contents(tmp_path) == before


def test_no_half_written_file_when_the_disk_is_full(tmp_path, monkeypatch):
    target = tmp_path / "out.png"
    target.write_text("old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(lf.InputError, match="No space left on device"):
        image.write(target, image.Picture(torch.zeros(1, 3, 16, 16)))
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
