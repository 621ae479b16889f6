"""A soup with weights by block is exact, and loses and gains ingredients as any soup does."""

from __future__ import annotations

import json
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from exact_means import mean_bytes
from making import contents, metadata, save, save_pipeline
from revising import assert_proven, average, revise, root, verified

from soupctl import verbs
from soupctl.errors import LedgerError, SoupError, UsageError
from soupctl.format.dtypes import DType
from soupctl.ledger.sealed import canonical
from soupctl.verbs import BlockWeights, Level, Method

HALF, ONE, NONE = Fraction(1, 2), Fraction(1), Fraction(0)
NAMES = ("left.w", "right.w", "out.w")
# near every rounding boundary of float16: subnormals, ties, the largest and both zeros
HARD = np.array(
    [0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x3C00, 0x3C01, 0xBC01, 0x7BFE, 0x7BFF, 0x6BFF], np.uint16
).view(np.float16)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Checkpoints a to d in the working folder, d in float32."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(7)
    for name in "abcd":
        kind = np.float32 if name == "d" else np.float16
        arrays = {each: generator.permutation(HARD).astype(kind) for each in NAMES}
        save(Path(f"{name}.st"), **arrays, ids=np.arange(2))


def by_block(default, **blocks) -> BlockWeights:
    return BlockWeights(tuple((f"{name}.*", each) for name, each in blocks.items()), default)


THREE = by_block((ONE, ONE, NONE), left=(HALF, NONE, Fraction(1, 3)), right=(-HALF, ONE, ONE))


def oracle(names: str, weights: tuple[Fraction, ...], tensor: str) -> tuple[str, bytes]:
    """Dtype and bytes of the exact mean of a tensor in the checkpoints that count."""
    held = [
        (weight, contents(Path(f"{name}.st"))[tensor])
        for name, weight in zip(names, weights, strict=True)
        if weight
    ]
    found = mean_bytes([(weight, DType(dtype), data) for weight, (dtype, _, data) in held])
    assert found is not None
    return found


def assert_is(path: str, names: str, asked: BlockWeights) -> None:
    blocks = {glob.removesuffix(".*"): weights for glob, weights in asked.blocks}
    found = contents(Path(path))
    for tensor in NAMES:
        weights = blocks.get(tensor.partition(".")[0], asked.default)
        dtype, _, data = found[tensor]
        assert oracle(names, weights, tensor) == (dtype, data), tensor


def test_every_tensor_is_the_exact_mean_with_the_weights_of_its_block():
    average("soup.st", "b.st", "a.st", "d.st", blocks=THREE)

    assert_is("soup.st", "bad", THREE)
    # d, which is wider, does not count in tensors of no block
    assert ["F32", "F32", "F16"] == [contents(Path("soup.st"))[name][0] for name in NAMES]
    assert_proven("soup.st")


def test_the_order_of_ingredients_does_not_show():
    average("one.st", "a.st", "b.st", "c.st", blocks=THREE)
    turned = by_block(
        THREE.default[::-1], **{glob[:-2]: weights[::-1] for glob, weights in THREE.blocks}
    )
    average("two.st", "c.st", "b.st", "a.st", blocks=turned)

    assert Path("one.st").read_bytes() == Path("two.st").read_bytes()


def test_taking_an_ingredient_out_is_one_average_of_the_others():
    average("soup.st", "a.st", "b.st", "d.st", blocks=THREE)
    revise("subtract", "soup.st", Path("less.st"), (), ["a.st"])
    left = by_block((ONE, NONE), left=(NONE, Fraction(1, 3)), right=(ONE, ONE))
    average("fresh.st", "b.st", "d.st", blocks=left)

    assert contents(Path("fresh.st")) == contents(Path("less.st"))
    assert_is("less.st", "bd", left)
    assert_proven("less.st")
    ((_, ledger),) = verbs.history("less.st")
    assert ("left.*", "right.*") == ledger.blocks


def test_an_added_weight_is_equal_in_all_blocks_and_a_swapped_one_keeps_its_proportions():
    average("soup.st", "a.st", "b.st", blocks=by_block((ONE, NONE), left=(HALF, HALF)))
    revise("add", "soup.st", Path("more.st"), [("c.st", 2)])
    assert_is("more.st", "abc", by_block((ONE, NONE, 2 * ONE), left=(HALF, HALF, 2 * ONE)))

    revise("swap", "more.st", Path("other.st"), ["d.st"], ["a.st"])
    assert_is("other.st", "dbc", by_block((ONE, NONE, 2 * ONE), left=(HALF, HALF, 2 * ONE)))
    revise("swap", "more.st", Path("double.st"), [("d.st", 2)], ["a.st"])
    assert_is("double.st", "dbc", by_block((2 * ONE, NONE, 2 * ONE), left=(ONE, HALF, 2 * ONE)))
    assert_proven("more.st", "other.st", "double.st")


def test_a_soup_with_the_same_blocks_adds_its_ingredients():
    blocks = by_block((ONE, NONE), left=(HALF, HALF))
    average("one.st", "a.st", "b.st", blocks=blocks)
    average("two.st", "c.st", "d.st", blocks=blocks)
    revise("add", "one.st", Path("both.st"), ["two.st"])

    together = by_block((ONE, NONE, ONE, NONE), left=(HALF,) * 4)
    assert_is("both.st", "abcd", together)
    assert_proven("both.st")


def test_a_soup_with_other_blocks_is_refused_with_the_way_out():
    average("one.st", "a.st", "b.st", blocks=by_block((ONE, NONE), left=(HALF, HALF)))
    average("two.st", "c.st", "d.st", blocks=by_block((ONE, NONE), right=(HALF, HALF)))

    with pytest.raises(LedgerError, match=r"has other blocks than the added soup \(average it as"):
        revise("add", "one.st", Path("both.st"), ["two.st"])


def test_removing_the_only_ingredient_of_a_block_is_refused_by_name():
    average("soup.st", "a.st", "b.st", blocks=by_block((ONE, ONE), left=(NONE, ONE)))

    with pytest.raises(SoupError, match=r"left\.w: the weights are all zero"):
        revise("subtract", "soup.st", Path("less.st"), (), ["b.st"])
    assert not Path("less.st").exists()


@pytest.mark.parametrize("left", [(NONE, NONE), (HALF, -HALF), (-ONE, HALF)])
def test_weights_that_add_up_to_nothing_are_refused_by_the_name_of_the_tensor(left):
    with pytest.raises(UsageError, match=r"left\.w: the weights"):
        average("soup.st", "a.st", "b.st", blocks=by_block((ONE, ONE), left=left))


def test_each_ingredient_is_left_out_in_turn_as_subtract_does_it():
    average("soup.st", "a.st", "b.st", "c.st", blocks=by_block((ONE,) * 3, left=(ONE, HALF, HALF)))
    verbs.leave_one_out(verbs.LeaveOneOut("soup.st", "without-{name}"))

    for name in "abc":
        revise("subtract", "soup.st", Path("less.st"), (), [f"{name}.st"], force=True)
        assert Path("less.st").read_bytes() == Path(f"without-{name}.st").read_bytes()


def test_forged_weights_of_a_block_are_found_by_a_rebuild():
    average("soup.st", "a.st", "b.st", blocks=by_block((ONE, ONE), left=(HALF, ONE)))
    forge("soup.st", lambda entry: entry.update(blocks=["1/3"]) if "blocks" in entry else None)

    found = verified(Path("soup.st"))
    assert (Level.DIGEST, True) == (found.level, found.refuted)


def forge(path: str, change) -> None:
    """Change the entries of a soup's ledger, and seal it as anyone can."""
    document = json.loads(metadata(Path(path))["soupctl"])
    document.pop("digest")
    for entry in document["ingredients"]:
        change(entry)
    digest = "blake3:" + blake3(canonical(document).encode()).hexdigest()
    text = canonical({**document, "digest": digest})
    raw = Path(path).read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    header["__metadata__"]["soupctl"] = text
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    Path(path).write_bytes(struct.pack("<Q", len(encoded)) + encoded + raw[8 + size :])


def test_weights_that_are_the_same_in_all_blocks_make_the_file_of_a_plain_soup():
    average("plain.st", ("a.st", 2), "b.st")
    average("same.st", "a.st", "b.st", blocks=by_block((2 * ONE, ONE), left=(2 * ONE, ONE)))

    assert Path("plain.st").read_bytes() == Path("same.st").read_bytes()


def test_one_content_given_twice_has_the_summed_weights():
    twice = by_block((ONE, ONE, ONE), left=(ONE, NONE, ONE))
    average("twice.st", "a.st", "a.st", "b.st", blocks=twice)
    average("once.st", "a.st", "b.st", blocks=by_block((2 * ONE, ONE), left=(ONE, ONE)))

    assert contents(Path("once.st")) == contents(Path("twice.st"))
    assert_proven("twice.st")


def test_one_content_with_weights_that_cancel_in_a_block_is_refused():
    blocks = by_block((ONE, ONE, ONE), left=(ONE, -ONE, ONE))
    with pytest.raises(UsageError, match="cancel in a block"):
        average("twice.st", "a.st", "a.st", "b.st", blocks=blocks)


def test_pipelines_keep_their_weights_by_block_in_every_component(tmp_path):
    for number, name in enumerate(("p", "q", "r")):
        save_pipeline(tmp_path / name, number)
    names = sorted(contents(tmp_path / "p/unet/diffusion_pytorch_model.safetensors"))
    blocks = BlockWeights(((names[0], (HALF, ONE, NONE)),), (ONE, ONE, ONE))
    average("soup", "p", "q", "r", blocks=blocks)
    revise("subtract", "soup", Path("less"), (), ["q"])
    average("fresh", "p", "r", blocks=BlockWeights(((names[0], (HALF, NONE)),), (ONE, ONE)))

    assert_proven("soup", "less")
    assert [each.digest for each in verbs.content_digests("fresh")] == [
        each.digest for each in verbs.content_digests("less")
    ]


def test_approximate_removal_goes_by_the_weights_of_each_block():
    average("soup.st", "a.st", "b.st", "c.st", blocks=by_block((ONE,) * 3, left=(ONE, HALF, HALF)))
    made = revise("subtract", "soup.st", Path("less.st"), (), ["a.st"], approximate=True)

    assert not made.ledger.exact
    ((_, ledger),) = verbs.history("less.st")
    assert {HALF} == {weight for entry in ledger.ingredients for weight in entry.blocks}
    assert root("less.st") == ledger.root


def test_rounded_weights_are_rounded_in_blocks_too():
    third = by_block((ONE, ONE), left=(Fraction(1, 3), Fraction(2, 3)))
    made = average("soup.st", "a.st", "b.st", blocks=third, round_weights=2)

    assert {Fraction(33, 100), Fraction(67, 100)} == {
        weight for entry in made.ledger.ingredients for weight in entry.blocks
    }


def test_a_kept_sum_is_enough_to_take_an_ingredient_out_of_all_blocks():
    average("soup.st", "a.st", "b.st", "d.st", blocks=THREE, keep_sum=True)
    assert_proven("soup.st")
    for name in "bd":
        Path(f"{name}.st").rename(f"{name}.away")
    made = revise("subtract", "soup.st", Path("less.st"), (), ["a.st"])
    for name in "bd":
        Path(f"{name}.away").rename(f"{name}.st")

    left = by_block((ONE, NONE), left=(NONE, Fraction(1, 3)), right=(ONE, ONE))
    average("fresh.st", "b.st", "d.st", blocks=left, keep_sum=True)
    assert made.method is Method.SUM
    assert contents(Path("fresh.st")) == contents(Path("less.st"))
    sums = [contents(*Path().glob(f"{name}.st.*.sum")) for name in ("fresh", "less")]
    assert sums[0] == sums[1]
    assert_proven("less.st")


def test_a_kept_sum_works_with_blocks_takes_and_padding_together():
    wide = {"left.w": np.ones((2, 4), np.float16), "right.w": np.ones((2, 3), np.float32)}
    save(Path("wide.st"), **wide)
    for number, name in enumerate("ef"):
        generator = np.random.default_rng(number)
        values = generator.normal(size=(2, 3)).astype(np.float16)
        save(Path(f"{name}.st"), **{"left.w": values, "right.w": values})
    names = ("wide.st", "e.st", "f.st")
    third = by_block((ONE,) * 3, left=(ONE, HALF, Fraction(1, 3)))
    options = {"pad": ("left.*",), "take": (("right.*", "e.st"),), "keep_sum": True}
    average("soup.st", *names, blocks=third, **options)
    revise("subtract", "soup.st", Path("less.st"), (), ["f.st"])
    average("fresh.st", *names[:2], blocks=by_block((ONE, ONE), left=(ONE, HALF)), **options)

    assert contents(Path("fresh.st")) == contents(Path("less.st"))
    assert_proven("soup.st", "less.st")


def test_weights_too_fine_for_one_scale_of_all_blocks_are_refused_with_the_way_out():
    fine = [(1 / Fraction(2**40 + 1), ONE), (1 / Fraction(2**40 - 1), ONE)]
    blocks = by_block((ONE, ONE), left=fine[0], right=fine[1])
    average("soup.st", "a.st", "b.st", blocks=blocks)

    with pytest.raises(UsageError, match=r"one scale for all blocks \(with keep_sum=False"):
        average("kept.st", "a.st", "b.st", blocks=blocks, keep_sum=True)
