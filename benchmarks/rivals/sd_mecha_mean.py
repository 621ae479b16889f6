"""The mean of checkpoints by sd-mecha: `sd_mecha_mean.py OUT IN...`.

Rule 1: it computes in float32 and writes the ingredients' dtype; its own default is float16 output.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import sd_mecha
import torch
from sd_mecha.extensions import model_configs

DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
CONFIG = "any-benchmark"


def tensors_of(path: Path) -> dict[str, model_configs.KeyMetadata]:
    """Shape and dtype of each tensor."""
    with path.open("rb") as file:
        entries = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return {
        name: model_configs.KeyMetadata(entry["shape"], DTYPES[entry["dtype"]])
        for name, entry in entries.items()
        if name != "__metadata__"
    }


def average(paths: list[Path], out: Path) -> None:
    """Write the uniform average of the checkpoints `paths` to `out`."""
    tensors = tensors_of(paths[0])
    # without a config of its own, a checkpoint is taken for the known model that resembles it most
    component = model_configs.ModelComponent(tensors)
    model_configs.register(model_configs.ModelConfigImpl(CONFIG, {"unet": component}))
    models = [sd_mecha.model(path, config=CONFIG) for path in paths]
    (dtype,) = {tensor.dtype for tensor in tensors.values()}
    sd_mecha.merge(sd_mecha.n_average(*models), output=out, output_dtype=dtype)


if __name__ == "__main__":
    average([Path(path) for path in sys.argv[2:]], Path(sys.argv[1]))
