"""Comparisons of checkpoints: what differs, by how much, and what looks like a mistake."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from making import save, save_pipeline, save_raw, save_shards

from soupctl import verbs
from soupctl.errors import MismatchError, UsageError
from soupctl.merge.blocks.grouping import block_of
from soupctl.verbs import DiffRequest, MatrixRequest


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def values(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float16)


def compare(one="a.st", other="b.st", **options):
    """The difference of the only component of two checkpoints."""
    (found,) = verbs.compare_checkpoints(DiffRequest(one, other, **options))
    return found


def names(tensors):
    return [each.name for each in tensors]


def test_checkpoints_are_equal_if_their_digests_are():
    arrays = {"one": values(1, 30, 7), "two": values(2, 5), "ids": np.arange(4)}
    save(Path("a.st"), {"note": "other metadata"}, **arrays)
    save_shards(Path("b"), "model", {"two": arrays["two"]}, {k: arrays[k] for k in ("ids", "one")})

    found = compare("a.st", "b")

    assert found.is_equal
    assert ((), None) == (found.differing, found.most_changed)
    (one,), (other,) = (verbs.content_digests(path) for path in ("a.st", "b"))
    assert one.digest == other.digest


@pytest.mark.parametrize("chunk", [1, 64, None])
def test_norms_and_cosines_are_those_of_all_elements(chunk, monkeypatch):
    if chunk is not None:
        monkeypatch.setattr("soupctl.merge.diff.compare.CHUNK", chunk)
    a, b = ({"one": values(seed, 9, 11), "two": values(seed + 1, 40)} for seed in (1, 5))
    save(Path("a.st"), None, **a)
    save(Path("b.st"), None, **b)

    found = compare()

    flat = [np.concatenate([x["one"].ravel(), x["two"]]).astype(float) for x in (a, b)]
    change = np.linalg.norm(flat[1] - flat[0]) / np.linalg.norm(flat[0])
    cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    assert pytest.approx(change, rel=1e-12) == found.total.moments.relative_change
    assert pytest.approx(cosine, rel=1e-12) == found.total.moments.cosine
    largest = max(np.abs(b[name].astype(float) - a[name]).max() for name in a)
    assert largest == found.most_changed.moments.largest


def test_signs_of_zeros_and_dtypes_count_as_differences_though_no_value_changes():
    save(Path("a.st"), zeros=np.zeros(3, np.float32), same=np.ones(3, np.float32))
    save(Path("b.st"), zeros=-np.zeros(3, np.float32), same=np.ones(3, np.float16))

    found = compare()

    assert ["same", "zeros"] == names(found.differing)
    assert [0, 0] == [each.moments.differing for each in found.differing]
    assert not found.is_equal


def test_other_names_and_shapes_are_listed_and_the_rest_is_compared():
    both = values(1, 8)
    save(Path("a.st"), mine=both, wide=values(2, 4, 6), odd=values(3, 4, 6), both=both)
    turned = np.ascontiguousarray(values(2, 4, 6).T)
    save(Path("b.st"), theirs=both, wide=turned, odd=values(4, 6, 4), both=both)

    found = compare()

    assert (("mine",), ("theirs",)) == found.only
    assert {"wide": True, "odd": False} == {e.name: e.is_transposed for e in found.reshaped}
    assert ["both"] == names(found.tensors)
    assert not found.is_equal


def test_zeroed_and_transposed_tensors_are_suspected():
    square = values(1, 7, 7)
    save(Path("a.st"), emptied=values(2, 5), filled=np.zeros(5, np.float16), turned=square)
    turned = np.ascontiguousarray(square.T)
    save(Path("b.st"), emptied=np.zeros(5, np.float16), filled=values(2, 5), turned=turned)

    found = {each.name: each for each in compare().tensors}

    assert {"emptied": 1, "filled": 0, "turned": None} == {k: e.zeros_in for k, e in found.items()}
    assert ["turned"] == [name for name, each in found.items() if each.is_transposed]


def test_a_known_renaming_is_undone_and_told():
    arrays = {"down.weight": values(1, 6), "up.weight": values(2, 6)}
    save(Path("a.st"), None, **arrays)
    save(Path("b.st"), None, **{f"module.{name}": array for name, array in arrays.items()})

    found = compare()

    assert ((), ()) == found.only
    assert not found.differing
    assert "module." in found.renamed
    assert not found.is_equal


def test_integers_are_compared_by_their_bytes():
    save(Path("a.st"), ids=np.arange(10), mask=np.ones(3, bool))
    save(Path("b.st"), ids=np.arange(10) // 9 * 9, mask=np.ones(3, bool))

    (ids,) = compare().differing

    assert ("ids", 8, None) == (ids.name, ids.moments.differing, ids.moments.cosine)


def test_codes_with_a_scale_are_compared_by_the_numbers_that_they_represent():
    codes = np.arange(0x30, 0x40, dtype=np.uint8)
    scale = np.float32(2).tobytes()
    scaled = {
        "w.weight": ("F8_E4M3", (4, 4), codes.tobytes()),
        "w.scale_weight": ("F32", (), scale),
        "scaled_fp8": ("F8_E4M3", (2,), bytes(2)),
    }
    save_raw(Path("a.st"), scaled)
    # the codes from 0x30 on are 0.5, 0.5625 and so on
    plain = 2 * np.concatenate([0.5 + np.arange(8) / 16, 1 + np.arange(8) / 8])
    save(Path("b.st"), **{"w.weight": plain.reshape(4, 4).astype(np.float16)})

    (weight,) = (each for each in compare().tensors if each.name == "w.weight")

    assert 0 == weight.moments.differing
    assert sqrt((plain**2).sum()) == pytest.approx(sqrt(weight.moments.one), rel=1e-12)


def test_only_the_selected_tensors_are_compared():
    save(Path("a.st"), **{"in.weight": values(1, 4), "out.weight": values(2, 4)})
    save(Path("b.st"), **{"in.weight": values(1, 4), "out.weight": values(3, 4)})

    assert compare(keys=("in.*",)).is_equal
    assert compare(excludes=("out.*",)).is_equal
    with pytest.raises(UsageError, match="matches no tensor"):
        compare(keys=("nothing.*",))


def test_pipelines_are_compared_component_by_component():
    for seed in (1, 2):
        save_pipeline(Path(f"pipe-{seed}"), seed)

    found = verbs.compare_checkpoints(DiffRequest("pipe-1", "pipe-2"))

    assert {"text_encoder", "unet", "vae"} == {each.name for each in found}
    assert not any(each.is_equal for each in found)
    save(Path("c.st"), w=values(1, 3))
    with pytest.raises(MismatchError, match="components"):
        verbs.compare_checkpoints(DiffRequest("pipe-1", "c.st"))


def test_differences_are_added_up_by_block():
    tensors = ("blocks.0.a", "blocks.0.b", "blocks.1.a")
    save(Path("a.st"), **{name: values(1, 4) for name in tensors})
    changed = {"blocks.0.b": values(2, 4)}
    save(Path("b.st"), **{name: values(1, 4) for name in tensors} | changed)

    first, second = compare().grouped(block_of(tensors))

    assert ("blocks.0", 2, 1) == (first.name, first.tensors, first.differing)
    assert ("blocks.1", 1, 0) == (second.name, second.tensors, second.differing)
    assert 8 == first.moments.elements


def test_named_blocks_are_found_in_every_tensor_of_a_known_model():
    unet = [f"down_blocks.{n}.resnets.0.conv1.weight" for n in range(4)]
    others = ["mid_block.x", "up_blocks.0.resnets.2.conv1.weight", "conv_in.weight"]
    group_of = block_of([*unet, *others])

    assert ["IN01", "IN04", "IN07", "IN10"] == [group_of(name) for name in unet]
    assert ["M00", "OUT02", "IN00"] == [group_of(name) for name in others]


def matrix(base, *others, **options):
    (found,) = verbs.compare_deltas(MatrixRequest(base, others, **options))
    return found


def test_cosines_of_deltas_are_those_of_all_elements(monkeypatch):
    monkeypatch.setattr("soupctl.merge.diff.matrix.CHUNK", 16)
    arrays = [{"one": values(seed, 5, 9), "two": values(seed + 9, 7)} for seed in range(4)]
    for place, each in enumerate(arrays):
        save(Path(f"{place}.st"), None, **each)

    found = matrix("0.st", "1.st", "2.st", "3.st")

    flat = [np.concatenate([x["one"].ravel(), x["two"]]).astype(float) for x in arrays]
    deltas = np.array([each - flat[0] for each in flat[1:]])
    norms = np.linalg.norm(deltas, axis=1)
    assert np.allclose(deltas @ deltas.T / np.outer(norms, norms), found.cosines, rtol=1e-12)
    assert np.allclose(norms / np.linalg.norm(flat[0]), found.changes, rtol=1e-12)
    conflicts = ((deltas > 0).any(0) & (deltas < 0).any(0)).sum()
    changed = ((deltas != 0).sum(0) > 1).sum()
    assert conflicts / changed == found.conflict_ratio


def test_an_unchanged_checkpoint_has_no_cosine():
    save(Path("base.st"), w=values(1, 6))
    save(Path("b.st"), w=values(2, 6))

    found = matrix("base.st", "base.st", "b.st")

    assert ((None, None), (None, pytest.approx(1.0))) == found.cosines
    assert None is found.conflict_ratio


def test_tensors_that_not_all_have_in_one_shape_are_listed():
    save(Path("base.st"), w=values(1, 6), wide=values(2, 4), ids=np.arange(3), mine=values(3, 2))
    save(Path("b.st"), w=values(4, 6), wide=values(2, 5), ids=np.arange(3))

    found = matrix("base.st", "b.st", "b.st")

    assert (1, ("ids", "mine", "wide")) == (found.tensors, found.left_out)


@pytest.mark.parametrize("count", [0, 1, 65])
def test_a_matrix_is_of_two_to_sixty_four_checkpoints(count):
    with pytest.raises(UsageError, match=f"2 to 64 checkpoints, not {count}"):
        MatrixRequest("base.st", ("a.st",) * count)
