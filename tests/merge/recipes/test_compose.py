"""Any steps compose into one average, whose weights are those of the steps in every tensor."""

from __future__ import annotations

import fnmatch
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from soupctl.errors import UsageError
from soupctl.merge.recipes.compose import blocks_of, compose
from soupctl.merge.recipes.document import DifferenceStep, MeanStep, RecipeStep, TakeStep
from soupctl.verbs import BlockWeights

NAMES = ("vae.w", "unet.attn1.w", "unet.attn2.w", "unet.attn2.b", "text.w", "unet[1].w")

numbers = st.fractions(-3, 3, max_denominator=7)
globs = st.sampled_from(["*", "unet*", "*attn2*", "*.w", "text.w", "*.b", "vae.*", "unet.attn?.w"])


@st.composite
def recipes(draw) -> list[RecipeStep]:
    """Steps of all kinds, with and without blocks, each of names above it."""
    known, steps = list("abc"), []
    for number in range(draw(st.integers(1, 5))):
        names = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
        blocks = tuple(
            (glob, tuple(draw(numbers) for _ in names))
            for glob in draw(st.lists(globs, max_size=3, unique=True))
        )
        weights = tuple(draw(numbers) for _ in names)
        used = BlockWeights(blocks) if blocks else None
        kind = draw(st.sampled_from(["mean", "difference", "take"]))
        if kind == "mean":
            blocks = tuple((glob, tuple(map(positive, each))) for glob, each in blocks)
            used = BlockWeights(blocks) if blocks else None
            given = tuple(map(positive, weights))
            operation = MeanStep(tuple(names), given, used, draw(st.booleans()))
        elif kind == "difference":
            base, minus = draw(st.sampled_from(known)), draw(st.sampled_from(known))
            operation = DifferenceStep(base, tuple(names), minus, weights, used)
        else:
            takes = tuple((glob, draw(st.sampled_from(known))) for glob, _ in blocks)
            operation = TakeStep(names[0], takes)
        steps.append(RecipeStep(f"s{number}", operation))
        known.append(f"s{number}")
    return steps


def positive(weight: Fraction) -> Fraction:
    return abs(weight) + Fraction(1, 7)


def naive(steps: list[RecipeStep], tensor: str) -> tuple[Fraction, ...]:
    """The weights of a, b and c in the last step, worked out step by step for one tensor."""
    rows = {name: {name: Fraction(1)} for name in "abc"}
    for step in steps:
        each = step.operation
        terms: list[tuple[Fraction, str]] = []
        blocks = getattr(each, "blocks", None)
        found = [
            w for glob, w in (blocks.blocks if blocks else ()) if fnmatch.fnmatchcase(tensor, glob)
        ]
        if isinstance(each, MeanStep):
            weights = (found or [each.weights])[0]
            divisor = sum(weights) if each.normalize else 1
            terms = [(w / divisor, n) for w, n in zip(weights, each.operands, strict=True)]
        elif isinstance(each, DifferenceStep):
            terms = [(Fraction(1), each.base)]
            for scale, name in zip((found or [each.scales])[0], each.added, strict=True):
                terms += [(scale, name), (-scale, each.minus)]
        else:
            taken = [n for glob, n in each.takes if fnmatch.fnmatchcase(tensor, glob)]
            terms = [(Fraction(1), (taken or [each.source])[0])]
        row: dict[str, Fraction] = {}
        for share, name in terms:
            for source, weight in rows[name].items():
                row[source] = row.get(source, Fraction(0)) + share * weight
        rows[step.name] = row
    return tuple(rows[steps[-1].name].get(name, Fraction(0)) for name in "abc")


@settings(max_examples=50, deadline=None)
@given(steps=recipes())
def test_the_composition_of_any_steps_is_their_value_in_every_tensor(steps):
    try:
        found = compose("abc", steps, NAMES)
    except UsageError:
        # an operand that counts nowhere, which blocks refuse, too, or a total that is not positive
        return

    for tensor in NAMES:
        row = next((w for g, w in found.blocks if fnmatch.fnmatchcase(tensor, g)), found.default)
        divisor = sum(row) if found.normalize else 1
        assert naive(steps, tensor) == tuple(weight / divisor for weight in row)


@given(
    rows=st.dictionaries(
        st.text("abc[]*?.", min_size=1, max_size=4), st.integers(0, 2), min_size=1
    ),
    globs=st.lists(st.sampled_from(["*", "a*", "*b", "?", "[ab]*", "*.*"]), unique=True),
)
def test_blocks_give_every_tensor_its_row_whatever_the_globs(rows, globs):
    by_name = {name: (Fraction(row),) for name, row in rows.items()}

    found = blocks_of(by_name, globs, (Fraction(9),))

    for name, row in by_name.items():
        first = next((w for g, w in found.blocks if fnmatch.fnmatchcase(name, g)), found.default)
        assert row == first
