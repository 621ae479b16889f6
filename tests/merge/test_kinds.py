"""Tensors that are not plain weights are copied where all share them, and else refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from making import contents, save, save_raw

from soupctl.choices import OnInt
from soupctl.errors import MismatchError
from soupctl.merge.average import Request, average, open_job
from soupctl.merge.revise import revise
from soupctl.merge.revision import Revision
from soupctl.merge.verify import verify

RANDOM = np.random.default_rng(0)


def weight(*shape: int) -> np.ndarray:
    return RANDOM.normal(0, 1, shape or (4, 4)).astype("f4")


def soup(tmp_path: Path, *paths: Path, **options: object) -> dict[str, np.ndarray]:
    request = Request(paths, tmp_path / "soup.safetensors", **options)  # type: ignore[arg-type]
    average(request, force=True)
    return dict(safetensors.numpy.load_file(request.output))


def refusal(tmp_path: Path, *paths: Path, **options: object) -> str:
    with pytest.raises(MismatchError) as caught:
        soup(tmp_path, *paths, **options)
    return caught.value.message()


NF4 = {
    "q.weight": np.arange(8, dtype="u1").reshape(8, 1),
    "q.weight.absmax": np.ones(1, "f4"),
    "q.weight.quant_map": np.linspace(-1, 1, 16, dtype="f4"),
    "q.weight.quant_state.bitsandbytes__nf4": np.arange(9, dtype="u1"),
}


@pytest.mark.parametrize("changed", [*NF4])
def test_quantised_tensors_are_copied_only_if_codes_and_companions_are_the_same(tmp_path, changed):
    other = {**NF4, changed: NF4[changed] + 1}
    a = save(tmp_path / "a.safetensors", **NF4, w=weight())
    b = save(tmp_path / "b.safetensors", **NF4, w=weight())
    c = save(tmp_path / "c.safetensors", **other, w=weight())

    made = soup(tmp_path, a, b)
    assert all(np.array_equal(made[name], array) for name, array in NF4.items())
    for on_int in OnInt:
        said = refusal(tmp_path, a, c, on_int=on_int)
        assert "q.weight: is quantised (nf4) (average the unquantised weights)" in said
        assert "--on-int" not in said


def test_a_quantised_and_an_unquantised_checkpoint_are_refused_as_such(tmp_path):
    a = save(tmp_path / "a.safetensors", **NF4)
    b = save(tmp_path / "b.safetensors", **{"q.weight": weight()})

    for paths in ((a, b), (b, a)):
        assert f"{a}: q.weight: is quantised (nf4)" in refusal(tmp_path, *paths)


def test_factors_that_all_share_are_copied_beside_the_mean_of_the_rest(tmp_path):
    name = "layers.0.mlp."
    factors = {
        name + "lora_A.vision.weight": weight(2, 8),
        name + "lora_B.vision.weight": weight(8, 2),
    }
    bases = [weight(8, 8), weight(8, 8)]
    a, b = (
        save(tmp_path / f"{n}.safetensors", **factors, **{name + "base_layer.weight": base})
        for n, base in zip("ab", bases, strict=True)
    )

    made = soup(tmp_path, a, b)

    assert all(np.array_equal(made[each], array) for each, array in factors.items())
    mean = ((bases[0].astype("f8") + bases[1]) / 2).astype("f4")
    assert np.array_equal(mean, made[name + "base_layer.weight"])


SCHEDULE = np.array([0.5, -np.inf, np.nan], "f4")


@pytest.mark.parametrize("keep_sum", [False, True])
def test_a_constant_that_all_share_is_copied_even_if_it_is_not_finite(tmp_path, keep_sum):
    paths = [save(tmp_path / f"{n}.safetensors", log_sigmas=SCHEDULE, w=weight()) for n in range(3)]
    made = soup(tmp_path, *paths, keep_sum=keep_sum)

    assert SCHEDULE.tobytes() == made["log_sigmas"].tobytes()
    path = tmp_path / "soup.safetensors"
    assert [None] == [each.problem for each in verify(path)]
    revise(Revision("subtract", path, path, removed=[str(paths[2])]), force=True)
    changed = path.read_bytes()
    two = soup(tmp_path / "two", *paths[:2]) if (tmp_path / "two").mkdir() is None else {}
    assert SCHEDULE.tobytes() == two["log_sigmas"].tobytes()
    assert two["w"].tobytes() in changed


def test_a_constant_that_differs_is_refused_with_both_values(tmp_path):
    a = save(tmp_path / "a.safetensors", alphas_cumprod=np.array([1, 0.5], "f4"))
    b = save(tmp_path / "b.safetensors", alphas_cumprod=np.array([1, 0.25], "f4"))

    said = refusal(tmp_path, a, b)

    assert f"{b}: alphas_cumprod: is a constant (noise schedule), and has 0.25 where" in said
    assert f"{a} has 0.5" in said


def test_counters_that_differ_may_be_those_of_the_first(tmp_path):
    a = save(tmp_path / "a.safetensors", **{"bn.num_batches_tracked": np.int64(3), "w": weight()})
    b = save(tmp_path / "b.safetensors", **{"bn.num_batches_tracked": np.int64(4), "w": weight()})

    said = refusal(tmp_path, a, b)
    assert "has 4 where" in said
    assert "--on-int first" in said
    assert 3 == soup(tmp_path, a, b, on_int=OnInt.FIRST)["bn.num_batches_tracked"]


def test_a_dry_run_refuses_differing_tensors_as_the_run_does(tmp_path):
    a = save(tmp_path / "a.safetensors", alphas_cumprod=np.array([1, 0.5], "f4"))
    b = save(tmp_path / "b.safetensors", alphas_cumprod=np.array([1, 0.25], "f4"))

    with pytest.raises(MismatchError), open_job(Request((a, b), tmp_path / "o.safetensors")):
        pass


def test_statistics_of_batch_norm_are_averaged_and_it_is_said(tmp_path):
    a = save(tmp_path / "a.safetensors", **{"bn.running_mean": np.array([1.0], "f4")})
    b = save(tmp_path / "b.safetensors", **{"bn.running_mean": np.array([2.0], "f4")})

    with open_job(Request((a, b), tmp_path / "o.safetensors")) as job:
        assert "recalibrate" in job.notes[0]
    assert 1.5 == soup(tmp_path, a, b)["bn.running_mean"][0]


def test_settings_in_metadata_that_differ_are_refused_and_others_left_out(tmp_path):
    def made(name: str, **metadata: str) -> Path:
        return save(tmp_path / f"{name}.safetensors", metadata, w=weight())

    same = {"modelspec.prediction_type": "v", "config": '{"layers": 28}'}
    a, b = made("a", **same, **{"modelspec.title": "A"}), made("b", **same)
    c = made("c", **{**same, "modelspec.prediction_type": "epsilon"})
    d = made("d", **{**same, "config": '{"layers": 30}'})

    with open_job(Request((a, b), tmp_path / "o.safetensors")) as job:
        assert [dict(same)] == [dict(each.metadata) for each in job.components]
        assert "modelspec.title" in job.notes[0]
    assert "prediction_type 'epsilon' where" in refusal(tmp_path, a, c)
    assert "metadata 'config' differ from" in refusal(tmp_path, a, d)
    assert "layers 30, not 28" in refusal(tmp_path, a, d)


def test_a_clip_skip_that_differs_is_left_out_and_said(tmp_path):
    key = "modelspec.encoder_layer"
    paths = [save(tmp_path / f"{n}.safetensors", {key: str(n)}, w=weight()) for n in (1, 2)]

    with open_job(Request(paths, tmp_path / "o.safetensors")) as job:
        assert [{}] == [dict(each.metadata) for each in job.components]
        assert key in job.notes[0]


SCALES = ("q.scale_weight", "q.weight_scale_inv", "q.SCB", "q.wscales", "q.weight.absmax")


@pytest.mark.parametrize("scale", SCALES)
def test_the_scale_of_a_weight_that_is_not_there_is_never_averaged(tmp_path, scale):
    paths = [
        save(tmp_path / f"{n}.safetensors", norm=weight(4), **{scale: np.full(1, n, "f4")})
        for n in (1, 2)
    ]
    said = refusal(tmp_path, *paths)

    assert "is a scale of a weight that the file lacks" in said
    assert f"--exclude '{scale}'" in said
    assert {"norm"} == soup(tmp_path, *paths, excludes=(scale,)).keys()
    assert 1 == soup(tmp_path, paths[0], paths[0])[scale][0]


@pytest.mark.parametrize("in_both", [True, False])
def test_the_marker_of_scaled_fp8_says_nothing_in_files_without_scales(tmp_path, in_both):
    """ComfyUI reads the weights of such a file as they are."""
    marker = {"scaled_fp8": ("F8_E4M3", (0,), b"")}
    code = {name: {"q.weight": ("F8_E4M3", (1, 2), bytes([name, 8]))} for name in (8, 16)}
    a = save_raw(tmp_path / "a.safetensors", {**code[8], **marker})
    b = save_raw(tmp_path / "b.safetensors", {**code[16], **(marker if in_both else {})})
    average(Request((a, b), tmp_path / "soup.safetensors"))

    kept = contents(tmp_path / "soup.safetensors")
    assert {"q.weight": ("F8_E4M3", (1, 2), bytes([12, 8]))} == kept


def test_a_tensor_that_is_taken_with_another_shape_is_named(tmp_path):
    a, b = (save(tmp_path / f"{n}.safetensors", v=weight(), w=weight()) for n in "ab")
    donor = save(tmp_path / "donor.safetensors", v=weight(8, 4))
    request = Request((a, b), tmp_path / "o.safetensors", take=(("v", donor),))
    same = Request((a, b), tmp_path / "o.safetensors", take=(("v", a),))

    with open_job(request) as job:
        assert ("taken with another shape than the inputs have (--take): v",) == job.notes
    with open_job(same) as job:
        assert () == job.notes


def test_fp8_with_a_shared_scale_is_averaged_by_value(tmp_path):
    codes = {
        "q.weight": ("F8_E4M3", (2, 2), bytes([56, 57, 58, 59])),
        "q.weight_scale": ("F32", (), np.float32(0.5).tobytes()),
        "w": ("F32", (1,), np.float32(1).tobytes()),
    }
    paths = [save_raw(tmp_path / f"{n}.safetensors", codes) for n in "ab"]
    request = Request(paths, tmp_path / "soup.safetensors")
    average(request)

    # 1, 1.125, 1.25, 1.375, halved, in bfloat16
    assert bytes.fromhex("003f103f203f303f") in Path(request.output).read_bytes()


@pytest.mark.parametrize("keep_sum", [False, True])
def test_a_constant_that_is_rounded_in_some_is_copied_from_the_most_precise(tmp_path, keep_sum):
    schedule = np.linspace(0.00085, 0.012, 7, dtype="f4")
    a = save(tmp_path / "a.safetensors", alphas_cumprod=schedule, w=weight())
    b = save(tmp_path / "b.safetensors", alphas_cumprod=schedule.astype("f2"), w=weight())
    c = save(tmp_path / "c.safetensors", alphas_cumprod=schedule.astype("f2"), w=weight())
    d = save(tmp_path / "d.safetensors", alphas_cumprod=schedule[::-1].astype("f2"), w=weight())
    path = tmp_path / "soup.safetensors"

    for paths in ((a, b, c), (c, b, a)):
        made = soup(tmp_path, *paths, keep_sum=keep_sum)
        assert made["alphas_cumprod"].tobytes() == schedule.tobytes()
        assert [None] == [each.problem for each in verify(path)]
    assert "rounded to F16" in refusal(tmp_path, a, d)
    revise(Revision("subtract", path, path, removed=[str(a)]), force=True)
    left = safetensors.numpy.load_file(path)["alphas_cumprod"]
    assert left.tobytes() == schedule.astype("f2").tobytes()


def test_factors_and_codes_of_other_sizes_are_not_taken_for_weights_that_do_not_fit(tmp_path):
    for seed, rank in (("a", 2), ("b", 4)):
        lora = {"q.lora_down.weight": weight(rank, 8), "q.lora_up.weight": weight(8, rank)}
        save(tmp_path / f"lora-{seed}.safetensors", **lora)
        codes = {"q.weight": np.ones((rank, 8), "i1"), "q.weight_scale": weight(rank, 1)}
        save(tmp_path / f"codes-{seed}.safetensors", **codes, w=weight())

    for kind, what in (("lora", "is a LoRA factor"), ("codes", "is quantised (int8)")):
        said = refusal(tmp_path, *(tmp_path / f"{kind}-{seed}.safetensors" for seed in "ab"))
        assert what in said
        assert "--take" not in said
