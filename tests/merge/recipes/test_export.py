"""The recipe of a soup makes its tensors again, whatever went into the soup."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import files, save, save_raw
from revising import assert_proven

from soupctl import verbs
from soupctl.choices import OnMissing
from soupctl.errors import LedgerError, SoupError
from soupctl.verbs import BlockWeights, DType, Ingredient, RecipeRun, Request

NAMES = ("vae.w", "unet.attn1.w", "unet.attn2.w", "text.w")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Checkpoints a to e in folders of their own."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(3)
    for number, name in enumerate("abcde"):
        kind = np.float32 if name == "d" else np.float16
        arrays = {each: generator.normal(0, 1, 9).astype(kind) for each in NAMES}
        save(Path(f'models/{name}/we"ird é.st'), **arrays, ids=np.array([number // 2]))


def path(name: str) -> str:
    return f'models/{name}/we"ird é.st'


def made_again(soup: str = "soup.st") -> Path:
    """What the recipe of a soup makes."""
    ((label, ledger),) = verbs.history(soup)
    Path("recipe.toml").write_text("\n".join(verbs.recipe_of(ledger, label)) + "\n")
    verbs.run_recipe(RecipeRun("recipe.toml", "again.st"), force=True)
    return Path("again.st")


OPTIONS = [
    {},
    {"dtype": DType.F64},
    {"excludes": ("vae.*",), "keys": ("*.w", "ids")},
    {"dtype_for": (("text.*", DType.BF16), ("vae*", DType.F64))},
    {"take": (("vae.*", path("b")), ("*attn1*", path("a")))},
    {"allow_nonfinite": True},
    {"on_missing": OnMissing.KEEP},
    {"normalize": False},
    {"normalize": False, "blocks": BlockWeights((("vae*", (1, 2)),))},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_recipe_of_an_average_makes_the_same_file(options):
    ingredients = [Ingredient(path("a"), Fraction("0.7")), Ingredient(path("b"), Fraction(-1, 3))]
    verbs.average(Request(ingredients, "soup.st", **options))

    assert Path("soup.st").read_bytes() == made_again().read_bytes()


TAKES = [
    (("vae.*", path("c")),),
    (("*attn1*", path("c")), ("vae.*", path("a")), ("text.*", path("d"))),
]


@pytest.mark.parametrize("takes", TAKES, ids=["a donor", "donors and an ingredient"])
def test_the_recipe_of_a_soup_with_donors_makes_the_same_file(takes):
    request = Request([path("a"), path("b")], "soup.st", take=takes, keys=("*.w",))
    verbs.average(request)

    assert Path("soup.st").read_bytes() == made_again().read_bytes()


def test_a_recipe_holds_its_donors_to_their_content():
    verbs.average(Request([path("a"), path("b")], "soup.st", take=(("vae.*", path("c")),)))
    Path(path("c")).write_bytes(Path(path("a")).read_bytes())

    with pytest.raises(LedgerError, match="pinned"):
        made_again()
    assert not Path("again.st").exists()


def test_the_recipe_of_a_padded_soup_makes_the_same_file():
    for width in (2, 3):
        save(Path(f"{width}.st"), conv=np.full((2, width, 1, 1), width, np.float16))
    verbs.average(Request(["2.st", "3.st"], "soup.st", pad=("conv",)))

    assert Path("soup.st").read_bytes() == made_again().read_bytes()


def test_the_recipe_of_a_quantised_soup_makes_the_same_file():
    for number in (1, 2):
        weight = np.arange(12, dtype=np.float32).reshape(3, 4) / number
        save(Path(f"{number}.st"), **{"blocks.0.q.weight": weight, "norm.weight": weight[0]})
    verbs.average(Request(["1.st", "2.st"], "soup.st", quantize=verbs.Quantization.FP8_SCALED))

    assert Path("soup.st").read_bytes() == made_again().read_bytes()


def test_the_recipe_of_a_soup_with_the_configs_of_one_makes_the_same_folder():
    for name, size in (("one", 4), ("two", 8)):
        save(Path(name, "model.safetensors"), w=np.full(4, size, np.float16))
        Path(name, "config.json").write_text(json.dumps({"hidden_size": size}))
    verbs.average(Request(["one", "two"], "soup", config_from="two"))
    ((label, ledger),) = verbs.history("soup")
    Path("recipe.toml").write_text("\n".join(verbs.recipe_of(ledger, label)) + "\n")
    verbs.run_recipe(RecipeRun("recipe.toml", "again"))

    assert files(Path("soup")) == files(Path("again"))


def test_integers_that_were_taken_are_taken_again():
    request = Request([path("c"), path("a")], "soup.st", on_int=verbs.OnInt.FIRST)
    verbs.average(request)

    assert Path("soup.st").read_bytes() == made_again().read_bytes()


def test_the_recipe_of_a_soup_with_blocks_makes_the_same_file():
    blocks = BlockWeights(
        (("*attn2*", (Fraction(0), Fraction(1, 7))), ("unet.*", (Fraction(2), Fraction(-1)))),
        (Fraction(1), Fraction(1, 2)),
    )
    verbs.average(Request([path("a"), path("b")], "soup.st", blocks=blocks))

    assert Path("soup.st").read_bytes() == made_again().read_bytes()


WEIGHTS = [
    ((Fraction(1), Fraction(0)), (Fraction(1), Fraction(0))),
    ((Fraction(3), Fraction(1)), (Fraction(3), Fraction(1))),
    ((Fraction(2), Fraction(-1)), (Fraction(1), Fraction(1))),
]


@pytest.mark.parametrize(("usual", "same"), WEIGHTS)
def test_blocks_with_the_weights_of_no_block_are_kept(usual, same):
    blocks = BlockWeights((("*attn2*", (Fraction(1), Fraction(1, 7))), ("text.*", same)), usual)
    verbs.average(Request([path("a"), path("b")], "soup.st", blocks=blocks))

    assert Path("soup.st").read_bytes() == made_again().read_bytes()


CHANGED = [
    {"on_int": verbs.OnInt.FIRST},
    {"keep_sum": True, "excludes": ("ids",)},
    {"normalize": False, "excludes": ("ids",)},
    {"take": (("vae.*", path("e")), ("ids", path("a"))), "dtype": DType.F32},
    {"blocks": BlockWeights((("vae*", (1, 2, 0)),)), "excludes": ("ids",)},
]


@pytest.mark.parametrize("options", CHANGED, ids=str)
def test_the_recipe_of_a_changed_soup_makes_the_same_file(options):
    verbs.average(Request([path("a"), path("c"), path("d")], "first.st", **options))
    verbs.revise(verbs.Revision("subtract", "first.st", "second.st", removed=[path("d")]))
    added = [verbs.Addition(path("b"), Fraction(1, 3))]
    verbs.revise(verbs.Revision("add", "second.st", "third.st", added=added))
    verbs.revise(
        verbs.Revision("swap", "third.st", "soup.st", added=[path("d")], removed=[path("c")])
    )

    for soup in ("second.st", "third.st", "soup.st"):
        assert Path(soup).read_bytes() == made_again(soup).read_bytes()
    assert_proven("again.st")


def test_the_history_of_a_recipe_is_kept_where_what_was_taken_out_is_gone():
    verbs.average(Request([path("a"), path("b"), path("d")], "first.st", excludes=("ids",)))
    verbs.revise(verbs.Revision("subtract", "first.st", "soup.st", removed=[path("d")]))
    Path(path("d")).unlink()

    assert Path("soup.st").read_bytes() == made_again().read_bytes()


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('weights = ["1"]', 'weights = ["2"]', "a history that does not fit its steps"),
        ('operation = "subtract"', 'operation = "add"', "changes that it cannot make"),
        ('operation = "subtract"', "operation = 1", "history is not that of a soup"),
        ('result = "blake3', 'result = "blake', "history is not that of a soup"),
        ("result = ", "root = ", "history is not that of a soup"),
        ("[[history]]", "[[history.unet]]", "a history of other components than are made"),
    ],
)
def test_a_history_that_was_altered_is_refused(old, new, what):
    verbs.average(Request([path("a"), path("b")], "first.st"))
    verbs.revise(verbs.Revision("subtract", "first.st", "soup.st", removed=[path("b")]))
    made_again()
    text = Path("recipe.toml").read_text()
    assert old in text
    Path("recipe.toml").write_text(text.replace(old, new))

    with pytest.raises(SoupError, match=what):
        verbs.run_recipe(RecipeRun("recipe.toml", "other.st"))
    assert not Path("other.st").exists()


def test_a_recipe_holds_its_inputs_to_their_content():
    verbs.average(Request([path("a"), path("b")], "soup.st"))
    Path(path("b")).write_bytes(Path(path("a")).read_bytes())

    with pytest.raises(LedgerError, match="pinned"):
        made_again()


def test_a_soup_that_no_recipe_makes_is_refused():
    verbs.average(Request([path("a"), path("b")], "first.st"))
    approximate = {"approximate": True, "removed": [path("b")]}
    verbs.revise(verbs.Revision("subtract", "first.st", "soup.st", **approximate))
    with pytest.raises(LedgerError, match="approximate"):
        made_again()

    verbs.make_delta(verbs.DeltaRequest(path("a"), path("b"), "delta.st"))
    with pytest.raises(LedgerError, match="is a delta"):
        made_again("delta.st")


codes = st.lists(st.integers(0, 2**16 - 1), min_size=4, max_size=4)
weights = st.fractions(-3, 9, max_denominator=12).filter(bool)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), count=st.integers(1, 4))
def test_the_recipe_of_any_average_makes_the_same_file(data, count):
    ingredients = []
    for number in range(count):
        kind = data.draw(st.sampled_from(["F16", "BF16"]))
        tensors = {
            name: (kind, (4,), b"".join(code.to_bytes(2, "little") for code in data.draw(codes)))
            for name in ("x", "y.z")
        }
        save_raw(Path(f"drawn-{number}.st"), tensors)
        ingredients.append(Ingredient(f"drawn-{number}.st", data.draw(weights)))
    Path("soup.st").unlink(missing_ok=True)
    try:
        verbs.average(Request(ingredients, "soup.st", allow_nonfinite=data.draw(st.booleans())))
    except SoupError:
        return

    assert Path("soup.st").read_bytes() == made_again().read_bytes()
