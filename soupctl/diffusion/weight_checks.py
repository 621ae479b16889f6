"""The tensors of a base's weights, compared with the models that its configs describe.

Rule 1: headers alone are read, so a base is refused before data is read.
Rule 2: quantised weights are refused: without their scales, codes would be taken for weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..checkpoints.safetensors import read_header
from ..errors import Issue, MismatchError
from ..format.header import Tensor
from ..kinds.classify import classify
from ..kinds.facts import facts_of
from ..kinds.kind import QUANTISED
from .base import Base
from .component_classes import CONFIG

# names that diffusers used until 2023, and still reads
RENAMED = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
OLD_NAME = re.compile(r"(?<=\.)(query|key|value|proj_attn)(?=\.(weight|bias)$)")
PREFIX = "text_model."
"""Beginning of names in a text encoder of CLIP, which some versions of transformers leave out."""
TIED = frozenset(("shared.weight", "encoder.embed_tokens.weight"))
"""Names of one tensor of T5, of which a file needs one only."""


def require_same_tensors(base: Base, component: str, model: Any) -> None:
    """Raise MismatchError unless a component's weights have the names and shapes of its model.

    All but the denoiser may have more tensors, such as those of a decoder, as in the libraries.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = {_canonical(name): (name, shape) for name, shape in shapes.items()}
    files = {file: read_header(file) for file in base.files.weights[component].files}
    tensors = {each.name: each for header in files.values() for each in header.tensors}
    issues = [
        *_quantised(base, component, tensors),
        *_differences(base, component, files, expected),
    ]
    if issues:
        raise MismatchError.collected(issues)


def _quantised(base: Base, component: str, tensors: Mapping[str, Tensor]) -> Iterator[Issue]:
    """An issue for weights that are codes, or have scales."""
    config = base.files.contents.get(base.files.inside(component, CONFIG))
    kinds = classify(tensors, facts_of({}, config))
    for name, kind in kinds.items():
        if kind.role in QUANTISED:
            what = f"is a {kind.text}, and quantised weights cannot be trained or sampled"
            advice = "use the model's weights that are not quantised"
            yield Issue(what, base.folder / component, name, advice=advice)
            return


def _differences(
    base: Base,
    component: str,
    files: Mapping[Path, Any],
    expected: dict[str, tuple[str, tuple[int, ...]]],
) -> Iterator[Issue]:
    is_strict = component == base.denoiser
    for file, header in files.items():
        for tensor in header.tensors:
            found = expected.pop(_canonical(tensor.name), None)
            if found is None:
                if is_strict:
                    what = "is not in the model that its config describes"
                    yield Issue(what, file, tensor.name)
            elif found[1] != tensor.shape:
                what = f"has shape {list(tensor.shape)}, but its config says {list(found[1])}"
                yield Issue(what, file, tensor.name)
    tied = {name for name in TIED if name in expected}
    for name, (shown, _) in expected.items():
        if name not in tied or tied == TIED:
            what = "is missing, though its config describes it"
            yield Issue(what, base.folder / component, shown)


def _canonical(name: str) -> str:
    """The name of a tensor in all versions of the libraries."""
    return OLD_NAME.sub(lambda found: RENAMED[found[1]], name.removeprefix(PREFIX))
