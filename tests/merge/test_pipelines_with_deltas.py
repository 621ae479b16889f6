"""Deltas and adapters of pipelines: each component gets its own, and the rest stays as it is."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from delta_pipelines import (
    COMPONENTS,
    FILES,
    LISTED,
    OF_TEXT,
    OF_UNET,
    Q,
    added,
    apply,
    assert_same,
    both,
    lora,
    pipeline,
    values,
)
from making import contents
from revising import assert_proven, root

from soupctl import verbs
from soupctl.errors import MismatchError, UsageError
from soupctl.verbs import DeltaRequest, Level, Removal, Revision


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_delta_of_two_pipelines_gives_every_component_of_the_fine_tuned_one():
    pipeline("base", 1)
    pipeline("fine", 2, "vae")

    made = verbs.make_delta(DeltaRequest("fine", "base", "d"))
    apply("base", "d")

    assert COMPONENTS == tuple(sorted(each.name for each in made))
    assert {"vae": 0} == {each.name: each.changed for each in made if not each.changed}
    assert [f"{name}/delta.safetensors" for name in COMPONENTS] == sorted(
        str(each.relative_to("d")) for each in Path("d").rglob("*.safetensors")
    )
    assert_same("fine", "out")
    assert_proven("d", "out")


def test_one_component_of_pipelines_has_a_delta_in_one_file():
    pipeline("base", 1)
    pipeline("fine", 2)
    one = DeltaRequest("fine", "base", "d.st", component="unet")

    with pytest.raises(UsageError, match="one file cannot hold the deltas of 3 components"):
        verbs.make_delta(DeltaRequest("fine", "base", "d.st"))
    verbs.make_delta(one)
    apply("base", "d.st")

    assert_same("fine", "out", "unet")
    assert (values("base", "vae") == values("out", "vae")).all()
    assert_proven("d.st", "out")
    apply("base", "d.st", output="unet", component="unet")
    assert contents(Path("fine", FILES["unet"])) == contents(
        Path("unet/diffusion_pytorch_model.safetensors")
    )


def test_a_lora_of_several_models_updates_each_component_of_a_pipeline():
    pipeline("base", 1)
    updates = both()

    apply("base", ("lora.st", Fraction(1, 2)))

    for component, module in (("unet", OF_UNET), ("text_encoder", OF_TEXT)):
        assert (added("base", component, updates[module] / 2) == values("out", component)).all()
    assert (values("base", "vae") == values("out", "vae")).all()
    assert Path("out/unet/config.json").exists()
    assert_proven("out")


def test_modules_without_a_place_in_any_component_are_refused_together():
    pipeline("base", 1)
    lora("lora.st", **{OF_UNET: 1, "lora_te2_text_model_x": 2, "lora_unet_nothing": 3})

    problem = (
        "lora.st: lora_te2_text_model_x: matches no layer of base (soupctl convert --exclude GLOB "
        "makes an adapter without such modules); "
        "lora.st: lora_unet_nothing: matches no layer of base"
    )
    with pytest.raises(MismatchError) as refused:
        apply("base", "lora.st")
    assert problem == refused.value.message()
    assert not Path("out").exists()


def test_a_picked_component_gets_its_own_part_of_a_lora():
    pipeline("base", 1)
    updates = both()

    apply("base", "lora.st", component="unet")

    assert (
        added("base", "unet", updates[OF_UNET])
        == np.frombuffer(
            contents(Path("out/diffusion_pytorch_model.safetensors"))[Q][2], np.float16
        ).reshape(6, 4)
    ).all()
    assert_proven("out")
    lora("other.st", **{OF_UNET: 1, "lora_unet_nothing": 3})
    with pytest.raises(MismatchError, match="lora_unet_nothing: matches no layer"):
        apply("base", "other.st", component="unet")


def test_what_was_added_to_a_pipeline_is_known_and_can_be_taken_out():
    pipeline("base", 1)
    pipeline("fine", 2, "vae")
    verbs.make_delta(DeltaRequest("fine", "base", "d"))
    both()
    lora("style.st", **{OF_UNET: 5})
    apply("base", ("d", Fraction(1, 3)), ("lora.st", Fraction(1, 2)), "style.st")

    for what in ("d", "lora.st", "style.st", "base", root("lora.st")):
        assert verbs.holds("out", what), what
    lora("none.st", **{OF_UNET: 6})
    assert verbs.holds("out", "none.st") is None
    assert_given_proven("out", "lora.st")
    for gone, kept in {
        "style.st": [("d", Fraction(1, 3)), ("lora.st", Fraction(1, 2))],
        "lora.st": [("d", Fraction(1, 3)), ("style.st", 1)],
        "d": [("lora.st", Fraction(1, 2)), ("style.st", 1)],
    }.items():
        verbs.revise(Revision("subtract", "out", "left", removed=[gone]), force=True)
        apply("base", *kept, output="never")
        assert_same("never", "left")
        assert_proven("left")
        assert verbs.holds("left", gone) is None
    half = [Removal("lora.st", Fraction(1, 4))]
    verbs.revise(Revision("subtract", "out", "part", removed=half))
    apply("base", ("d", Fraction(1, 3)), ("lora.st", Fraction(1, 4)), "style.st", output="never")
    assert_same("never", "part")


def assert_given_proven(soup: str, lora: str) -> None:
    """That a soup is proven with an adapter that lies elsewhere by now."""
    Path(lora).rename("moved.st")
    assert Level.DIGEST in [each.level for each in verbs.verify(soup)]
    assert {Level.REBUILD} == {each.level for each in verbs.verify(soup, ["moved.st"])}
    Path("moved.st").rename(lora)


def test_deltas_that_are_not_of_the_components_of_a_pipeline_are_refused():
    pipeline("base", 1)
    pipeline("fine", 2)
    verbs.make_delta(DeltaRequest("fine", "base", "d"))
    shutil.copytree("d/vae", "d/prior")
    Path("d/model_index.json").write_text(json.dumps(LISTED | {"prior": ["x", "Y"]}))

    with pytest.raises(MismatchError, match="has a delta of prior, where base has"):
        apply("base", "d")
    with pytest.raises(MismatchError, match="is a model, not a delta"):
        apply("base", "fine")
    with pytest.raises(MismatchError, match=r"where base/unet/.* has one checkpoint"):
        apply(f"base/{FILES['unet']}", "d")


def test_components_that_a_folder_of_deltas_lacks_stay_as_they_are():
    pipeline("base", 1)
    pipeline("fine", 2)
    verbs.make_delta(DeltaRequest("fine", "base", "d"))
    shutil.rmtree("d/vae")

    apply("base", "d")

    assert_same("fine", "out", "unet", "text_encoder")
    assert (values("base", "vae") == values("out", "vae")).all()
    assert verbs.holds("out", "d")
    verbs.revise(Revision("subtract", "out", "left", removed=["d"]))
    assert_proven("out", "left")
    assert verbs.holds("left", "d") is None


def test_one_component_of_a_pipeline_takes_adapters_and_gives_them_back():
    pipeline("base", 1)
    both()
    updates = lora("style.st", **{OF_UNET: 5, OF_TEXT: 6})
    apply("base", "lora.st")
    asked = {"component": "unet"}

    assert verbs.holds("out", "lora.st", **asked)
    assert verbs.holds("out", "style.st", **asked) is None
    verbs.revise(Revision("subtract", "out", "plain", removed=["lora.st"], **asked))
    verbs.revise(Revision("add", "plain", "styled", added=["style.st"]))
    verbs.revise(Revision("swap", "out", "swapped", ["style.st"], ["lora.st"], **asked))

    file = "diffusion_pytorch_model.safetensors"
    made = np.frombuffer(contents(Path("swapped", file))[Q][2], np.float16).reshape(6, 4)
    assert (added("base", "unet", updates[OF_UNET]) == made).all()
    assert_proven("plain", "swapped")


def test_a_lora_and_a_lone_delta_are_added_to_the_components_that_they_change():
    pipeline("base", 1)
    pipeline("fine", 2)
    verbs.make_delta(DeltaRequest("fine", "base", "d.st", component="unet"))
    verbs.make_delta(DeltaRequest("fine", "base", "two"))
    shutil.rmtree("two/vae")
    both()
    lora("style.st", **{OF_UNET: 5, OF_TEXT: 6})
    apply("base", "lora.st", output="soup")

    for new in ("style.st", "d.st", "two"):
        added = [verbs.Addition(new, Fraction(1, 2))]
        verbs.revise(Revision("add", "soup", "more", added=added), force=True)
        apply("base", "lora.st", (new, Fraction(1, 2)), output="once")
        assert_same("once", "more")
        assert_proven("more")
        assert verbs.holds("more", new)
        verbs.revise(Revision("subtract", "more", "less", removed=["lora.st"]), force=True)
        apply("base", (new, Fraction(1, 2)), output="once")
        assert_same("once", "less")


def test_a_swap_puts_a_lora_of_other_components_in_the_place_of_one():
    pipeline("base", 1)
    both()
    lora("unet.st", **{OF_UNET: 5})
    apply("base", ("lora.st", Fraction(1, 2)), output="soup")

    verbs.revise(Revision("swap", "soup", "narrow", ["unet.st"], ["lora.st"]))
    apply("base", ("unet.st", Fraction(1, 2)), output="once")
    assert_same("once", "narrow")
    verbs.revise(Revision("swap", "narrow", "back", ["lora.st"], ["unet.st"]))
    assert_same("soup", "back")
    assert_proven("narrow", "back")


def test_an_added_lora_with_a_module_of_no_component_is_refused_by_name():
    pipeline("base", 1)
    both()
    lora("none.st", **{OF_UNET: 5, "lora_unet_nothing": 3})
    apply("base", "lora.st", output="soup")

    with pytest.raises(MismatchError, match="lora_unet_nothing: matches no layer of soup"):
        verbs.revise(Revision("add", "soup", "more", added=["none.st"]))
    assert not Path("more").exists()


def test_deltas_that_cancel_in_one_component_are_refused_with_a_way_that_works():
    pipeline("base", 1)
    for name, seed in (("one", 2), ("two", 3)):
        pipeline(name, seed, "vae")
        verbs.make_delta(DeltaRequest(name, "base", f"d-{name}"))

    with pytest.raises(UsageError, match="leave this component out of the folders of deltas"):
        apply("base", ("d-one", 1), ("d-two", -1))
    for name in ("one", "two"):
        shutil.rmtree(f"d-{name}/vae")
    apply("base", ("d-one", 1), ("d-two", -1))
    assert (values("base", "vae") == values("out", "vae")).all()
    assert_proven("out")
