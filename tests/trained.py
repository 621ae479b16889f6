"""Data shards, and checkpoints whose ledgers say that they were trained on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from making import save
from revising import root

from soupctl.checkpoints.digest import text_digest
from soupctl.format.dtypes import DType
from soupctl.ledger.data_shard import data_digest, encode_record, read_data_folder
from soupctl.ledger.ledger import Ledger
from soupctl.ledger.ledger_json import encode_ledger
from soupctl.ledger.training_record import TrainingRecord


def save_shard(folder: str, *images: bytes) -> Path:
    """A data shard of such files, each with a caption; they are not decoded."""
    Path(folder).mkdir(parents=True)
    for number, data in enumerate(images):
        Path(folder, f"{number}.png").write_bytes(data)
        Path(folder, f"{number}.txt").write_text(f"caption {number}")
    return Path(folder)


def save_trained(
    run: str,
    shard: Path,
    seed: int,
    *,
    base: str = "x.safetensors",
    with_list: bool = True,
    **options: str,
) -> str:
    """The weights of a run that was trained on a data shard, and the list of its images."""
    images = read_data_folder(shard).images(options.get("caption_column", "text"))
    path = Path(run, "model", "unet", "model.safetensors")
    values = np.random.default_rng(seed).normal(0, 1, 20).astype(np.float16)
    save(path, w=values)
    training = TrainingRecord(
        root(base),
        data_digest(images),
        shard.name,
        len(images),
        4,
        "ema",
        {"caption_column": "text", **options},
        {"soupctl": "1"},
    )
    ledger = Ledger("trained", root(path), (), ((DType.F16, 1),), training=training)
    save(path, {"soupctl": encode_ledger(ledger, text_digest)}, w=values)
    if with_list:
        Path(run, "data.jsonl").write_bytes(encode_record(images))
    return str(path.parent)
