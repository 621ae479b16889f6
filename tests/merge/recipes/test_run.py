"""A recipe's steps become one pass, whose result is their exact value rounded once."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from making import contents, mean, save, save_pipeline

from soupctl import verbs
from soupctl.errors import LedgerError, UsageError
from soupctl.merge.recipes.read import parse_recipe
from soupctl.verbs import RecipeRun

# near every rounding boundary of float16: subnormals, ties, the largest and both zeros
HARD = np.array(
    [0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x3C00, 0x3C01, 0xBC01, 0x4BFE, 0x4BFF, 0x4BFD], np.uint16
).view(np.float16)
NAMES = ("vae.w", "unet.attn1.w", "unet.attn2.w", "unet.attn2.b", "text.w", "unet[1].w")
FILES = "abcdef"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Checkpoints a to f in the working folder, f in float32."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(5)
    for name in FILES:
        kind = np.float32 if name == "f" else np.float16
        save(
            Path(f"{name}.st"), **{each: generator.permutation(HARD).astype(kind) for each in NAMES}
        )


INPUTS = "[inputs]\n" + "".join(f'{name} = "{name}.st"\n' for name in FILES)


def run(text: str, output: str = "out.st", **options: bool) -> None:
    Path("recipe.toml").write_text(text + INPUTS if "[inputs]" not in text else text)
    verbs.run_recipe(RecipeRun("recipe.toml", output, **options), force=True)


Rows = Mapping[str, Mapping[str, Fraction]]


def value(rows: Rows, tensor: str) -> bytes:
    """The exact sum of the checkpoints times their weights in a tensor, rounded once."""
    used = {name: weight for name, weight in rows[tensor].items() if weight}
    arrays = [
        np.frombuffer(found[2], np.float32 if found[0] == "F32" else np.float16)
        for found in (contents(Path(f"{name}.st"))[tensor] for name in used)
    ]
    assert 1 == sum(used.values())
    return bytes(mean(arrays, list(used.values())).tobytes())


def made(path: str = "out.st") -> dict[str, bytes]:
    return {name: data for name, (_, _, data) in contents(Path(path)).items()}


FIVE = """
[steps.sum]
average = ["a", "b"]
weights = [0.7, 0.3]

[steps.styled]
base = "sum"
add = ["c", "d"]
minus = "a"
scales = [0.8, "-1/3"]

[steps.by-block]
average = ["styled", "e"]
weights = [1, 1]
blocks = { "*.attn2.*" = [0.25, 0.75], "text.*" = [1, 0] }

[steps.again]
base = "by-block"
add = ["b"]
minus = "d"
scales = [0.1]
blocks = { "*attn*" = [2] }

[steps.result]
from = "again"
take = { "vae.*" = "e" }

"""


def test_a_recipe_of_five_steps_is_one_pass_equal_to_the_exact_value():
    run(FIVE)

    third, rows = Fraction(1, 3), {}
    for tensor in NAMES:
        scale = 2 if "attn" in tensor else Fraction(1, 10)
        share = Fraction(1, 2)
        if fnmatch.fnmatchcase(tensor, "*.attn2.*"):
            share = Fraction(1, 4)
        elif tensor.startswith("text."):
            share = Fraction(1)
        row = dict.fromkeys(FILES, Fraction(0))
        row["a"] = share * (Fraction("0.7") - (Fraction("0.8") - third))
        row["b"] = share * Fraction("0.3") + scale
        row["c"] = share * Fraction("0.8")
        row["d"] = share * -third - scale
        row["e"] = 1 - share
        if tensor.startswith("vae."):
            row = {"e": Fraction(1)}
        rows[tensor] = row
    assert {tensor: value(rows, tensor) for tensor in NAMES} == made()


def test_a_soup_of_a_recipe_can_be_proven_and_changed():
    run(FIVE)

    (verified,) = verbs.verify("out.st")
    assert verbs.Level.REBUILD is verified.level
    (made_,) = verbs.revise(verbs.Revision("subtract", "out.st", "less.st", removed=["c.st"]))
    assert "c.st" not in [each.name for each in made_.ledger.ingredients]


def test_paths_are_relative_to_the_recipe():
    folder = Path("recipes")
    folder.mkdir()
    text = '[inputs]\na = "../a.st"\nb = "../b.st"\n[steps.s]\naverage = ["a", "b"]\n'
    (folder / "r.toml").write_text(text)

    verbs.run_recipe(RecipeRun("recipes/r.toml", "out.st"))

    half = dict.fromkeys("ab", Fraction(1, 2))
    assert {tensor: value(dict.fromkeys(NAMES, half), tensor) for tensor in NAMES} == made()


def test_only_inputs_of_needed_steps_are_read():
    Path("f.st").unlink()

    run('result = "one"\n[steps.one]\naverage = ["a"]\n[steps.two]\naverage = ["one", "f"]\n')

    assert made("out.st").keys() == set(NAMES)


def test_an_input_that_cancels_is_no_ingredient():
    run(
        '[steps.x]\nbase = "a"\nadd = ["b"]\nminus = "c"\n'
        '[steps.y]\nbase = "x"\nadd = ["c"]\nminus = "b"\n'
    )

    assert {tensor: value({tensor: {"a": Fraction(1)}}, tensor) for tensor in NAMES} == made()
    ((_, ledger),) = verbs.history("out.st")
    assert ["a.st"] == [each.name for each in ledger.ingredients]


def test_a_materialised_step_is_written_and_rounded_before_it_is_used():
    text = (
        '[steps.half]\naverage = ["a", "b"]\nmaterialise = {}\n'
        '[steps.whole]\naverage = ["half", "c"]\nweights = [1, 2]\n'
    )
    run(text.format("false"), "once.st")
    run(text.format("true"))

    verbs.average(verbs.Request(["a.st", "b.st"], "half-2.st"))
    request = verbs.Request(
        ["half-2.st", verbs.Ingredient("c.st", Fraction(2))], "twice.st", ignore_ledger=True
    )
    verbs.average(request)
    assert made("half-2.st") == made("half.st")
    assert made("twice.st") == made()
    assert made("once.st") != made()


PAIR = """
[inputs]
a = {{ path = "a.st", digest = "{}" }}
b = "b.st"
[steps.s]
average = ["a", "b"]
"""


def test_an_input_of_another_content_than_it_is_pinned_to_is_refused():
    (right,) = verbs.content_digests("a.st")
    (wrong,) = verbs.content_digests("c.st")

    run(PAIR.format(right.digest))
    Path("out.st").unlink()

    with pytest.raises(LedgerError, match=r"a\.st.*pinned"):
        run(PAIR.format(wrong.digest))
    assert not Path("out.st").exists()


def test_digests_are_of_what_is_read():
    for seed, name in enumerate(("one", "two")):
        save_pipeline(Path(name), seed)
    digests = {Path(each.path).name: each.digest for each in verbs.content_digests("one")}
    pair = PAIR.replace("a.st", "one").replace("b.st", "two")
    by_component = pair.replace('"{}"', "{}").format(
        "{" + ", ".join(f'{name} = "{digest}"' for name, digest in digests.items()) + "}"
    )
    of_unet = pair.format(digests["unet"])
    unet_alone = 'component = "unet"'

    run(by_component, "pipeline")
    run(unet_alone + of_unet, "unet")
    with pytest.raises(UsageError, match="'a' has digests of components, and is read as one"):
        run(unet_alone + by_component, "wrong")
    with pytest.raises(UsageError, match="'a' has no digest of text_encoder"):
        run(of_unet, "wrong")
    with pytest.raises(LedgerError, match="pinned"):
        run(unet_alone + pair.format(digests["vae"]), "wrong")
    assert not Path("wrong").exists()


def test_a_lock_pins_every_input_and_is_held_to():
    text = '[steps.s]\naverage = ["a", "b"]\n' + INPUTS
    run(text, lock=True)
    locked, first = Path("recipe.toml.lock").read_text(), Path("out.st").read_bytes()

    run(text, lock=True)
    assert (locked, first) == (Path("recipe.toml.lock").read_text(), Path("out.st").read_bytes())

    Path("b.st").write_bytes(Path("c.st").read_bytes())
    with pytest.raises(LedgerError, match="pinned"):
        run(text, lock=True)
    run(text)
    with pytest.raises(LedgerError, match="'c' is not in the lock"):
        run(text.replace('["a", "b"]', '["a", "c"]'), lock=True)


def test_options_of_a_recipe_are_those_of_an_average():
    Path("blocks.toml").write_text('[blocks]\n"text.*" = [1, 3]\n')
    text = """
dtype = "F64"
exclude = "vae.*"
dtype-for = { "text.*" = "BF16" }
take = { "unet[[]1].w" = "b" }
[steps.s]
average = ["a", "b"]
blocks = "blocks.toml"
"""
    run(text)

    request = verbs.Request(
        ["a.st", "b.st"],
        "direct.st",
        dtype=verbs.DType.F64,
        excludes=("vae.*",),
        dtype_for=(("text.*", verbs.DType.BF16),),
        take=(("unet[[]1].w", "b.st"),),
        blocks="blocks.toml",
    )
    verbs.average(request)
    assert contents(Path("direct.st")) == contents(Path("out.st"))


def test_an_input_that_only_gives_tensors_is_a_donor_and_is_locked():
    run('take = { "vae.*" = "c" }\n[steps.s]\naverage = ["a", "b"]\n', lock=True)

    verbs.average(verbs.Request(["a.st", "b.st"], "direct.st", take=(("vae.*", "c.st"),)))
    assert Path("direct.st").read_bytes() == Path("out.st").read_bytes()
    assert '["c"]' in Path("recipe.toml.lock").read_text()
    Path("c.st").write_bytes(Path("d.st").read_bytes())
    with pytest.raises(LedgerError, match=r"c\.st: has content .* pinned"):
        run('take = { "vae.*" = "c" }\n[steps.s]\naverage = ["a", "b"]\n', lock=True)


def test_configs_are_those_of_an_ingredient():
    with pytest.raises(UsageError, match=r"'c', which is not an ingredient \(such as a"):
        run('config-from = "c"\n[steps.s]\naverage = ["a", "b"]\n')


def test_a_preset_sets_the_scale_of_what_one_step_adds():
    names = ("input_blocks.0.0.weight", "middle_block.0.w", "output_blocks.0.0.w", "other.w")
    for name in "ab":
        arrays = np.random.default_rng(ord(name)).permutation(HARD)
        save(Path(f"{name}.st"), **dict.fromkeys(names, arrays))
    run('[steps.s]\nbase = "a"\nadd = ["b"]\nscales = ["1/2"]\nblocks = "GRAD_V"\n')

    shares = dict(zip(names, ("1", "0", "0.0833333333", "0"), strict=True))
    rows = {name: Fraction(share) / 2 for name, share in shares.items()}
    expected = {
        name: value({name: {"a": 1 - share, "b": share}}, name) for name, share in rows.items()
    }
    assert expected == made()


@pytest.mark.parametrize(
    ("text", "what", "advice"),
    [
        ('resutl = "s"\n[steps.s]\naverage = ["a"]', "'resutl' is not a known key", "result"),
        ('[steps.s]\naverage = ["a"]\nweigths = [1]', "'weigths' in step 's'", "weights"),
        ('[steps.s]\naverge = ["a"]', "'averge' in step 's'", "average"),
        ('[steps.s]\naverage = ["a", "bb"]', "'bb', which is not an input", "did you mean b?"),
        ('[steps.s]\naverage = ["t"]\n[steps.t]\naverage = ["a"]', "'t', which is no", "a, b"),
        ('[steps.a]\naverage = ["b"]', "the name of an input", "rename"),
        ('[steps.s]\naverage = ["a"]\nfrom = "b"', "is not a step", "average, base"),
        ('[steps.s]\naverage = ["a", "b"]\nweights = [1]', "not a list of 2 numbers", ""),
        ('[steps.s]\naverage = ["a", "b"]\nweights = [1, true]', "True is not a number", "1/3"),
        ('[steps.s]\naverage = ["a", "b"]\nweights = [1, -1]', "add up to 0", "positive"),
        ('[steps.s]\naverage = ["a"]\nmaterialise = 1', "materialise is not true", ""),
        ('[steps.s]\naverage = ["a"]\nnormalize = "no"', "normalize is not true", ""),
        ("[steps.s]\naverage = []", "not a list of names", ""),
        ('[steps.s]\nfrom = "a"', "has no tensors to take", "vae"),
        ('dtype = "F99"\n[steps.s]\naverage = ["a"]', "dtype has the value 'F99'", ""),
        ('result = "a"\n[steps.s]\naverage = ["a"]', "result names 'a'", ""),
        ("", "has no steps", "begin each with"),
        ("round-weights = 99\n", "round-weights", ""),
    ],
)
def test_a_malformed_recipe_is_refused_with_a_suggestion(text, what, advice):
    with pytest.raises(UsageError) as refused:
        run(f"{text}\n")

    message = refused.value.message(None)
    assert what in message
    assert advice in message


def test_a_sum_that_is_not_normalized_needs_the_same_tensors_in_all_inputs():
    with pytest.raises(UsageError, match="leave out on-missing"):
        run('on-missing = "keep"\n[steps.s]\naverage = ["a", "b"]\nnormalize = false\n')


def test_a_sum_whose_weights_cancel_is_refused():
    steps = '[steps.m]\naverage = ["a"]\nweights = [2]\nnormalize = false\n'
    with pytest.raises(UsageError, match="step 's' add up to -1"):
        run(f'{steps}[steps.s]\nbase = "a"\nadd = ["a"]\nminus = "m"\nscales = [2]\n')


def test_a_take_glob_that_matches_no_tensor_is_refused():
    with pytest.raises(UsageError, match=r"take 'txet\.\*' matches no tensor.*text"):
        run('[steps.s]\nfrom = "a"\ntake = { "txet.*" = "b" }\n')


def test_a_step_with_weights_that_cancel_in_a_block_is_refused():
    with pytest.raises(UsageError, match="step 's' add up to 0"):
        run('[steps.s]\naverage = ["a", "b"]\nblocks = { "text.*" = [1, -1] }\n')


def test_a_recipe_has_no_input_from_standard_input(tmp_path):
    with pytest.raises(UsageError, match="standard input"):
        parse_recipe({"inputs": {"a": "-"}, "steps": {"s": {"average": ["a"]}}}, "r", tmp_path)
