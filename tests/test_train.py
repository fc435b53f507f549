"""Training: objective, data, teacher, exact resume, and one sentence for what is wrong."""

import argparse
import errno
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import photo_like
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lmaps_fast.apps import training
from lmaps_fast.apps.training import checkpoint, objective, teacher
from lmaps_fast.apps.training.photographs import Photographs, assemble
from lmaps_fast.denoisers import EDM, Natural, natural
from lmaps_fast.denoisers.natural import UNet
from lmaps_fast.errors import InputError
from lmaps_fast.files import image

TINY = {"channels": (8, 8, 8), "blocks": 1, "batch": 4, "crop": 16}


class Code:
    """A pickle of this runs code."""

    def __reduce__(self):
        return (print, ("the file ran code",))


class Killed(BaseException):
    pass


@pytest.fixture(autouse=True)
def one_thread():
    """Networks of this size gain nothing from more, and wait for them where other work runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def folder(tmp_path):
    """Three photographs: the first is held out, and only the second reaches crops of 64."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, size in enumerate([(40, 48), (72, 80), (48, 56)]):
        picture = image.Picture(photo_like(1, (3, *size), torch.float32, seed=number))
        image.write(folder / f"{number}.png", picture)
    return folder


@pytest.fixture
def ffdnet(tmp_path):
    """A checkpoint of the teacher's key names, with random weights."""
    torch.manual_seed(1)
    path = tmp_path / "teacher.pth"
    torch.save(teacher.FFDNet().state_dict(), path)
    return path


def random_network(*args):
    torch.manual_seed(0)
    return UNet(*args)


def kill_at_write(monkeypatch, number):
    """Let the run die in the middle of writing its state for the number-th time."""
    write, count = image.write_bytes, 0

    def dying(path, data):
        nonlocal count
        count += path.suffix == ".state"
        if count == number:
            raise Killed
        write(path, data)

    monkeypatch.setattr(checkpoint, "write_bytes", dying)


def test_denoise_is_edm_with_a_noise_level_per_image():
    network = random_network((8, 8, 8), 1)
    y, sigma = torch.randn(3, 3, 16, 24), torch.tensor([0.02, 0.5, 7.0])
    D = objective.denoise(network, y, sigma)
    for i in range(3):
        torch.testing.assert_close(D[i : i + 1], EDM(network)(y[i : i + 1], sigma[i].item()), atol=1e-5, rtol=1e-5)


def test_the_loss_is_weighted_so_that_no_noise_level_dominates():
    x, sigma = torch.zeros(2, 3, 4, 4), torch.tensor([0.1, 5.0])
    D = torch.stack([torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 0.4)])
    wanted = (0.04 * (0.01 + 0.25) / 0.05**2 + 0.16 * (25 + 0.25) / 2.5**2) / 2
    assert objective.loss(D, x, sigma).item() == pytest.approx(wanted, rel=1e-5)


def test_noise_levels_follow_their_distribution():
    rng = np.random.default_rng(0)
    small = objective.draw_sigma(rng, 40_000, large=False)
    assert small.min() >= 0.004 - 1e-9
    assert small.max() <= 80.0001
    # Above 13 lie .3 % of the log-normal draws and, of the log-uniform ones, ln(80 / 13) / ln(20000).
    wanted = 0.92 * 0.0029 + 0.08 * 0.1834
    assert (small > 13).float().mean().item() == pytest.approx(wanted, rel=0.15)
    assert small.log().median().item() == pytest.approx(-1.3, abs=0.05)
    large = objective.draw_sigma(rng, 40_000, large=True).log()
    assert large.exp().min() >= 0.2999
    assert large.mean().item() == pytest.approx(np.log(0.3 * 80) / 2, abs=0.03)


def test_the_learning_rate_warms_up_stays_and_decays():
    factor = objective.learning_rate_factor
    assert factor(0, 0.0) == pytest.approx(0.01)
    assert factor(500, 0.39) == 1
    assert factor(500, 0.7) == pytest.approx(0.5)
    assert factor(500, 1.0) == pytest.approx(0.01)


def test_the_teacher_is_asked_where_it_was_trained_and_nowhere_else():
    sigma = torch.tensor([0.0799, 0.08, 0.588, 0.589])
    x, y = torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8)
    asked = []

    def taught_by(y, sigma):
        asked.append(sigma)
        return -y

    wanted = x.clone()
    wanted[1:3] = 0.25 * x[1:3] - 0.75 * y[1:3]
    torch.testing.assert_close(objective.target(x, y, sigma, taught_by), wanted)
    torch.testing.assert_close(asked[0], sigma[1:3])
    assert objective.target(x, y, sigma, None) is x


def test_the_teacher_is_ffdnet(ffdnet):
    y, sigma = torch.randn(2, 3, 8, 12), torch.tensor([0.1, 0.4])
    state = torch.load(ffdnet, weights_only=True)
    h = torch.cat(
        [F.pixel_unshuffle((y + 1) / 2, 2), torch.tensor([0.05, 0.2])[:, None, None, None].expand(2, 1, 4, 6)], 1
    )
    for layer in range(0, 24, 2):
        h = F.conv2d(h, state[f"model.{layer}.weight"], state[f"model.{layer}.bias"], padding=1)
        h = h.relu() if layer < 22 else h
    torch.testing.assert_close(teacher.load(ffdnet)(y, sigma), F.pixel_shuffle(h, 2) * 2 - 1)


def test_a_wrong_truncated_or_hostile_teacher_is_refused(ffdnet, tmp_path, capsys):
    state = torch.load(ffdnet, weights_only=True)
    state["model.24.weight"] = state.pop("model.22.weight")
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"lacks model\.22\.weight"):
        teacher.load(tmp_path / "other.pth")
    whole = ffdnet.read_bytes()
    (tmp_path / "short.pth").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "hostile.pth").write_bytes(pickle.dumps(Code(), 2))
    for name in ("short.pth", "hostile.pth", "missing.pth"):
        with pytest.raises(InputError, match=name):
            teacher.load(tmp_path / name)
    assert "ran code" not in capsys.readouterr().out


def test_crops_are_pieces_of_the_photographs(folder):
    photographs = Photographs(folder, 32)
    assert len(photographs.held_out) == 1
    assert photographs.held_out[0].shape == (1, 3, 40, 40)
    rng = np.random.default_rng(0)
    crops, colours = photographs.crops(rng, 400, 32)
    pixels = {tuple(pixel) for array in photographs.training for pixel in array.reshape(-1, 3)}
    whole = [{tuple(pixel) for pixel in crop.reshape(-1, 3).tolist()} <= pixels for crop in crops]
    assert sum(whole) <= 10  # they are reduced, so that new pixel values appear
    assert photographs.crops(rng, 3, 64)[0].shape == (3, 64, 64, 3)
    assert photographs.crops(rng, 3, 128)[0].shape == (3, 72, 72, 3)  # none is larger
    grey = (colours == 1 / 3).all(1).all(1)
    same = (colours == torch.eye(3)).all(1).all(1)
    assert 12 <= grey.sum() <= 55  # 8 % of 400
    assert 300 <= same.sum() <= 370  # 80 %, and a sixth of the permutations
    images = assemble(crops, colours)
    assert images.is_contiguous(memory_format=torch.channels_last)
    flat = images.flatten(2)
    torch.testing.assert_close(flat[grey].std(1).max(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(flat.mean(1), (crops.flatten(1, 2).float() / 127.5 - 1).mean(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(images[same], crops[same].permute(0, 3, 1, 2).float() / 127.5 - 1)


def test_sizes_of_one_photograph_are_held_out_together(folder):
    for name, new in (("0.png", "a__48.png"), ("1.png", "a__80.png")):
        (folder / name).rename(folder / new)
    assert len(Photographs(folder, 32).held_out) + len(Photographs(folder, 32).training) == 3
    assert len(Photographs(folder, 32).training) == 2  # 2.png comes first and is held out
    (folder / "2.png").rename(folder / "z.png")
    assert len(Photographs(folder, 32).training) == 1


def test_unusable_photographs_are_named_and_skipped(folder):
    (folder / "bad.png").write_bytes(b"no image")
    image.write(folder / "small.png", image.Picture(photo_like(1, (3, 20, 40), torch.float32)))
    (folder / "README.md").write_text("not even an image by its name")
    with pytest.warns(UserWarning, match="skipped") as warned:
        photographs = Photographs(folder, 32)
    messages = [str(warning.message) for warning in warned]
    assert len(messages) == 2
    assert "bad.png" in messages[0]
    assert "small.png" in messages[1]
    assert len(photographs.training) == 2


@pytest.mark.filterwarnings("ignore")
def test_a_folder_without_enough_photographs_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        Photographs(tmp_path / "nowhere", 32)
    with pytest.raises(InputError, match="smaller crop"):
        Photographs(folder, 64)
    for path in folder.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match="no image in this folder can be read"):
        Photographs(folder, 32)


def test_training_lowers_the_error(folder, tmp_path):
    begin = training.train(folder, tmp_path / "a.safetensors", steps=1, learning_rate=1e-9, **TINY)
    end = training.train(folder, tmp_path / "b.safetensors", steps=40, learning_rate=2e-2, **{**TINY, "batch": 2})
    assert end[50 / 255] > begin[50 / 255] + 0.7
    assert end[1.0] > begin[1.0] + 0.7


def test_a_killed_run_goes_on_to_the_very_same_weights(folder, tmp_path, ffdnet, monkeypatch):
    options = {**TINY, "steps": 10, "teacher": ffdnet, "seed": 3}
    training.train(folder, tmp_path / "whole.safetensors", **options)
    kill_at_write(monkeypatch, 6)  # the state of step 5 is there, and the eighth step takes large crops
    killed = tmp_path / "killed.safetensors"
    with pytest.raises(Killed):
        training.train(folder, killed, checkpoint_minutes=0, **options)
    monkeypatch.undo()
    half_way = load_file(killed)
    with safe_open(killed, "pt") as file:
        assert file.metadata()["steps"] == "5"
    torch.rand(7)  # the global generator has no say
    training.train(folder, killed, **options)
    whole, resumed = load_file(tmp_path / "whole.safetensors"), load_file(killed)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not torch.equal(half_way["inp.weight"], resumed["inp.weight"])
    states = [torch.load(f"{tmp_path}/{name}.safetensors.state", weights_only=True) for name in ("whole", "killed")]
    for name, tensor in states[0]["network"].items():
        assert torch.equal(tensor, states[1]["network"][name])


def test_a_run_that_has_ended_only_exports(folder, tmp_path):
    out = tmp_path / "out.safetensors"
    figures = training.train(folder, out, steps=2, **TINY)
    before = load_file(out)
    out.unlink()
    assert training.train(folder, out, steps=2, **TINY) == figures
    assert all(torch.equal(tensor, before[name]) for name, tensor in load_file(out).items())


def test_a_run_in_minutes_counts_them_over_interruptions(folder, tmp_path):
    out = tmp_path / "out.safetensors"
    training.train(folder, out, minutes=0.003, **TINY)
    state = torch.load(f"{out}.state", weights_only=True)
    assert state["seconds"] >= 0.18
    training.train(folder, out, minutes=0.003, **TINY)
    assert torch.load(f"{out}.state", weights_only=True)["step"] == state["step"]


def test_a_state_of_other_settings_or_damaged_is_refused(folder, tmp_path, capsys):
    out, state = tmp_path / "out.safetensors", tmp_path / "out.safetensors.state"
    training.train(folder, out, steps=2, **TINY)
    with pytest.raises(InputError, match="with steps 2, not 3"):
        training.train(folder, out, steps=3, **TINY)
    whole = torch.load(state, weights_only=True)
    for damage in ("step", "network", "optimizer"):
        torch.save({name: value for name, value in whole.items() if name != damage}, state)
        with pytest.raises(InputError, match="does not fit"):
            training.train(folder, out, steps=2, **TINY)
    moments = whole["optimizer"]["state"][0]
    moments["exp_avg"] = moments["exp_avg"][:1]
    torch.save(whole, state)
    with pytest.raises(InputError, match="does not fit"):
        training.train(folder, out, steps=2, **TINY)
    data = state.read_bytes()
    for content in (data[: len(data) // 2], pickle.dumps(Code(), 2), b"", b"text", pickle.dumps([1], 2)):
        state.write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            training.train(folder, out, steps=2, **TINY)
    assert "ran code" not in capsys.readouterr().out


def test_a_full_disk_leaves_the_last_checkpoint(folder, tmp_path, monkeypatch):
    out = tmp_path / "out.safetensors"
    kill_at_write(monkeypatch, 3)
    with pytest.raises(Killed):
        training.train(folder, out, steps=4, checkpoint_minutes=0, **TINY)
    monkeypatch.undo()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    def refuse(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(image.os, "replace", refuse)
    with pytest.raises(InputError, match="No space left"):
        training.train(folder, out, steps=4, checkpoint_minutes=0, **TINY)
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    training.train(folder, out, steps=4, **TINY)


def test_a_run_that_diverges_keeps_the_last_checkpoint(folder, tmp_path, monkeypatch):
    out = tmp_path / "out.safetensors"
    kill_at_write(monkeypatch, 2)
    with pytest.raises(Killed):
        training.train(folder, out, steps=3, checkpoint_minutes=0, **TINY)
    monkeypatch.undo()
    before = out.read_bytes()
    monkeypatch.setattr(objective, "loss", lambda D, wanted, sigma: D.mean() * float("nan"))
    with pytest.raises(InputError, match="diverged"):
        training.train(folder, out, steps=3, checkpoint_minutes=0, **TINY)
    assert out.read_bytes() == before


def test_the_export_is_a_prior_with_its_history(folder, tmp_path):
    out = tmp_path / "out.safetensors"
    training.train(folder, out, steps=1, batch=1, crop=32, half=True)
    assert {tensor.dtype for tensor in load_file(out).values()} == {torch.float16}
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
    assert (metadata["steps"], metadata["images_seen"]) == ("1", "1")
    assert '"crop": 32' in metadata["settings"]
    x = photo_like(1, (3, 16, 16), torch.float32)
    assert Natural(out, dtype=torch.float32)(x, 0.1).shape == x.shape


def test_a_start_file_gives_weights_and_widths(folder, tmp_path):
    network = random_network((8, 16, 24), 3, 32)
    start = tmp_path / "start.safetensors"
    save_file(network.state_dict(), start)
    read = natural.read_network(start)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in read.state_dict().items())
    options = {"steps": 1, "learning_rate": 1e-12, "crop": 32, "batch": 1}
    training.train(folder, tmp_path / "out.safetensors", start=start, **options)
    exported = load_file(tmp_path / "out.safetensors")
    torch.testing.assert_close(exported["mid.2.a.weight"], network.state_dict()["mid.2.a.weight"])

    state = network.state_dict()
    state["middle"] = state.pop("out.bias")
    save_file(state, start)
    with pytest.raises(InputError, match=r"lacks out\.bias"):
        natural.read_network(start)
    save_file({"weight": torch.zeros(3)}, start)
    with pytest.raises(InputError, match=r"lacks mid\.0\.a\.weight"):
        natural.read_network(start)


def test_a_fresh_network_starts_as_the_preconditioning_alone():
    x = torch.randn(1, 3, 16, 16)
    assert checkpoint.fresh_network((8, 8, 8), 1)(x, torch.zeros(1)).abs().max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either a number of steps or minutes"),
        ({"steps": 1, "minutes": 1.0}, "either a number of steps or minutes"),
        ({"steps": 0}, "must be positive"),
        ({"steps": 1, "crop": 20}, "multiple of 8"),
        ({"steps": 1, "batch": 0}, "at least 1"),
        ({"steps": 1, "learning_rate": float("nan")}, "between 0 and 1"),
        ({"steps": 1, "channels": (8, 8)}, "three widths"),
        ({"steps": 1, "device": "nonsense"}, "cannot be used"),
    ],
)
def test_settings_out_of_range_are_refused(folder, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        training.train(folder, tmp_path / "out.safetensors", **options)


def test_the_command_passes_its_options_on(folder, tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    parser = argparse.ArgumentParser()
    training.add_arguments(parser)
    tiny = ["--channels=8,8,16", "--blocks=1", "--batch=2", "--crop=32", "--steps=1", "--device=cpu"]
    training.run(parser.parse_args(["--images", str(folder), "--out", str(out), *tiny]))
    assert load_file(out)["mid.0.a.weight"].shape[0] == 16
    assert "50/255" in capsys.readouterr().out
