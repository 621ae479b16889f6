"""Recipes add deltas and adapters to models, in one pass equal to the exact value rounded once."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import pytest
from deltas import apply, delta, floats, numbers, rounded
from keeping import sum_of
from making import contents, save_raw
from revising import assert_proven, revise, root

from soupctl import verbs
from soupctl.errors import LedgerError, MismatchError, UsageError
from soupctl.format.dtypes import DType
from soupctl.verbs import BlockWeights, Ingredient, RecipeRun

NAMES = ("vae.d.weight", "unet.q.weight", "unet.k.weight", "text.m.weight")
SIDE, RANK = 6, 2
MODELS = "abcde"
LORAS = {"lora": (NAMES[1], NAMES[2]), "style": (NAMES[2], NAMES[3])}
Values = Mapping[str, list[Fraction]]


def small(dtype: DType, count: int, seed: object) -> bytes:
    """Floats far from the ends of the range of F16, of many exponents."""
    data = rounded([value / 2**9 for value in numbers(dtype, floats(dtype, count, seed))], dtype)
    assert data is not None
    return data


@pytest.fixture(autouse=True)
def values(tmp_path, monkeypatch) -> dict[str, Values]:
    """Models a to e, two LoRAs and the delta of c and a; the values of each by tensor."""
    monkeypatch.chdir(tmp_path)
    found: dict[str, Values] = {}
    for name in MODELS:
        raw = {each: small(DType.F16, SIDE * SIDE, (name, each)) for each in NAMES}
        save_raw(Path(f"{name}.st"), {n: ("F16", (SIDE, SIDE), d) for n, d in raw.items()})
        found[name] = {n: numbers(DType.F16, d) for n, d in raw.items()}
    for name, tensors in LORAS.items():
        found[name] = save_lora(name, tensors)
    delta("c.st", "a.st", "c.delta")
    found["c.delta"] = {n: differences(found["c"][n], found["a"][n]) for n in NAMES}
    return found


def differences(one: list[Fraction], other: list[Fraction]) -> list[Fraction]:
    return [x - y for x, y in zip(one, other, strict=True)]


def save_lora(name: str, tensors: tuple[str, ...]) -> Values:
    """A LoRA with an alpha of 1; its updates by the tensors that it changes."""
    raw, updates = {}, {}
    for tensor in tensors:
        module = tensor.removesuffix(".weight")
        up, down = (small(DType.F16, SIDE * RANK, (name, tensor, each)) for each in "ud")
        raw[f"{module}.lora_up.weight"] = ("F16", (SIDE, RANK), up)
        raw[f"{module}.lora_down.weight"] = ("F16", (RANK, SIDE), down)
        raw[f"{module}.alpha"] = ("F16", (), b"\x00\x3c")
        u, d = numbers(DType.F16, up), numbers(DType.F16, down)
        updates[tensor] = [
            sum((u[i * RANK + k] * d[k * SIDE + j] for k in range(RANK)), Fraction(0)) / RANK
            for i in range(SIDE)
            for j in range(SIDE)
        ]
    save_raw(Path(f"{name}.st"), raw)
    return updates


INPUTS = "[inputs]\n" + "".join(f'{name} = "{name}.st"\n' for name in (*MODELS, *LORAS))
INPUTS += 'fine = "c.delta"\n'


def run(text: str, output: str = "out.st", **options: bool) -> None:
    Path("recipe.toml").write_text(text + INPUTS)
    verbs.run_recipe(RecipeRun("recipe.toml", output, **options), force=True)


def exact(values: Mapping[str, Values], rows: Mapping[str, Mapping[str, Fraction]]) -> object:
    """By tensor, the sum of what is named times its coefficient, rounded once to F16."""
    found = {}
    for tensor, row in rows.items():
        total = [Fraction(0)] * (SIDE * SIDE)
        for name, weight in row.items():
            each = values[name].get(tensor, [Fraction(0)] * len(total))
            total = [t + weight * x for t, x in zip(total, each, strict=True)]
        found[tensor] = rounded(total, DType.F16)
    return found


def made(path: str = "out.st") -> object:
    return {name: data for name, (_, _, data) in contents(Path(path)).items()}


FIVE = """
[steps.sum]
average = ["a", "b"]
weights = [0.7, 0.3]

[steps.difference]
base = "sum"
add = ["c"]
minus = "d"
scales = ["1/3"]

[steps.by-block]
average = ["difference", "e"]
weights = [1, 0]
blocks = { "unet.k.*" = [0.25, 0.75], "text.*" = [1, 2] }

[steps.styled]
base = "by-block"
add = ["lora", "style"]
scales = [0.8, -0.4]
blocks = { "text.*" = [0, 1.1] }

[steps.result]
from = "styled"
take = { "vae.*" = "e" }

"""


def five() -> dict[str, dict[str, Fraction]]:
    """The coefficients of the recipe of five steps."""
    rows = {}
    for tensor in NAMES:
        share = {"unet.k.weight": Fraction(1, 4), "text.m.weight": Fraction(1, 3)}.get(tensor, 1)
        row = {
            "a": Fraction(7, 10),
            "b": Fraction(3, 10),
            "c": Fraction(1, 3),
            "d": -Fraction(1, 3),
        }
        row = {name: share * weight for name, weight in row.items()}
        row["e"] = Fraction(1 - share)
        is_text = fnmatch.fnmatchcase(tensor, "text.*")
        row["lora"] = Fraction(0) if is_text else Fraction(4, 5)
        row["style"] = Fraction(11, 10) if is_text else Fraction(-2, 5)
        rows[tensor] = {"e": Fraction(1)} if tensor.startswith("vae.") else row
    return rows


def test_a_recipe_of_five_steps_with_two_loras_equals_the_exact_value(values):
    run(FIVE)

    assert exact(values, five()) == made()
    ((_, ledger),) = verbs.history("out.st")
    assert {"a", "b", "c", "d", "e"} == {Path(each.name).stem for each in ledger.models}
    assert sorted([root("lora.st"), root("style.st")]) == list(ledger.deltas)


@pytest.mark.parametrize("execution", [(1, 1), (2, 5), (3, None)], ids=str)
def test_threads_and_chunks_change_no_bit(values, execution):
    run(FIVE)
    first = Path("out.st").read_bytes()
    threads, chunk = execution
    Path("recipe.toml").write_text(FIVE + INPUTS)
    verbs.run_recipe(
        RecipeRun("recipe.toml", "out.st"),
        force=True,
        execution=verbs.ExecutionOptions(threads, chunk),
    )

    assert first == Path("out.st").read_bytes()


def test_a_mean_with_deltas_is_proven_by_a_rebuild():
    run(FIVE)

    assert_proven("out.st")


@pytest.mark.parametrize("gone", ["b", "e", "lora", "style"])
def test_what_is_left_of_a_mean_with_deltas_is_as_if_the_rest_had_never_been_there(values, gone):
    text = """
[steps.sum]
average = ["a", "b", "e"]
weights = [1, 2, 3]
[steps.styled]
base = "sum"
add = ["lora", "style"]
scales = [0.8, -0.4]
"""
    run(text)
    revise("subtract", "out.st", "less.st", (), [f"{gone}.st"])

    weights = {"a": 1, "b": 2, "e": 3, "lora": Fraction("0.8"), "style": Fraction("-0.4")}
    del weights[gone]
    total = sum(weights[name] for name in "abe" if name in weights)
    row = {n: Fraction(w) / (total if n in "abe" else 1) for n, w in weights.items()}
    assert exact(values, dict.fromkeys(NAMES, row)) == made("less.st")
    assert_proven("less.st")

    revise("add", "less.st", "more.st", [(f"{gone}.st", back(gone))])
    assert made() == made("more.st")
    assert_proven("more.st")


def back(name: str) -> Fraction:
    """The weight that an ingredient had, in the units of the ledger."""
    ((_, ledger),) = verbs.history("out.st")
    (entry,) = (each for each in ledger.ingredients if Path(each.name).stem == name)
    return entry.weight


FINE_OF_A_MEAN = '[steps.m]\naverage = ["a", "b"]\n[steps.s]\nbase = "m"\nadd = ["fine"]\n'


def test_a_mean_without_its_deltas_is_the_mean(values):
    run(f"other-base = true\n{FINE_OF_A_MEAN}")
    revise("subtract", "out.st", "less.st", (), ["c.delta"])

    verbs.average(verbs.Request(["a.st", "b.st"], "mean.st"))
    assert made("mean.st") == made("less.st")
    assert_proven("less.st")


def test_one_model_and_one_delta_left_give_what_the_delta_was_made_of(values):
    run(f"other-base = true\n{FINE_OF_A_MEAN}")
    revise("subtract", "out.st", "less.st", (), ["b.st"])

    assert made("c.st") == made("less.st")
    assert_proven("less.st")


def test_a_model_with_deltas_is_what_apply_makes():
    run('[steps.s]\nbase = "a"\nadd = ["fine", "lora"]\nscales = [0.5, -1]\n')

    apply("a.st", ("c.delta", Fraction(1, 2)), ("lora.st", -1), output="direct.st")
    assert Path("direct.st").read_bytes() == Path("out.st").read_bytes()


def test_a_delta_of_scale_one_on_its_base_gives_what_it_was_made_of():
    run('[steps.s]\nbase = "a"\nadd = ["fine"]\n')

    assert made("c.st") == made()


def test_scales_by_block_are_those_of_apply(values):
    blocks = BlockWeights((("unet.*", (Fraction(2), Fraction(0))),))
    apply("a.st", ("c.delta", Fraction(1, 2)), ("lora.st", 3), output="out.st", blocks=blocks)

    rows = {
        tensor: {"a": Fraction(1), "c.delta": Fraction(2), "lora": Fraction(0)}
        if tensor.startswith("unet.")
        else {"a": Fraction(1), "c.delta": Fraction(1, 2), "lora": Fraction(3)}
        for tensor in NAMES
    }
    assert exact(values, rows) == made()
    assert_proven("out.st")

    revise("subtract", "out.st", "less.st", (), ["lora.st"])
    assert_proven("less.st")
    assert made() == made("less.st")


MEAN = '[steps.m]\naverage = ["a", "b"]\n[steps.s]\n'
RECIPES = {
    "two loras": '[steps.s]\nbase = "a"\nadd = ["lora", "style"]\nscales = [0.8, "1/3"]\n',
    "a delta of another base": 'other-base = true\n[steps.s]\nbase = "b"\nadd = ["fine"]\n',
    "scales by block": '[steps.s]\nbase = "a"\nadd = ["lora"]\nblocks = { "unet.k*" = [3] }\n',
    "of five steps": FIVE,
    "options": 'dtype = "F32"\nexclude = "vae.*"\n[steps.s]\nbase = "a"\nadd = ["lora"]\n',
}


@pytest.mark.parametrize("text", RECIPES.values(), ids=RECIPES)
def test_the_recipe_of_a_soup_with_deltas_makes_the_same_file(text):
    run(text, "soup.st")
    ((label, ledger),) = verbs.history("soup.st")
    Path("recipe.toml").write_text("\n".join(verbs.recipe_of(ledger, label)) + "\n")
    verbs.run_recipe(RecipeRun("recipe.toml", "again.st"))

    assert Path("soup.st").read_bytes() == Path("again.st").read_bytes()


CHANGES = [
    ('[steps.s]\nbase = "a"\nadd = ["lora"]\n', "add", ["style.st"], []),
    ('[steps.s]\nbase = "a"\nadd = ["lora", "style"]\n', "subtract", [], ["lora.st"]),
    ('[steps.s]\nbase = "a"\nadd = ["lora"]\n', "subtract", [], ["lora.st"]),
    (MEAN + 'base = "m"\nadd = ["lora"]\n', "subtract", [], ["lora.st"]),
    (MEAN + 'base = "m"\nadd = ["lora"]\n', "swap", ["style.st"], ["lora.st"]),
]


@pytest.mark.parametrize(("text", "operation", "added", "removed"), CHANGES)
def test_the_recipe_of_a_changed_soup_with_deltas_makes_the_same_file(
    text, operation, added, removed
):
    run(text, "first.st")
    revise(operation, "first.st", Path("soup.st"), added, removed)
    Path("recipe.toml").write_text("\n".join(verbs.recipe_of_soup("soup.st")) + "\n")
    verbs.run_recipe(RecipeRun("recipe.toml", "again.st"))

    assert Path("soup.st").read_bytes() == Path("again.st").read_bytes()


def test_what_is_left_of_a_mean_with_deltas_is_made_again_without_its_history():
    run(MEAN + 'base = "m"\nadd = ["lora"]\n', "first.st")
    revise("subtract", "first.st", Path("soup.st"), (), ["b.st"])
    lines = list(verbs.recipe_of_soup("soup.st"))
    Path("recipe.toml").write_text("\n".join(lines) + "\n")
    verbs.run_recipe(RecipeRun("recipe.toml", "again.st"))

    assert contents(Path("soup.st")) == contents(Path("again.st"))
    assert lines[-1].startswith("# its history is left out")
    assert_proven("again.st")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[steps.s]\naverage = ["a", "lora"]\n', "'lora' is a delta or an adapter"),
        ('[steps.s]\nfrom = "a"\ntake = { "vae.*" = "fine" }\n', "'fine' is a delta"),
        ('[steps.s]\nbase = "lora"\nadd = ["a"]\n', "'lora' is a delta"),
        ('[steps.s]\nbase = "a"\nadd = ["lora"]\nminus = "b"\n', "minus applies to models only"),
        (
            'take = { "vae.*" = "a" }\n[steps.s]\nbase = "a"\nadd = ["lora"]\n',
            "use a step with from and take",
        ),
        (
            'pad = "*"\n[steps.s]\nbase = "a"\nadd = ["lora"]\n',
            "has pad, which does not work with deltas",
        ),
        (
            'on-missing = "keep"\n[steps.s]\nbase = "a"\nadd = ["lora"]\n',
            "does not work with deltas",
        ),
        (
            '[steps.m]\naverage=["a", "b"]\nnormalize=false\n[steps.s]\nbase="m"\nadd=["lora"]\n',
            "a sum that is not normalized .materialise = true",
        ),
    ],
)
def test_what_deltas_cannot_be_is_refused(text, what):
    with pytest.raises(UsageError, match=what):
        run(text)


def test_a_delta_of_one_base_is_added_to_a_mean_if_asked():
    text = FINE_OF_A_MEAN
    with pytest.raises(MismatchError, match="other-base = true"):
        run(text)

    run(f"other-base = true\n{text}")
    assert_proven("out.st")


def test_the_sum_of_a_recipe_with_deltas_is_that_of_the_same_application():
    run('[steps.s]\nbase = "a"\nadd = ["lora"]\n', keep_sum=True)
    apply("a.st", "lora.st", output="applied.st", keep_sum=True)

    assert root(sum_of(Path("applied.st"))) == root(sum_of(Path("out.st")))
    assert_proven("out.st")


def test_two_files_of_one_model_are_refused_beside_a_delta():
    Path("b.st").write_bytes(Path("a.st").read_bytes())
    with pytest.raises(UsageError, match="name it once"):
        run('[steps.m]\naverage = ["a", "b"]\n[steps.s]\nbase = "m"\nadd = ["lora"]\n')


def test_a_delta_and_a_model_do_not_take_each_others_place():
    run(FIVE)

    with pytest.raises(LedgerError, match="is a model, and cannot replace any"):
        revise("swap", "out.st", "x.st", ["b.st"], ["lora.st"], again=True)


def test_an_adapter_is_held_to_its_digest():
    pin = f'{{ path = "lora.st", digest = "{root("style.st")}" }}'
    text = f'[inputs]\na = "a.st"\nlora = {pin}\n[steps.s]\nbase = "a"\nadd = ["lora"]\n'
    Path("recipe.toml").write_text(text)
    with pytest.raises(LedgerError, match=r"lora\.st.*pinned"):
        verbs.run_recipe(RecipeRun("recipe.toml", "out.st"))
    assert not Path("out.st").exists()


def test_a_materialised_step_of_the_name_of_the_output_is_refused_first():
    text = '[steps.out]\naverage = ["a", "b"]\nmaterialise = true\n'
    with pytest.raises(UsageError, match="would be the output"):
        run(text + '[steps.s]\naverage = ["out", "c"]\n')
    assert not Path("out.st").exists()


def test_a_scale_of_an_ingredient_is_told_apart_from_weights():
    run(FIVE)

    answer = verbs.ask("out.st", "lora.st")
    assert [Fraction(4, 5)] == [each.weight for each in answer.entries]
    (preview,) = (verbs.preview(job) for job in [_open()])
    assert any(row.added for row in preview.components[0].blocks)


def _open() -> verbs.Job:
    with verbs.open_application(
        verbs.Application("a.st", [Ingredient("lora.st")], "p.st", blocks=PAIR)
    ) as job:
        return job


PAIR = BlockWeights((("unet.*", (Fraction(2),)),))
