"""A bill of materials fits its specification, and says of a soup what its ledger says."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import save, save_pipeline
from revising import average, revise, root
from trained import save_shard, save_trained

from soupctl import verbs
from soupctl.errors import LedgerError, OutputError, UsageError
from soupctl.verbs import DescribeRequest


@pytest.fixture
def soup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A soup of a trained ingredient and a plain one, from which another was removed."""
    monkeypatch.chdir(tmp_path)
    save(Path("x.safetensors"), w=np.ones(20, np.float16))
    trained = save_trained("run", save_shard("data/cats", b"tom"), 1)
    for number, name in enumerate(("y.st", "z.st"), 2):
        save(Path(name), w=np.full(20, number, np.float16))
    average("whole.st", (trained, Fraction(1, 3)), "y.st", "z.st")
    revise("subtract", "whole.st", Path("soup.st"), removed=["z.st"])
    return "soup.st"


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    average("soup", save_pipeline(Path("a"), 1), save_pipeline(Path("b"), 2))
    return "soup"


def bill(soup: str, name: str = "bom.json") -> dict[str, Any]:
    verbs.describe(DescribeRequest(soup=soup, output=Path(name)))
    found: dict[str, Any] = json.loads(Path(name).read_text())
    return found


def facts(value: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in value["properties"]}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("fixture", ["soup", "pipeline"])
def test_a_bill_fits_the_schema_of_its_specification(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    schema = pytest.importorskip("cyclonedx.schema")
    validation = pytest.importorskip("cyclonedx.validation.json")
    bill(request.getfixturevalue(fixture))

    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)

    assert validator.validate_str(Path("bom.json").read_text()) is None
    assert validator.validate_str("{}") is not None


def test_a_bill_lists_files_ingredients_and_data(soup: str) -> None:
    found = bill(soup)

    component = found["metadata"]["component"]
    ancestors = {each["name"]: facts(each) for each in component["pedigree"]["ancestors"]}
    assert [each["name"] for each in component["components"]] == ["soup.st"]
    assert {each["soupctl:weight"] for each in ancestors.values()} == {"1", "1/3"}
    assert ancestors["y.st"]["soupctl:content"] == root("y.st")
    assert facts(component)["soupctl:removed"] == f"{root('z.st')} z.st"
    (data,) = (each for each in found["components"] if each["type"] == "data")
    assert data["name"] == "cats"
    (used,) = component["modelCard"]["modelParameters"]["datasets"]
    assert used["ref"] == data["bom-ref"]


def test_equal_soups_have_equal_bills_and_others_have_other_numbers(soup: str) -> None:
    first, again, other = bill(soup), bill(soup, "again.json"), bill("whole.st", "other.json")

    assert first == again
    assert first["serialNumber"] != other["serialNumber"]
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", first["serialNumber"])


def test_a_card_names_the_ingredients_with_their_recipe(pipeline: str) -> None:
    verbs.describe(DescribeRequest(soup=pipeline, card=True))

    text = Path("soup/README.md").read_text()
    # the hub takes no card with bases that are no repositories
    assert text.split("---\n")[1] == "library_name: diffusers\ntags:\n- merge\n- soupctl\n"
    assert "| a | 1 | 1/2 |" in text
    (history, *_) = verbs.history(pipeline)
    assert history[1].root in text
    assert "[steps.soup]" in text


def test_a_card_that_is_there_is_not_replaced_unless_asked(pipeline: str) -> None:
    Path("soup/README.md").write_text("mine")
    request = DescribeRequest(soup=pipeline, card=True, output=Path("bom.json"))

    with pytest.raises(OutputError, match="exists"):
        verbs.describe(request)
    kept = Path("soup/README.md").read_text()
    verbs.describe(request, force=True)

    assert kept == "mine"
    assert "- soupctl" in Path("soup/README.md").read_text()
    names = [
        each["name"] for each in bill(pipeline, "b.json")["metadata"]["component"]["components"]
    ]
    assert "README.md" in names


def test_names_of_ingredients_cannot_end_a_table_or_a_block(soup: str) -> None:
    odd = save(Path("``` | <b>\n---.st"), w=np.ones(20, np.float16))
    average("odd", average_folder(odd))

    verbs.describe(DescribeRequest(soup="odd", card=True))

    _, _, text = Path("odd/README.md").read_text().split("---\n")
    assert text.count("```") == 2
    assert "<b>" not in text.split("```toml")[0]


def average_folder(file: Path) -> str:
    """A folder whose only checkpoint is of the content of a file, and whose name is odd, too."""
    folder = Path("``` | <b>")
    folder.mkdir()
    file.rename(folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    return str(folder)


def test_what_cannot_be_described_is_refused(soup: str) -> None:
    before = Path(soup).read_bytes()

    with pytest.raises(UsageError, match="is a file"):
        verbs.describe(DescribeRequest(soup=soup, card=True))
    with pytest.raises(OutputError, match="is also an input"):
        verbs.describe(DescribeRequest(soup=soup, output=Path(soup)), force=True)
    with pytest.raises(LedgerError, match="is not a soup"):
        verbs.describe(DescribeRequest(soup="y.st", output=Path("bom.json")))
    with pytest.raises(UsageError, match="standard input"):
        verbs.describe(DescribeRequest(soup="-", output=Path("bom.json")))

    assert Path(soup).read_bytes() == before
