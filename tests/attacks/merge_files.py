"""Files that merges read beside checkpoints, as bytes: records of deltas, and adapters."""

from __future__ import annotations

import json
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
from blake3 import blake3
from safetensors.numpy import save_file

from soupctl.checkpoints.checkpoint import Checkpoint
from soupctl.checkpoints.open import find_input, open_input
from soupctl.format.dtypes import DType
from soupctl.format.header import Tensor
from soupctl.lora.modules import AdapterModule, Family
from soupctl.lora.scales import METADATA, read_configs, scale_of
from soupctl.merge.adapter_reader import AdapterReader
from soupctl.merge.applied_sources import delta_of
from soupctl.merge.average import Request
from soupctl.merge.blocks.request import BlockWeights
from soupctl.merge.delta.format import DeltaFacts, encode_facts, parse_facts
from soupctl.merge.order import PassRows
from soupctl.merge.parts.divide import PartOfPlan
from soupctl.merge.parts.record import (
    DIGEST_KEY,
    PART_KEY,
    PartRecord,
    read_record,
    record_metadata,
    request_of,
)
from soupctl.merge.parts.request_json import encode_request

LEDGER = "the text of a ledger"
ADAPTER_CONFIG = b"""{"lora_alpha": 8, "r": 4, "alpha_pattern": {"net": 2.5},
"rank_pattern": {"net": 2}, "use_rslora": true, "use_dora": false}"""


def digest(text: str) -> str:
    """The digest of a text, as ledgers hold it."""
    return "blake3:" + blake3(text.encode("utf-8")).hexdigest()


def sound_facts() -> bytes:
    """The record of a delta."""
    specs = (("a", DType.F16, (2, 3)), ("é", DType.I64, ()))
    return encode_facts(DeltaFacts(specs, ("same",)), LEDGER, digest).encode()


def facts_of_delta(raw: bytes) -> object:
    """The record of a delta in a text."""
    return parse_facts(raw.decode("utf-8", "replace"), LEDGER, "cats.delta", digest)


def resealed_facts(raw: bytes) -> object:
    """The same with a digest that fits, as a forger would write it."""
    try:
        body = json.loads(raw)
        del body["digest"]
        body["digest"] = digest(_canonical(body))
        return facts_of_delta(_canonical(body).encode())
    except (ValueError, TypeError, KeyError, RecursionError):
        return facts_of_delta(raw)


def sound_part() -> bytes:
    """The record of a part of a soup."""
    blocks = BlockWeights((("w*", (Fraction(1), Fraction(1, 3))),))
    request = Request(
        ("/a.st", "/b.st"), "/soup.st", take=(("x", "/c.st"),), blocks=blocks, shard_size=9
    )
    row = ("w", "F16", (2, 3), "0" * 64)
    rows = PassRows(((row,), (row,)), (row,), ("steps",))
    part = PartOfPlan(1, 2)
    record = PartRecord(part, digest("plan"), encode_request(request), (("/a.st", 8, 9),), (rows,))
    return record_metadata(record)[PART_KEY].encode()


def resealed_part(raw: bytes) -> object:
    """The record of a part in a text, with a digest that fits, and the request in it."""
    text = raw.decode("utf-8", "replace")
    path = Path("1-of-2.safetensors")
    record = read_record({PART_KEY: text, DIGEST_KEY: digest(text)}, path)
    return record, request_of(record, path)


def _canonical(body: object) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sound_adapters() -> tuple[bytes, ...]:
    """Files of a LoRA, a LoHa and a LoKr for a base of one matrix, 4 by 6."""
    return (
        _file({"lora_up.weight": (4, 2), "lora_down.weight": (2, 6)}),
        _file({"hada_w1_a": (4, 2), "hada_w1_b": (2, 6), "hada_w2_a": (4, 2), "hada_w2_b": (2, 6)}),
        _file({"lokr_w1": (2, 2), "lokr_w2_a": (2, 1), "lokr_w2_b": (1, 3)}),
    )


def _file(factors: dict[str, tuple[int, ...]]) -> bytes:
    arrays = {f"net.{role}": np.ones(shape, "f2") for role, shape in factors.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "lora.st")
        save_file(arrays | {"net.alpha": np.ones(1, "f2")}, path)
        return path.read_bytes()


def read_adapter(path: Path) -> object:
    """The updates of an adapter in the file, for a base of one matrix."""
    base = path.with_name("base.st")
    save_file({"net.weight": np.ones((4, 6), "f2")}, base)
    with _opened(path) as adapter, _opened(base) as model:
        found = delta_of(adapter, model)
        assert isinstance(found, AdapterReader)
        return [(found.scales(name), found.updates(name)) for name in found.changed]


def read_adapter_config(raw: bytes) -> object:
    """The scales of an adapter without alpha whose `adapter_config.json` this is."""
    configs = read_configs({METADATA: raw.decode("utf-8", "replace")}, raw, "lora.st")
    factors = {
        role: Tensor(role, DType.F16, shape, 0, 0)
        for role, shape in (("up", (4, 2)), ("down", (2, 6)))
    }
    return scale_of(AdapterModule("net", Family.LORA, factors, None, "net"), None, configs)


def _opened(path: Path) -> Checkpoint:
    return open_input(find_input(path).components[0])
