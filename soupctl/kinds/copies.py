"""Tensors that are stored twice: tied embeddings, and moving averages beside the weights.

Rule 1: a copy may be missing where it equals its original in the other files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..format.header import Tensor
from .kind import Role, TensorKind

TIED = (
    # the last parts of two names that stand for one tensor, and the source
    ("lm_head.weight", "embed_tokens.weight", "transformers, _tied_weights_keys of Llama, Gemma"),
    ("lm_head.weight", "wte.weight", "transformers, GPT-2"),
    ("lm_head.weight", "embed_in.weight", "transformers, GPT-NeoX"),
    ("lm_head.weight", "word_embeddings.weight", "transformers, BLOOM, Falcon"),
    ("lm_head.weight", "shared.weight", "transformers, T5"),
    ("embed_out.weight", "embed_in.weight", "transformers, GPT-NeoX"),
    ("encoder.embed_tokens.weight", "shared.weight", "transformers, T5"),
    ("decoder.embed_tokens.weight", "shared.weight", "transformers, T5"),
    ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "transformers, BART"),
    ("decoder.weight", "word_embeddings.weight", "transformers, BERT, cls.predictions"),
    ("decoder.bias", "predictions.bias", "transformers, BERT, cls.predictions"),
    ("cls.predictions.decoder.weight", "word_embeddings.weight", "transformers, BERT"),
    ("cls.predictions.decoder.bias", "cls.predictions.bias", "transformers, BERT"),
    ("lm_head.decoder.weight", "word_embeddings.weight", "transformers, RoBERTa"),
    ("vocab_projector.weight", "word_embeddings.weight", "transformers, DistilBERT"),
    ("proj_out.weight", "decoder.embed_tokens.weight", "transformers, Whisper"),
    ("output.weight", "tok_embeddings.weight", "Meta Llama, original names"),
)
"""Patterns of a copy and its original, and the source of that."""

EMA = "model_ema."
"""Prefix of the moving averages in CompVis's ema.py, whose names have no dots."""
EMA_OF = "model."
"""Prefix of the weights that they average."""

_ENDS: dict[str, tuple[str, ...]] = {}
for _copy, _original, _ in TIED:
    _ENDS[_copy] = (*_ENDS.get(_copy, ()), _original)
_ORIGINALS = tuple({end for ends in _ENDS.values() for end in ends})


def is_ema(name: str) -> bool:
    """Whether a tensor is part of the moving average of a model."""
    return name.startswith(EMA)


def find_copies(tensors: Mapping[str, Tensor]) -> dict[str, TensorKind]:
    """The kind of each copy among the tensors, by name; its original is there, of its shape."""
    found: dict[str, TensorKind] = {}
    averages = _averages(tensors) if any(map(is_ema, tensors)) else ()
    for copy, original in (*_tied(tensors), *averages):
        if copy in tensors and tensors[copy].shape == tensors[original].shape:
            what = "moving average" if is_ema(copy) else "tied weight"
            found.setdefault(copy, TensorKind(Role.COPY, what, of=original))
    return found


def originals(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The original of each possible copy, by the name of the copy."""
    return {**dict(_averages(tensors)), **dict(_tied(tensors))}


def _tied(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Pairs of a copy and its original for tied weights, whether the copy exists or not."""
    by_end: dict[str, list[str]] = {}
    for name in tensors:
        if name.endswith(_ORIGINALS):
            for end in _last_parts(name):
                by_end.setdefault(end, []).append(name)
    for copy, ends in _ENDS.items():
        for end in ends:
            # with several embeddings, it is unknown which one is tied
            if len(by_end.get(end, ())) == 1:
                (original,) = by_end[end]
                for name in _places(copy, original, end):
                    yield name, original


def _last_parts(name: str) -> tuple[str, ...]:
    """The last two parts of a name, and the last three."""
    parts = name.rsplit(".", 3)
    return (".".join(parts[-2:]), *([".".join(parts[-3:])] if len(parts) > 2 else []))


def _places(copy: str, original: str, end: str) -> Iterator[str]:
    """Names that the copy may have: at the top level, or in the module that holds the original."""
    prefix = original[: -len(end)]
    yield copy
    while prefix:
        yield prefix + copy
        prefix = prefix[: prefix.rfind(".", 0, -1) + 1]


def _averages(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    for name in tensors:
        if name.startswith(EMA_OF):
            yield EMA + name.removeprefix(EMA_OF).replace(".", ""), name
