"""What a ledger says falsely of the choices that made a soup is found by a rebuild."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from blake3 import blake3
from making import metadata, save, save_raw
from revising import assert_proven, average, verified

from soupctl.choices import Level, OnMissing

PREFIX = "model.diffusion_model."
K, Q = "k.weight", "q.weight"


@pytest.fixture
def soup(tmp_path, monkeypatch) -> Path:
    """A soup whose tensors are kept, padded, taken, renamed and read as codes with a scale."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)

    def values(*shape: int) -> np.ndarray:
        return random.normal(0, 1, shape).astype("f4")

    long = {"v.weight": values(2), PREFIX + Q: values(4, 4)}
    save(Path("a.st"), **long, **{PREFIX + K: values(2, 9, 1, 1)}, extra=values(3))
    save(Path("c.st"), **long, **{PREFIX + K: values(2, 4, 1, 1)})
    save(Path("d.st"), **{"v.weight": values(2)})
    kernel = values(2, 4, 1, 1).tobytes()
    short = {
        K: ("F32", (2, 4, 1, 1), kernel),
        Q: ("F8_E4M3", (4, 4), bytes(range(16))),
        "q.weight_scale": ("F32", (), struct.pack("<f", 0.1)),
    }
    save_raw(Path("b.st"), short)
    choices: dict[str, Any] = {"on_missing": OnMissing.KEEP, "pad": (PREFIX + K,)}
    average("soup.st", "a.st", "b.st", "c.st", take=(("v.*", "d.st"),), **choices)
    return Path("soup.st")


def entry(document: dict[str, Any], name: str) -> Any:
    return next(each for each in document["ingredients"] if each["name"] == name)


FORGERIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "other rule for what is missing": lambda d: d.update(missing="drop"),
    "no rule for what is missing": lambda d: d.pop("missing"),
    "no pads": lambda d: d.pop("pads"),
    "other pads": lambda d: d.update(pads=["nothing"]),
    "names that were not changed": lambda d: entry(d, "b.st").pop("renamed"),
    "names that were changed otherwise": lambda d: entry(d, "b.st").update(renamed="x"),
    "names that were changed": lambda d: entry(d, "a.st").update(renamed="x"),
    "names of a donor": lambda d: d["donors"][0].update(renamed="x"),
    "no codes": lambda d: entry(d, "b.st").pop("schemes"),
    "codes": lambda d: entry(d, "a.st").update(schemes=entry(d, "b.st")["schemes"]),
    "nothing that is lacking": lambda d: entry(d, "b.st").pop("lacks"),
    "something that is lacking": lambda d: entry(d, "a.st").update(lacks=["extra"]),
    "other tensors that are taken": lambda d: d["takes"][0].__setitem__(0, "zzz*"),
    "tensors of an ingredient": lambda d: d["takes"][0].__setitem__(1, entry(d, "a.st")["digest"]),
    "no donor": lambda d: d.pop("donors"),
    "another donor": lambda d: d["donors"][0].update(digest=entry(d, "a.st")["digest"]),
    "configs of a donor": lambda d: d.update(configs=d["donors"][0]["digest"]),
}


def test_a_choice_that_is_forged_with_its_digest_is_never_proven(soup, record_property):
    record_property("forged fields", len(FORGERIES))
    assert_proven(soup)
    original = metadata(soup)["soupctl"]
    for name, forge in FORGERIES.items():
        document = json.loads(original)
        del document["digest"]
        forge(document)
        digest = "blake3:" + blake3(canonical(document)).hexdigest()
        text = canonical({**document, "digest": digest}).decode()
        assert text != original, name
        tensors = safetensors.numpy.load_file(soup)
        safetensors.numpy.save_file(tensors, soup, {"soupctl": text})

        found = verified(soup)
        assert (True, True) == (found.level is not Level.REBUILD, bool(found.problem)), name


def canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
