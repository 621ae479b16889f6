"""A GGUF file to be written: the type of each tensor, its architecture and its header.

Sources: the architectures that ComfyUI-GGUF reads, and the tensors that it knows them by
(loader.py, tools/convert.py).

Rule 1: names stay as they are; ComfyUI reads those of the original layout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from ...errors import Issue, MismatchError, shortened
from ...format.dtypes import DType
from ...format.gguf import (
    ARCHITECTURE,
    LONGEST_NAME,
    MOST_DIMS,
    NUMBERS,
    Q8_0,
    GgufTensor,
    encode_gguf,
    lay_out_gguf,
)
from ...format.header import Tensor
from ...format.shards import OutputFile
from ...frozen import frozen
from ...kinds.linear import DENOISER
from ..dtypes import ConvertedTensor

QUANTISATION_VERSION = 2
NOT_COPIED = (
    "format",
    "general.alignment",
    "general.file_type",
    "general.quantization_version",
)
"""Keys of metadata that are of safetensors files, or not texts in GGUF."""
FILE_TYPES = {0: 0, 1: 1, Q8_0: 7, 30: 32}
"""The type of a file most of whose matrices have a type, as llama.cpp numbers them."""
ARCHITECTURES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("flux", ("double_blocks.0.img_attn.proj.weight",)),
    ("sd3", ("joint_blocks.0.x_block.attn.qkv.weight",)),
    ("sd3", ("transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight")),
    ("aura", ("double_layers.3.modX.1.weight",)),
    (
        "hyvid",
        (
            "double_blocks.0.img_attn_proj.weight",
            "txt_in.individual_token_refiner.blocks.1.self_attn_qkv.weight",
        ),
    ),
    ("wan", ("blocks.0.self_attn.norm_q.weight", "text_embedding.2.weight", "head.modulation")),
    (
        "ltxv",
        (
            "adaln_single.emb.timestep_embedder.linear_2.weight",
            "transformer_blocks.27.scale_shift_table",
            "caption_projection.linear_2.weight",
        ),
    ),
    ("lumina2", ("cap_embedder.1.weight", "context_refiner.0.attention.qkv.weight")),
    ("sdxl", ("label_emb.0.0.weight",)),
    ("sdxl", ("add_embedding.linear_1.weight", "down_blocks.0.downsamplers.0.conv.weight")),
    ("sd1", ("input_blocks.3.0.op.weight", "output_blocks.8.2.conv.weight")),
    ("sd1", ("down_blocks.0.downsamplers.0.conv.weight",)),
)
"""The name of an architecture, and tensors that only it has; the first that fits counts."""


@frozen
class GgufFile:
    """The one file of an output."""

    tensors: tuple[GgufTensor, ...]
    architecture: str | None
    """None if ComfyUI-GGUF knows no name for it."""

    def header(self, metadata: Mapping[str, str]) -> bytes:
        """The bytes before the data; `metadata` is that of a safetensors file."""
        counts: Counter[int] = Counter()
        for each in self.tensors:
            if len(each.shape) > 1:
                counts[each.type] += each.count
        found: dict[str, str | int] = {"general.quantization_version": QUANTISATION_VERSION}
        if self.architecture is not None:
            found[ARCHITECTURE] = self.architecture
        most = counts.most_common(1)
        if most and most[0][0] in FILE_TYPES:
            found["general.file_type"] = FILE_TYPES[most[0][0]]
        own = {key: text for key, text in metadata.items() if key not in NOT_COPIED}
        return encode_gguf(self.tensors, {**found, **own})

    @property
    def size(self) -> int:
        """Bytes of data, with the gaps between tensors."""
        return self.tensors[-1].stop if self.tensors else 0

    def output(self, path: Path) -> OutputFile:
        """The file as part of an output; blocks are bytes."""
        made = []
        for each in self.tensors:
            dtype, shape = DType.U8, (each.stop - each.start,)
            made.append(Tensor(each.name, dtype, shape, each.start, each.stop))
        return OutputFile(path.name, tuple(made))


def gguf_file(label: str, tensors: Sequence[ConvertedTensor]) -> GgufFile:
    """The file that holds these tensors, by name; MismatchError for those that none can hold."""
    if issues := [issue for each in tensors for issue in _issues(label, each)]:
        raise MismatchError.collected(issues)
    # the gguf package reads no BF16 tensor without dimensions
    entries = [(each.name, type_of(each), each.arranged.shape or (1,)) for each in tensors]
    return GgufFile(lay_out_gguf(entries), _architecture([each.name for each in tensors]))


def type_of(tensor: ConvertedTensor) -> int:
    """The number of the type that a tensor has in a GGUF file."""
    return Q8_0 if tensor.is_blocks else NUMBERS[tensor.dtype]


def _issues(label: str, each: ConvertedTensor) -> Iterator[Issue]:
    dims = len(each.arranged.shape)
    # of a long name, a glob of its ends
    glob = shortened(each.name).replace("...", "*")
    leave_out = f"--exclude '{glob}' leaves it out"
    if not each.is_blocks and each.dtype not in NUMBERS:
        is_float = each.is_quantised or each.dtype.value.startswith("F8_")
        advice = "--dtype BF16 stores its value" if is_float else leave_out
        yield Issue(f"is {each.dtype.value}, which GGUF does not have", label, each.name, advice)
    if dims > MOST_DIMS:
        what = f"has {dims} dimensions, and GGUF allows {MOST_DIMS}"
        yield Issue(what, label, each.name, leave_out)
    if len(each.name.encode()) > LONGEST_NAME:
        what = f"has a name of more than {LONGEST_NAME} bytes, which no program reads in a GGUF"
        yield Issue(what, label, each.name, leave_out)


def _architecture(names: Collection[str]) -> str | None:
    own = {name.removeprefix(DENOISER) for name in names}
    for architecture, marks in ARCHITECTURES:
        if own.issuperset(marks):
            return architecture
    return None
