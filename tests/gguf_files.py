"""GGUF files as the gguf package of llama.cpp writes and reads them."""

from __future__ import annotations

import gguf
import numpy as np

from soupctl import verbs
from soupctl.verbs import ConvertRequest

Q8 = gguf.GGMLQuantizationType.Q8_0
LINEAR = "double_blocks.0.img_attn.proj.weight"


def convert(source, output, *, execution=None, **options):
    verbs.convert(ConvertRequest(source, output, **options), force=True, execution=execution)


def drawn(*shape, scale=1.0):
    return (np.random.default_rng(7).normal(size=shape) * scale).astype(np.float32)


def write_gguf(path, tensors, texts=(), shapes=()):
    """A file as the package writes it; tensors are arrays, or arrays with the type to store."""
    writer = gguf.GGUFWriter(path, "flux")
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc"])
    writer.add_float32("some.number", 0.5)
    for key, text in texts:
        writer.add_string(key, text)
    for name, shape in shapes:
        writer.add_array(f"comfy.gguf.orig_shape.{name}", shape)
    for name, array in tensors.items():
        if isinstance(array, tuple):
            values, kind = array
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
