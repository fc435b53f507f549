"""The README's examples of priors, run as they stand on small networks."""

import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from conftest import importable_torchvision, photo_like

import lmaps_fast as lf

README = Path(__file__).parent.parent / "README.md"
SECTION = README.read_text().partition("### Bring your own prior")[2].partition("### Other solvers")[0]
EXAMPLES = re.findall(r"```python\n(.*?)```", SECTION, re.S)


def example(word):
    (found,) = [text for text in EXAMPLES if word in text]
    return found


@contextmanager
def a_problem(monkeypatch, folder):
    """Where the example runs, and its variables."""
    monkeypatch.chdir(folder)
    operator = lf.operators.create("inpainting_random", (3, 32, 32))
    variables = {"lf": lf, "op": operator, "y": operator.measure(photo_like(1, (3, 32, 32), torch.float32))}
    yield variables
    assert variables["x_hat"].shape == (1, 3, 32, 32)
    assert variables["x_hat"].isfinite().all()


def test_a_callable(monkeypatch, tmp_path):
    with a_problem(monkeypatch, tmp_path) as variables:
        variables["network"] = lambda x, sigma: x / (1 + sigma**2)
        exec(example("my_denoiser"), variables)


def test_an_adm_checkpoint(monkeypatch, tmp_path, small_adm):
    torch.save(small_adm.state_dict(), tmp_path / "ffhq_10m.pt")
    with a_problem(monkeypatch, tmp_path) as variables:
        exec(example("ffhq_10m.pt"), variables)


def test_a_model_of_diffusers(monkeypatch, tmp_path):
    with importable_torchvision():
        diffusers = pytest.importorskip("diffusers", reason="pip install diffusers")
        blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
        unet = diffusers.UNet2DModel(32, block_out_channels=(16, 16), norm_num_groups=8, layers_per_block=1, **blocks)
        unet.save_pretrained(tmp_path / "my_model")
        diffusers.DDPMScheduler().save_pretrained(tmp_path / "my_model")
        with a_problem(monkeypatch, tmp_path) as variables:
            exec(example("diffusers"), variables)


def test_a_denoiser_of_deepinv(monkeypatch, tmp_path):
    with importable_torchvision():
        models = pytest.importorskip("deepinv.models", reason="pip install deepinv")
        torch.save(models.DnCNN(pretrained=None).state_dict(), tmp_path / "my_weights.pth")
        with a_problem(monkeypatch, tmp_path) as variables:
            exec(example("deepinv"), variables)
