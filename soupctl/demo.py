"""Demo checkpoints: three small fine-tunes of one base, generated from a seed."""

from __future__ import annotations

from pathlib import Path

from .errors import OutputError
from .format.dtypes import DType
from .format.header import encode_header, lay_out
from .storage.atomic import publish_folder
from .storage.files import write_at

NAMES = ("cats", "dogs", "owls")

WIDTH = 64

SHAPES = {
    "conv_in.weight": (WIDTH, 4, 3, 3),
    "conv_in.bias": (WIDTH,),
    "time_embedding.linear_1.weight": (4 * WIDTH, WIDTH),
    "down_blocks.0.resnets.0.conv1.weight": (WIDTH, WIDTH, 3, 3),
    "mid_block.resnets.0.conv1.weight": (WIDTH, WIDTH, 3, 3),
    "up_blocks.0.resnets.0.conv1.weight": (WIDTH, WIDTH, 3, 3),
    "conv_out.weight": (4, WIDTH, 3, 3),
}


def make_checkpoints(folder: str | Path, seed: int = 0) -> tuple[Path, ...]:
    """Write three small fp16 checkpoints of one shape into a new folder and return their paths.

    The same seed gives the same bytes. Raises OutputError if the folder exists or cannot be made.
    """
    import numpy as np

    folder = Path(folder)
    if folder.exists():
        raise OutputError("exists", path=folder, advice="remove it, or name another folder")
    tensors = lay_out((name, DType.F16, shape) for name, shape in SHAPES.items())
    header = encode_header(tensors, {"format": "pt"})
    base = np.random.default_rng(seed)
    start = {tensor.name: base.normal(0, 0.02, tensor.count) for tensor in tensors}
    with publish_folder(folder, replace=False, may_replace=lambda path: False) as staging:
        for number, name in enumerate(NAMES, 1):
            tuned = np.random.default_rng([seed, number])
            fd = staging.create(f"{name}.safetensors", len(header) + tensors[-1].stop)
            write_at(fd, header, 0)
            for tensor in tensors:
                values = start[tensor.name] + tuned.normal(0, 0.002, tensor.count)
                write_at(fd, values.astype("<f2").tobytes(), len(header) + tensor.start)
    return tuple(folder / f"{name}.safetensors" for name in NAMES)
