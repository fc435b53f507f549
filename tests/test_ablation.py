"""bench/ablation.py and the description of the machine, at tiny sizes with a denoiser of one line."""

import json
import sys

import ablation
import ablation_grid
import pytest
import torch
from conftest import photo_like

import lmaps_fast as lf
from lmaps_fast.apps import evaluate
from lmaps_fast.files import image
from lmaps_fast.race import machine


class Shrink:
    """The posterior mean of a white Gaussian prior of standard deviation .5."""

    preset = "natural"

    def __call__(self, x, sigma):
        return x * (0.25 / (0.25 + sigma**2))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(lf.denoisers, "load", lambda source="natural", *arguments, **options: Shrink())
    monkeypatch.setattr(ablation, "PUBLISHED", {(4, 3): (61, 30.88), (2, 50): (6, 30.0)})
    monkeypatch.setattr(ablation_grid, "STEPS", (2, 4))
    monkeypatch.setattr(ablation_grid, "INNER_STEPS", (1, 5, 50))
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(2):
        image.write(photos / f"{i}.png", image.Picture(photo_like(1, (3, 24, 32), torch.float32, i)))
    return photos


def problem(folder):
    _, photos = evaluate.of_one_size(folder, None, None)
    operator = lf.operators.create("gaussian_deblurring", tuple(photos.shape[1:]))
    return operator, photos, ablation.settings(operator, Shrink())


def test_the_papers_table():
    assert list(ablation.PUBLISHED) == [(200, 100), (100, 10), (20, 100), (100, 20), (20, 20)]


def test_a_row_for_each_pair_and_setting_and_both_forms_agree(folder):
    operator, photos, chosen = problem(folder)
    rows = ablation.efficiency(operator, Shrink(), photos, chosen, rounds=2, most_steps=50)
    assert [(row["settings"], row["N"], row["K"]) for row in rows] == [
        (name, *pair) for name in ("natural", "paper") for pair in ((4, 3), (2, 50))
    ]
    y = operator.measure(photos)
    for row in rows:
        assert row["psnr_difference"] < 1e-3
        assert row["speed_up"] > 0
        assert row["collapsed"]["photographs"] == 2
        assert row["loop"]["photographs"] == (2 if row["N"] == 4 else 1)  # 2 x 50 steps are more than 50
        preset = chosen[row["settings"]].override(steps=row["N"], inner_steps=row["K"])
        psnr = lf.metrics.psnr(lf.restore(y, operator, Shrink(), preset=preset), photos)
        assert row["collapsed"]["psnr"] == pytest.approx(psnr.mean().item(), abs=1e-3)
        if row["N"] == 2:
            assert row["loop"]["psnr"] == pytest.approx(psnr[0].item(), abs=1e-3)
    text = ablation.table(rows, len(photos))
    assert text.count("(1 of 2)") == 2
    assert "| 61 | 30.88 |" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


@pytest.mark.parametrize("psnr", [30.2, float("nan")])
def test_no_speed_up_where_the_two_forms_differ(psnr):
    runs = {"collapsed": [(1.0, 30.0, 0.8), (1.0, psnr, 0.8)], "loop": [(9.0, 30.0, 0.8), (9.0, 30.0, 0.8)]}
    row = ablation._row("gaussian_deblurring", "paper", 200, 100, runs, 1)
    assert row["speed_up"] is None
    assert "results differ" in ablation.table([row], 2)
    runs["collapsed"][1] = runs["collapsed"][0]
    assert ablation._row("gaussian_deblurring", "paper", 200, 100, runs, 1)["speed_up"] == 9


def test_the_loop_on_the_first_photograph_is_compared_with_that_one():
    collapsed = [(1.0, 30.0, 0.8), (1.0, 20.0, 0.8)] * 2
    row = ablation._row("denoising", "paper", 200, 100, {"collapsed": collapsed, "loop": [(3.0, 30.0, 0.8)] * 2}, 2)
    assert row["psnr_difference"] == 0
    assert (row["collapsed"]["photographs"], row["loop"]["photographs"]) == (2, 1)
    assert row["published"] == {"seconds": None, "psnr": None}


def test_grids_are_those_of_single_restorations_whatever_the_batch(folder, monkeypatch):
    operator, photos, chosen = problem(folder)
    preset, calls, found = chosen["natural"], [], []
    for batch in (1, 2):
        monkeypatch.setattr(ablation_grid, "quickest_batch", lambda *arguments, batch=batch: batch)
        calls.clear()
        found.append(ablation_grid.grids(operator, Shrink(), photos, preset, calls.append))
        assert sum(calls) == sum(grid["network_calls"] for grid in found[-1].values()) == 2 * (6 * 3 + 25 * 20)
    y = operator.measure(photos)
    for one, two in zip(found[0].values(), found[1].values(), strict=True):
        torch.testing.assert_close(torch.tensor(one["psnr"]), torch.tensor(two["psnr"]), atol=1e-3, rtol=0)
    x = lf.restore(y, operator, Shrink(), preset=preset, steps=4, inner_steps=5)
    assert found[0]["N x K"]["psnr"][1][1] == pytest.approx(lf.metrics.psnr(x, photos).mean().item(), abs=1e-3)
    grid = found[0]["k1 x k2"]
    assert (grid["rows"][1][2], grid["columns"][1][2]) == (preset.k1, preset.k2)
    shorter = preset.override(k1=preset.k1 * 2, k2=preset.k2 / 4, lr=preset.lr * 4)
    x = lf.restore(y, operator, Shrink(), preset=shorter)
    assert grid["psnr"][3][0] == pytest.approx(lf.metrics.psnr(x, photos).mean().item(), abs=1e-3)
    assert f"| {preset.k1:g} | " in ablation_grid.markdown(grid)


def test_the_command_writes_json_and_plot(folder, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is optional")
    out, plot = tmp_path / "out.json", tmp_path / "out.png"
    ablation.main([str(folder), "--photographs", "1", "--crop", "16", "--json", str(out), "--plot", str(plot)])
    text = capsys.readouterr().out
    assert "| natural | 4, 3 |" in text
    assert "N x K: 18 network calls" in text
    result = json.loads(out.read_text())
    assert {"processor", "threads", "torch", "revision", "date", "command"} <= result["machine"].keys()
    assert (result["photographs"], result["shape"]) == (["0.png"], [3, 16, 16])
    assert result["settings"]["gaussian_deblurring"]["paper"]["k2"] == 100
    assert len(result["table"]["gaussian_deblurring"]) == 4
    assert [len(line) for line in result["grids"]["gaussian_deblurring"]["N x K"]["psnr"]] == [3, 3]
    assert image.read(plot).pixels.shape[1] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.png", "photos"]


def test_json_has_null_for_what_is_no_number():
    assert ablation.finite({"a": [float("nan"), 1.5], "b": float("inf")}) == {"a": [None, 1.5], "b": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_folder"], "no such folder"),
        (["{folder}", "--rounds", "0"], "--rounds"),
        (["{folder}", "--crop", "0"], "--crop"),
        (["{folder}", "--json", "out.txt"], "unknown ending"),
        (["{folder}", "--only", "table", "--plot", "x.png"], "--plot"),
    ],
)
def test_bad_input_is_one_sentence(arguments, message, folder):
    with pytest.raises(SystemExit, match=message) as caught:
        ablation.main([argument.format(folder=folder) for argument in arguments])
    assert "\n" not in str(caught.value)


def test_photographs_of_two_sizes_need_a_crop(folder):
    image.write(folder / "2.png", image.Picture(photo_like(1, (3, 40, 24), torch.float32)))
    with pytest.raises(SystemExit, match="differ in size"):
        ablation.main([str(folder)])
    assert evaluate.of_one_size(folder, None, 24)[1].shape == (3, 3, 24, 24)


def test_a_missing_matplotlib_is_named_before_anything_is_measured(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(evaluate, "of_one_size", lambda *arguments: pytest.fail("measured first"))
    with pytest.raises(SystemExit, match="pip install matplotlib"):
        ablation.main([str(folder), "--plot", str(tmp_path / "x.png")])


def test_the_machine_is_described_in_json():
    about = machine.describe()
    assert json.loads(json.dumps(about)) == about
    assert about["threads"] == torch.get_num_threads()
    assert str(about["threads"]) in machine.line(about)
