"""The race: what is counted, who runs, what is told and what is not."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import photo_like

import lmaps_fast as lf
from lmaps_fast.apps import cli
from lmaps_fast.denoisers import EDM
from lmaps_fast.denoisers.natural import UNet
from lmaps_fast.files import image
from lmaps_fast.race import report, run
from lmaps_fast.race.contenders import COLLAPSED, LOOP, PUBLISHED, Contender, contenders
from lmaps_fast.race.meter import Counts, Metered, counted

SHAPE = (3, 32, 32)


@pytest.fixture
def denoiser():
    torch.manual_seed(0)
    small = EDM(UNet((16, 24, 32), 1))
    small.preset = "natural"  # 20 network calls
    return small


def restorations(task, denoiser, solver, form, **options):
    operator = lf.operators.create(task, SHAPE)
    entered, _ = contenders(operator, denoiser, [solver], others=False)
    x = photo_like(1, SHAPE, torch.float32)
    chosen = [contender for contender in entered if contender.form == form]
    with torch.no_grad():
        return list(run.race(chosen, operator, denoiser, [x], **{"rounds": 1} | options))


def test_what_is_counted_is_what_was_called(denoiser):
    operator = lf.operators.create("gaussian_deblurring", SHAPE)
    counts = Counts()
    twin, metered = counted(operator, counts), Metered(denoiser, counts)
    x = photo_like(1, SHAPE, torch.float32).requires_grad_()
    torch.testing.assert_close(twin(x), operator(x))
    twin.gradient(x, operator(x))  # one call, whatever it calls itself
    assert counts.operator_calls == 2
    D = metered(x, 0.5)
    (metered_gradient,) = torch.autograd.grad(D.square().sum(), x)
    (gradient,) = torch.autograd.grad(denoiser(x, 0.5).square().sum(), x)
    torch.testing.assert_close(metered_gradient, gradient)
    with torch.no_grad():
        torch.testing.assert_close(metered(x, 0.5), D)
    assert (counts.network_calls, counts.gradient_calls) == (2, 1)
    assert counts.network_seconds > 0


def test_the_metered_network_keeps_the_fused_step(denoiser):
    counts = Counts()
    inner = Metered(denoiser, counts).preconditioned(SHAPE)
    x = photo_like(1, SHAPE, torch.float32)
    sigma = torch.tensor([0.5], dtype=torch.float64)
    condition = denoiser.condition(sigma)
    assert torch.equal(inner.condition(sigma), condition)
    torch.testing.assert_close(inner.evaluate(x, condition.float()), denoiser.evaluate(x, condition.float()))
    assert counts.network_calls == 1
    assert inner.preconditioning(sigma) == denoiser.preconditioning(sigma)
    assert Metered(lambda x, sigma: x, counts).preconditioned(SHAPE) is None


def test_a_metered_denoiser_takes_levels_as_its_own_does_and_is_never_recorded(denoiser):
    counts = Counts()
    metered, sigma = Metered(denoiser, counts), torch.tensor([0.5, 2.0], dtype=torch.float64)
    x = photo_like(2, SHAPE, torch.float32).requires_grad_()
    assert metered.batched_sigma
    assert not metered.recordable  # a replay would be neither counted nor timed
    D = metered(x, sigma)
    torch.testing.assert_close(D, denoiser(x, sigma))
    (gradient,) = torch.autograd.grad(D.sum(), x)
    torch.testing.assert_close(gradient, torch.autograd.grad(denoiser(x, sigma).sum(), x)[0])
    assert (counts.network_calls, counts.gradient_calls) == (1, 1)
    assert not Metered(lambda x, sigma: x, counts).batched_sigma


def test_counted_operators_share_one_class(denoiser):
    """Each class of operators stays registered with torch: a race of many restorations must not make many."""
    operator, counts = lf.operators.create("denoising", SHAPE), Counts()
    one, other = counted(operator, counts), counted(operator, Counts())
    assert type(one) is type(other)
    one(photo_like(1, SHAPE, torch.float32))
    assert (one.counts.operator_calls, other.counts.operator_calls) == (1, 0)
    assert one.kind == counted(operator, counts).kind


@pytest.mark.parametrize(
    ("form", "operator_calls"), [(COLLAPSED, 2), (LOOP, 2000), (PUBLISHED, 2000)], ids=lambda value: str(value)
)
def test_each_form_of_lmaps_costs_what_it_should(denoiser, form, operator_calls):
    (result,) = restorations("denoising", denoiser, "lmaps", form)
    assert (result.network_calls, result.gradient_calls) == (20, 0)
    assert result.operator_calls == operator_calls  # collapsed: a start; its steps are fused kernels and no calls
    assert result.share == 1
    assert 0 < result.network_seconds < result.seconds


def test_forms_of_one_solver_end_in_the_same_image(denoiser):
    psnr = [restorations("super_resolution", denoiser, "lmaps", f)[0].psnr for f in (COLLAPSED, LOOP, PUBLISHED)]
    assert max(psnr) - min(psnr) < 0.01


def test_what_takes_too_long_is_told_by_its_share(denoiser):
    (result,) = restorations("super_resolution", denoiser, "daps", LOOP, longest=0.0)
    assert result.share == pytest.approx(1 / 200)
    assert result.network_calls == pytest.approx(1000)
    assert result.operator_calls == pytest.approx(20000)
    assert result.psnr is None
    assert "~" in report.table([result])


def test_who_cannot_run_is_absent_with_the_reason(denoiser):
    _, absent = contenders(lf.operators.create("jpeg_restoration", SHAPE), denoiser, others=False)
    assert "DAPS, loop" in absent
    assert all(reason for reason in absent.values())


def test_parity_is_told_and_its_failure_hides_speed_ups(denoiser, monkeypatch):
    x = photo_like(1, SHAPE, torch.float32)
    large = (1, 96, 400)  # which separable operators restore in tiles
    for task, shape in (
        *((task, SHAPE) for task in ("super_resolution", "high_dynamic_range", "motion_deblurring", "phase_retrieval")),
        *((task, large) for task in ("super_resolution", "gaussian_deblurring")),
    ):
        operator, photo = lf.operators.create(task, shape), photo_like(1, shape, torch.float32)
        with torch.no_grad():
            assert run.parity(operator, photo, operator.measure(photo)) is None
    operator = lf.operators.create("super_resolution", SHAPE)
    right = type(operator).local_map
    monkeypatch.setattr(type(operator), "local_map", lambda self, *given: 1.001 * right(self, *given))
    with torch.no_grad():
        assert "super_resolution" in run.parity(operator, x, operator.measure(x))
    (result,) = restorations("super_resolution", denoiser, "daps", COLLAPSED, longest=60.0)
    winner = replace(result, solver="lmaps", name=report.WINNER, seconds=result.seconds / 30)
    assert "30.0x" in report.table([result, winner])
    assert "30.0x" not in report.table([result, winner], "they differ")
    assert "30x" in report.summary([result, winner], {})
    assert "30x" not in report.summary([result, winner], {"super_resolution": "they differ"})


def test_a_failure_ends_no_race(denoiser):
    def build(operator, denoiser):
        raise lf.InputError("it cannot")

    told = []
    broken = Contender("broken", LOOP, lambda operator: operator, build)
    operator = lf.operators.create("denoising", SHAPE)
    x = photo_like(1, SHAPE, torch.float32)
    assert not list(run.race([broken], operator, denoiser, [x], rounds=2, say=told.append))
    assert told == ["denoising, broken, loop: it cannot"]


def test_the_command_writes_its_files_and_goes_on(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    image.write(photos / "a.png", image.Picture(photo_like(1, SHAPE, torch.float32)))
    command = ["bench", "race", "--images", str(photos), "-o", str(out), "--no-peers", "--rounds", "1"]
    assert cli.main([*command, "--solvers", "lmaps", "ddrm", "--tasks", "denoising"]) == 0
    assert {path.name for path in out.iterdir()} == {"race.json", "race.md", "psnr.png", "time.png"}
    record = json.loads((out / "race.json").read_text())
    assert {each["name"] for each in record["results"]} >= {"LMAPS, collapsed", "DDRM, no inner steps"}
    assert "LMAPS, collapsed" in (out / "race.md").read_text()
    assert cli.main([*command, "--solvers", "lmaps", "--tasks", "denoising", "quantization", "--go-on"]) == 0
    later = json.loads((out / "race.json").read_text())["results"]
    assert later[: len(record["results"])] == record["results"]
    assert {each["task"] for each in later} == {"denoising", "quantization"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--tasks", "sharpening"], "unknown task"),
        (["--solvers", "fastest"], "unknown solver"),
        (["--rounds", "0"], "--rounds must be at least 1"),
        (["--images", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, capsys, options, sentence):
    image.write(tmp_path / "a.png", image.Picture(photo_like(1, SHAPE, torch.float32)))
    command = ["bench", "race", "--images", str(tmp_path), "-o", str(tmp_path / "out"), "--no-plot", *options]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
