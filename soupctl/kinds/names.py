"""Renamings of tensors: files may have a prefix, or the names of another library version.

Rule 1: names are changed only if the two sets then coincide, so nothing is paired by guess.
Rule 2: one change is undone, not a chain of them; two prefixes of a name are one change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping

from ..frozen import frozen
from ..pattern import pattern

PREFIXES = {
    "_orig_mod.": "torch.compile",
    "module.": "torch DataParallel",
    "model.": "transformers, and trainers that save a whole module",
    "model.diffusion_model.": "CompVis and ComfyUI checkpoints",
    "diffusion_model.": "ComfyUI adapters",
    "text_model.": "CLIP of transformers 4",
    "vision_model.": "CLIP of transformers 4",
    "transformer.": "diffusers adapters; GPT-2",
    "unet.": "diffusers adapters",
    "net.": "NVIDIA Cosmos",
    "first_stage_model.": "CompVis checkpoints",
    "vae.": "all-in-one files",
    "cond_stage_model.transformer.": "CompVis checkpoints",
    "conditioner.embedders.0.transformer.": "SDXL of Stability",
    "text_encoder.": "diffusers adapters",
    "base_model.model.": "PEFT, a model with its adapter",
    "_forward_module.": "Lightning, with DeepSpeed or FSDP",
    "ema_model.": "ema-pytorch",
    "pipe.dit.": "DiffSynth-Studio",
    "bert.": "transformers, BERT with a head",
    "roberta.": "transformers, RoBERTa with a head",
    "text_encoders.clip_l.transformer.": "ComfyUI, all-in-one files",
    "text_encoders.clip_g.transformer.": "ComfyUI, all-in-one files",
    "text_encoders.t5xxl.transformer.": "ComfyUI, all-in-one files",
}
"""Prefixes that all names of a file may have, one or two, and who writes them."""

ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def _attention(found: re.Match[str]) -> str:
    return f"{found[1]}.{ATTENTION[found[3]]}."


def _norm(found: re.Match[str]) -> str:
    return f"{found[1]}.{'weight' if found[2] == 'gamma' else 'bias'}"


def _weight_norm(found: re.Match[str]) -> str:
    return f".parametrizations.weight.original{'gv'.index(found[1])}"


_TOWERS = r"model\.(visual|vision_tower|multi_modal_projector|audio_tower|image_newline)"


def _language_model(found: re.Match[str]) -> str:
    """The name of a part of a vision language model before it was put into one `model`."""
    return "model" if found[1] else str(found[2] or found[3])


RENAMINGS: tuple[tuple[str, str | Callable[[re.Match[str]], str], str, str], ...] = (
    # pattern, replacement, description, and the library that renamed it
    (
        r"(^|\.)(text_model|vision_model)\.",
        r"\1",
        "the prefix 'text_model.' of CLIP",
        "transformers 5, conversion_mapping.py; NovelAI",
    ),
    (r"(^|\.)_orig_mod\.", r"\1", "the prefix '_orig_mod.' of modules", "torch.compile"),
    (
        r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.",
        "",
        "the names of wrapped modules",
        "torch, fully_sharded_data_parallel.py and checkpoint_wrapper.py",
    ),
    (
        r"(attentions?(\.\d+)?|attn\w*)\.(query|key|value|proj_attn)\.",
        _attention,
        "the attention names of older diffusers",
        "diffusers, _convert_deprecated_attention_blocks",
    ),
    (
        r"(LayerNorm|layer_norm|norm\w*)\.(gamma|beta)$",
        _norm,
        "the norm names of TensorFlow",
        "transformers, modeling_utils.py",
    ),
    (
        r"\.weight_(g|v)$",
        _weight_norm,
        "the weight norm names of older torch",
        "torch.nn.utils.parametrizations",
    ),
    (
        r"(^|\.)encoder\.embed_tokens\.",
        r"\1shared.",
        "the name of the embedding of T5's encoder",
        "transformers, T5EncoderModel: `shared` and `encoder.embed_tokens` are one tensor",
    ),
    (
        rf"^(?:(model\.language_model|language_model\.model)|language_model\.(lm_head)|{_TOWERS})(?=\.|$)",
        _language_model,
        "the language model names of older transformers",
        "transformers 4.52, vision language models; conversion_mapping.py",
    ),
)


@frozen
class Renaming:
    """A mapping from the names of one file to those of another."""

    what: str
    """A description of the renaming that is undone."""
    names: Mapping[str, str]
    """The other's name of each tensor by its own."""


_PATTERNS = tuple((pattern(text), new, what) for text, new, what, _ in RENAMINGS)


def renaming(
    wanted: Collection[str], own: Collection[str], optional: Callable[[str], bool]
) -> Renaming | None:
    """The renaming that gives a file's `own` names the `wanted` ones; None if none fits.

    Names that are `optional`, wanted ones or own ones, may be missing on the other side.
    """
    wanted, own = frozenset(wanted), frozenset(own)
    for what, names in _candidates(wanted, own):
        own_of = {new: old for old, new in names.items()}
        if len(own_of) == len(names) and all(
            optional(own_of.get(name, name)) for name in own_of.keys() ^ wanted
        ):
            return Renaming(what, names)
    return None


def closest_renaming(wanted: Collection[str], own: Collection[str]) -> Renaming | None:
    """The renaming that makes most names wanted ones; None if none helps."""
    wanted, own = frozenset(wanted), frozenset(own)
    best, most = None, len(wanted & own)
    for what, names in _candidates(wanted, own):
        changed = set(names.values())
        if len(changed) == len(names) and len(changed & wanted) > most:
            best, most = Renaming(what, names), len(changed & wanted)
    return best


def donor_renaming(
    wanted: Collection[str], own: Collection[str], is_taken: Callable[[str], bool]
) -> Renaming | None:
    """The renaming of a file of which tensors are taken by their names in a soup; None for none.

    It is the one after which most of those are `wanted` ones, then most of all; then, if none is
    taken under its own name, most are taken.
    """
    wanted, own = frozenset(wanted), frozenset(own)
    fits_as_is = any(map(is_taken, own))

    def fit(names: frozenset[str]) -> tuple[int, int, int]:
        common = names & wanted
        taken = 0 if fits_as_is else sum(map(is_taken, names))
        return sum(map(is_taken, common)), len(common), taken

    best, most = None, fit(own)
    # names that no ingredient has may be reached by a prefix that the file itself lacks
    for what, names in _candidates(wanted.union(PREFIXES), own):
        changed = frozenset(names.values())
        if len(changed) == len(names) and (found := fit(changed)) > most:
            best, most = Renaming(what, names), found
    return best


def _candidates(
    wanted: frozenset[str], own: frozenset[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Each possible renaming: a description, and the new name of each own name."""
    mine, theirs = (["", *_prefixes(names)] for names in (own, wanted))
    for old in mine:
        for new in theirs:
            if old != new:
                what = " and ".join(f"the prefix {each!r}" for each in (old, new) if each)
                yield what, _with_prefix(wanted, own, old, new)
    for old_name, replacement, what in _PATTERNS:
        plain = {old_name.sub(replacement, name): name for name in wanted}
        changed = {name: old_name.sub(replacement, name) for name in own}
        if len(plain) == len(wanted):
            yield what, {name: plain.get(each, each) for name, each in changed.items()}


def _prefixes(names: frozenset[str]) -> list[str]:
    """The known prefixes that any names begin with, and two at once, as `module._orig_mod.`."""
    single = [prefix for prefix in PREFIXES if _begin(names, prefix)]
    pairs = (first + second for first in single for second in PREFIXES)
    return [*single, *(pair for pair in pairs if pair not in PREFIXES and _begin(names, pair))]


def common_prefix(wanted: Collection[str], own: Collection[str]) -> str | None:
    """The prefix of all names of one file without which they are those of the other, if any."""
    if not own or not wanted:
        return None
    longer, shorter = (own, wanted) if min(map(len, own)) > min(map(len, wanted)) else (wanted, own)
    # adding one prefix to every name keeps their order
    first = min(longer)
    if not first.endswith(f".{min(shorter)}"):
        return None
    prefix = first.removesuffix(min(shorter))
    return prefix if {prefix + name for name in shorter} == {*longer} else None


def _begin(names: frozenset[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _with_prefix(wanted: frozenset[str], own: frozenset[str], old: str, new: str) -> dict[str, str]:
    """The own names with one prefix replaced by another, where the result is wanted."""
    changed = {}
    for name in own:
        bare = name.removeprefix(old) if name.startswith(old) else None
        renamed = name if bare is None else new + bare
        # names without the prefix are kept, such as an output embedding
        changed[name] = renamed if renamed in wanted or name not in wanted else name
    return changed
