"""The readers of what others wrote, each with sound texts to begin from, for the fuzzers.

Rule 1: a reader returns a value or raises a SoupError of one line; anything else is a finding.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from blake3 import blake3
from merge_files import (
    ADAPTER_CONFIG,
    facts_of_delta,
    read_adapter,
    read_adapter_config,
    resealed_facts,
    resealed_part,
    sound_adapters,
    sound_facts,
    sound_part,
)

from soupctl.banks.config import BankConfig, BaseDescription, Site
from soupctl.banks.config_json import encode_config, parse_config
from soupctl.banks.stack_json import StackEntry, encode_stack, parse_stack
from soupctl.checkpoints.lists import read_list
from soupctl.cli.options import split_weight
from soupctl.configs.compare import differences
from soupctl.errors import InputError, SoupError, UsageError
from soupctl.format.dtypes import DType, parse_dtype
from soupctl.format.gguf import TooShort, encode_gguf, lay_out_gguf, parse_gguf
from soupctl.format.header import encode_header, header_size, lay_out, parse_header
from soupctl.format.index import encode_index, parse_index
from soupctl.kinds.facts import facts_of
from soupctl.ledger.data_shard import read_data_record
from soupctl.ledger.image_tables import read_metadata
from soupctl.ledger.ledger_json import encode_ledger, parse_ledger
from soupctl.ledger.weights import parse_weight, read_weight
from soupctl.merge.blocks.request import read_blocks
from soupctl.merge.kept_sum.format import Facts, encode_facts, parse_facts
from soupctl.merge.recipe import Recipe, require_matches, selector
from soupctl.merge.recipes.read import read_recipe
from soupctl.storage.sizes import parse_size
from soupctl.training.bank_options import PatchOptions
from soupctl.training.config_file import read_config
from soupctl.training.metrics import read_metrics
from soupctl.training.options import Options
from soupctl.training.run_record import RunRecord, read_record, write_record

TESTS = Path(__file__).parents[1]
LONGEST_MESSAGE = 2000
LEDGER = "the text of a ledger"


@dataclass(frozen=True)
class ReaderCase:
    """What reads bytes that others wrote, and sound examples of them."""

    read: Callable[[bytes], object]
    sound: tuple[bytes, ...]


def digest(text: str) -> str:
    """The digest of a text, as ledgers hold it."""
    return "blake3:" + blake3(text.encode("utf-8")).hexdigest()


def in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """A reader of bytes from one of a file of this name, in a folder of its own."""

    def reading(raw: bytes) -> object:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_bytes(raw)
            return read(path)

    return reading


def in_text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """A reader of bytes from one of words on a command line."""
    return lambda raw: read(os.fsdecode(raw.replace(b"\0", b"")))


def _header(raw: bytes) -> object:
    size = header_size(raw[:8], len(raw), "file")
    return parse_header(raw[:size], len(raw), "file")


def _gguf(raw: bytes) -> object:
    try:
        return parse_gguf(raw, len(raw), "file")
    except TooShort:
        raise InputError("ends within its header", path="file") from None


def _gguf_of(*tensors: tuple[str, int, tuple[int, ...]], **metadata: str | int) -> bytes:
    laid_out = lay_out_gguf(tensors)
    return encode_gguf(laid_out, metadata) + bytes(laid_out[-1].stop if laid_out else 0)


def _ledger(raw: bytes) -> object:
    """The ledger in a text, which is written as it was read."""
    ledger = parse_ledger(raw.decode("utf-8", "replace"), "soup.st", digest)
    assert ledger == parse_ledger(encode_ledger(ledger, digest), "soup.st", digest)
    return ledger


def _resealed_ledger(raw: bytes) -> object:
    """The same with a digest that fits, as a forger would write it."""
    try:
        document = json.loads(raw)
        del document["digest"]
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        document["digest"] = digest(text)
    except (ValueError, TypeError, KeyError, RecursionError):
        return _ledger(raw)
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _ledger(text.encode("utf-8", "replace"))


def _written_weight(text: str) -> object:
    try:
        return read_weight(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _patterns(text: str) -> object:
    recipe = Recipe((Fraction(1),), keys=(text,), excludes=("none*",))
    names = ("unet.conv.weight", "vae.bias", "none")
    require_matches(recipe, names)
    return [*filter(selector(recipe), names)]


def _header_of(tensors: dict[str, tuple[DType, tuple[int, ...]]], **metadata: str) -> bytes:
    laid_out = lay_out([(name, dtype, shape) for name, (dtype, shape) in tensors.items()])
    return encode_header(laid_out, metadata) + bytes(laid_out[-1].stop if laid_out else 0)


RUNS = ((DType.F16, 3), (DType.I64, 1))
DIT = BaseDescription(
    kind="DiTTransformer2DModel",
    sites=tuple(Site(f"transformer_blocks.{depth}", depth, (6, 4)) for depth in range(2)),
    sample_size=(4, 6),
    embedding_width=4,
    config_digest=digest("config"),
    num_train_timesteps=1000,
    prediction_type="epsilon",
    digest=digest("base"),
    name="base",
)
RECIPE = b"""dtype = "F32"
inputs = {a = "a.st", b = {path = "b.st"}}
[steps]
half = {average = ["a", "b"], weights = [0.5, "1/3"], materialise = true}
whole = {base = "a", add = ["half"], blocks = {"w*" = [1]}}
last = {from = "whole", take = {"w" = "b"}}
"""
BLOCKS = b"""default = [1, 2]
[blocks]
"*.attn2.*" = [0.25, "3/4"]
"""
KINDS = (Options, PatchOptions)
TOML = b"""steps = 100
lr = 1e-4
prompt = ["a red circle", "a blue square"]
cache-latents = true
precision = "bf16"
gate = "token"
"""
CONFIG = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [32, 64],
    "cross_attention_dim": 32,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
}


def _compared(raw: bytes) -> object:
    """The differences of a config and another of each kind."""
    config = json.dumps(CONFIG).encode()
    names = ("unet/config.json", "scheduler/scheduler_config.json", "model_index.json", "x.json")
    return [differences(name, *pair) for name in names for pair in ((config, raw), (raw, config))]


def _golden(name: str) -> bytes:
    return (TESTS / "golden" / name).read_bytes().rstrip(b"\n")


LEDGERS = tuple(map(_golden, ("ledger-1.json", "ledger-1-trained.json", "ledger-2.json")))


def _record() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        facts = {"steps": 10, "weights": digest("weights"), "options": {"lr": 0.1}}
        write_record(Path(folder), RunRecord({"base": digest("base")}, True, facts))
        return Path(folder, "soupctl.json").read_bytes()


READERS = {
    "header": ReaderCase(
        _header,
        (
            _header_of({}),
            _header_of({"a": (DType.F32, (2, 3)), "b": (DType.U8, ())}, format="pt"),
            _header_of({"x": (DType.BF16, (0, 4)), "é": (DType.F8_E4M3, (7,))}),
        ),
    ),
    "GGUF header": ReaderCase(
        _gguf,
        (
            _gguf_of(),
            _gguf_of(("a", 0, (2, 3)), ("b", 30, (5,)), ("c", 8, (2, 64)), name="x", kind=3),
        ),
    ),
    "index": ReaderCase(
        lambda raw: parse_index(raw, "index.json"),
        (
            encode_index({"a": "model-00001-of-00002.st", "b": "x/y.st"}, {"total_size": 8}),
            b'{"weight_map": {}}',
        ),
    ),
    "ledger": ReaderCase(_ledger, LEDGERS),
    "resealed ledger": ReaderCase(_resealed_ledger, LEDGERS),
    "sum": ReaderCase(
        lambda raw: parse_facts(raw.decode("utf-8", "replace"), LEDGER, "soup.sum", digest),
        (
            encode_facts(
                Facts(Fraction(1, 3), digest("root"), (RUNS, RUNS)), LEDGER, digest
            ).encode(),
        ),
    ),
    "bank": ReaderCase(lambda raw: parse_config(raw, "bank"), (encode_config(BankConfig(DIT)),)),
    "stack": ReaderCase(
        lambda raw: parse_stack(raw, "stack"),
        (
            encode_stack(
                [
                    StackEntry("cats", Fraction(1, 3), digest("cats")),
                    StackEntry("dogs", Fraction(-2), digest("dogs")),
                ]
            ),
        ),
    ),
    "run record": ReaderCase(
        in_file("soupctl.json", lambda path: read_record(path.parent)), (_record(),)
    ),
    "metrics of a run": ReaderCase(
        in_file("metrics.jsonl", lambda path: read_metrics(path.parent)),
        (b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n',),
    ),
    "record of a data shard": ReaderCase(
        in_file("data.jsonl", read_data_record),
        (
            json.dumps(
                {"captions": ["a"], "digest": digest("a"), "file_name": "a.png", "label": None}
            ).encode(),
        ),
    ),
    "image metadata": ReaderCase(
        in_file("metadata.jsonl", lambda path: read_metadata(path, "text")),
        (b'{"file_name": "a.png", "text": ["a", "b"], "label": 3}\n{"file_name": "b/c.png"}\n',),
    ),
    "TOML options": ReaderCase(in_file("run.toml", lambda path: read_config(path, KINDS)), (TOML,)),
    "recipe": ReaderCase(in_file("recipe.toml", read_recipe), (RECIPE,)),
    "weights by block": ReaderCase(in_file("blocks.toml", read_blocks), (BLOCKS,)),
    "record of a delta": ReaderCase(facts_of_delta, (sound_facts(),)),
    "resealed record of a delta": ReaderCase(resealed_facts, (sound_facts(),)),
    "resealed record of a part": ReaderCase(resealed_part, (sound_part(),)),
    "adapter": ReaderCase(in_file("lora.st", read_adapter), sound_adapters()),
    "config of an adapter": ReaderCase(read_adapter_config, (ADAPTER_CONFIG,)),
    "configs compared": ReaderCase(
        _compared,
        (json.dumps({**CONFIG, "_diffusers_version": "1"}).encode(),),
    ),
    "facts of a config": ReaderCase(
        lambda raw: facts_of({"_quantization_metadata": raw.decode("utf-8", "replace")}, raw, raw),
        (
            b'{"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}',
            b'{"layers": {"a": {"format": "float8_e4m3fn"}}, "peft_type": "LORA"}',
        ),
    ),
    "list of inputs": ReaderCase(
        in_file("list", lambda path: [split_weight(each) for each in read_list(str(path))]),
        (b"a.st\nb.st@2\nc@d.st@1/3\n",),
    ),
    "weight": ReaderCase(in_text(parse_weight), (b"2", b"0.25", b"70%", b"1e-3", b"1/3")),
    "written weight": ReaderCase(in_text(_written_weight), (b"2", b"-1/3")),
    "size": ReaderCase(
        in_text(lambda text: parse_size(text, "--max-memory")), (b"512M", b"1.5GiB")
    ),
    "dtype": ReaderCase(in_text(parse_dtype), (b"F32", b"bfloat16")),
    "pattern": ReaderCase(in_text(_patterns), (b"unet.*", b"[!a]?*.bias")),
}


def attempt(name: str, raw: bytes) -> bool:
    """Whether the reader takes these bytes; AssertionError for a refusal that is not one line."""
    try:
        READERS[name].read(raw)
    except SoupError as error:
        message = error.message()
    else:
        return True
    assert len(message) < LONGEST_MESSAGE, (name, len(message))
    return False
