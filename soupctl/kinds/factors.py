"""Factors of adapters: parameters that multiply each other, unlike linear ones.

Rule 1: the mean of factors is not the factor of a mean, so factors are never averaged.
Rule 2: names decide first, then the adapter's config, then structure: a file that holds nothing but
pairs of matrices with matching inner sides is an adapter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from ..format.header import Tensor
from ..frozen import frozen
from ..pattern import pattern
from .facts import TensorFacts
from .kind import Role, TensorKind

NAMES = (
    # a pattern of one part of a dotted name, the kind of adapter, and the source
    (r"lora_(A|B|a|b|up|down|mid)\d*", "LoRA", "PEFT tuners/lora; kohya networks/lora.py"),
    (r"lora_embedding_(A|B)|lora_linear_layer|lora_layer", "LoRA", "PEFT; diffusers"),
    (r"lora_wa|lora_wb|lora_magnitude_vector|dora_scale", "DoRA", "PEFT; LyCORIS"),
    (r"lora_E|lora_ranknum", "AdaLoRA", "PEFT tuners/adalora"),
    (r"hada_(w[12]_[ab]|t[12])", "LoHa", "LyCORIS modules/loha.py; PEFT tuners/loha"),
    (r"lokr_(w[12](_[ab])?|t[12])", "LoKr", "LyCORIS modules/lokr.py; PEFT tuners/lokr"),
    (r"oft_(R|r|S|s|blocks|diag)", "OFT", "PEFT tuners/oft; LyCORIS modules/diag_oft.py"),
    (r"boft_(R|s)", "BOFT", "PEFT tuners/boft; LyCORIS modules/boft.py"),
    (r"p?vera_(A|B|lambda_[bd])", "VeRA", "PEFT tuners/vera"),
    (r"randlora_.*", "RandLoRA", "PEFT tuners/randlora"),
    (r"vblora_.*", "VB-LoRA", "PEFT tuners/vblora"),
    (r"hra_u", "HRA", "PEFT tuners/hra"),
    (r"road_(theta|alpha)", "RoAd", "PEFT tuners/road"),
    (r"gralora_[AB].*", "GraLoRA", "PEFT tuners/gralora"),
    (r"hira_[AB]", "HiRA", "PEFT tuners/hira"),
    (r"lily_[AB]", "Lily", "PEFT tuners/lily"),
    (r"delora_(A|B|lambda)", "DeLoRA", "PEFT tuners/delora"),
    (r"poly_lora_.*", "Poly", "PEFT tuners/poly"),
    (r"internal_xlora_classifier", "X-LoRA", "PEFT tuners/xlora"),
    (r"abba_.*", "ABBA", "LyCORIS"),
    (r"loreft_.*", "LoReFT", "pyreft"),
    (r"adaption_(gate|prompt)", "LLaMA-Adapter", "PEFT tuners/adaption_prompt"),
    (r"prefix_task_(rows|cols)", "multitask prompt", "PEFT tuners/multitask_prompt_tuning"),
    (r"lora_controlnet", "Control-LoRA", "Stability AI, control-lora"),
)
"""Factors by name."""

WHOLES = frozenset({"DoRA", "AdaLoRA"})
"""Kinds of adapters that have the two halves of a LoRA and something else."""
HALVES = frozenset({"up", "down", "A", "B"})
LORA_MODULE = pattern(r"(.*_)?lora\d*")
"""Names of modules whose children are two halves of factors (diffusers, XLabs)."""

SIBLINGS = (
    # parts that are a factor only if they occur together under one parent
    (frozenset({"a1", "a2", "b1", "b2"}), "GLoRA", "LyCORIS modules/glora.py"),
    (frozenset({"a1", "a2"}), "GLoRA", "LyCORIS modules/glora.py"),
    (frozenset({"q_layer", "p_layer", "lambda_layer"}), "T-LoRA", "T-LoRA; LyCORIS"),
    (frozenset({"q_layer", "p_layer"}), "T-LoRA", "T-LoRA; LyCORIS"),
    (frozenset({"lora_A", "lora_B"}), "LoRA", "PEFT"),
)

LINEAR = frozenset(
    {
        *("IA3", "FOURIERFT", "WAVEFT", "SHIRA", "C3A", "LN_TUNING", "TRAINABLE_TOKENS"),
        *("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "CPT"),
        # prompts and gates of prompt banks
        "SOUPCTL_DMP",
    }
)
"""Values of `peft_type` for adapters that are linear in their parameters."""
LINEAR_PARTS = pattern(
    r"ia3_.*|fourierft_.*|waveft_.*|shira_.*|c3a_.*|trainable_tokens_.*|prompt_embeddings"
    r"|modules_to_save|diff|diff_b|w_norm|b_norm|weight|bias"
)
"""Parts of the names of parameters of an adapter that are linear."""
OWN_MODULE = pattern(r".*_[A-Z]\d*")
"""Names of modules that belong to a tuner, not to the base."""
PEFT_PREFIX = "base_model.model."
"""Prefix of the names in a PEFT file."""
PAIRS = (
    *(("_A", "_B"), ("_a", "_b"), (".down", ".up"), ("_down", "_up"), (".A", ".B"), (".a", ".b")),
    # cloneofsimo's lora_diffusion
    (":down", ":up"),
)
"""Endings of the names of the two factors, without `.weight`."""
BARE = frozenset({"up", "down"})
"""Last parts of factors that are not modules (Control-LoRA)."""
SCALARS = frozenset({"alpha", "scale", "rank", "network_alpha"})
"""Last parts of the names of tensors that belong to factors, and are not averaged either."""

_BARE_ENDS = tuple(f".{part}" for part in BARE)
_SIBLINGS = frozenset(part for parts, *_ in SIBLINGS for part in parts)
_PATTERN = pattern("|".join(f"(?P<k{n}>(?:{each[0]}))" for n, each in enumerate(NAMES)))


@frozen
class _Parts:
    """The distinct parts of all names that reveal an adapter; names are many, their parts few."""

    titles: Mapping[str, str]
    """The kind of adapter, by the part that reveals it."""
    modules: frozenset[str]
    """Modules that hold factors if their children are two halves."""
    siblings: frozenset[str]
    """Parts that reveal a factor only together."""


def _parts_of(tensors: Iterable[str]) -> _Parts:
    parts = {part for name in tensors for part in name.split(".")}
    found = {part: _PATTERN.fullmatch(part) for part in parts if "_" in part}
    return _Parts(
        {
            part: NAMES[int(match.lastgroup[1:])][1]
            for part, match in found.items()
            if match is not None and match.lastgroup is not None
        },
        frozenset(part for part in parts if "lora" in part and LORA_MODULE.fullmatch(part)),
        _SIBLINGS & parts,
    )


def _title(name: str, known: _Parts) -> str | None:
    parts = name.split(".")
    for part in reversed(parts):
        if part in known.titles:
            return known.titles[part]
    for module, half in pairwise(parts):
        if half in HALVES and module in known.modules:
            return "LoRA"
    return "Control-LoRA" if parts[-1] in BARE and len(parts) > 1 else None


def find_factors(tensors: Mapping[str, Tensor], facts: TensorFacts) -> dict[str, TensorKind]:
    """The kind of each factor among the tensors, by name."""
    known, titles = _parts_of(tensors), {}
    if known.titles or known.modules:
        titles = {name: title for name in tensors if (title := _title(name, known))}
    else:
        titles = {name: "Control-LoRA" for name in tensors if name.endswith(_BARE_ENDS)}
    if known.siblings:
        titles |= _by_siblings(tensors)
    if not titles:
        titles |= dict(_by_config(tensors, facts)) or _by_structure(tensors)
    for whole in sorted(WHOLES & {*titles.values()}):
        # its halves alone are not an update
        titles = {name: whole if title == "LoRA" else title for name, title in titles.items()}
    if titles:
        parents = {_parent(name): title for name, title in titles.items()}
        for name in tensors:
            parent, _, last = name.rpartition(".")
            if last in SCALARS and parent in parents:
                titles.setdefault(name, parents[parent])
    return {name: TensorKind(Role.FACTOR, title) for name, title in titles.items()}


def _parent(name: str) -> str:
    """The name of the module that a factor belongs to."""
    return name.removesuffix(".weight").rpartition(".")[0]


def _by_siblings(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Factors that only their names together reveal."""
    children: dict[str, dict[str, str]] = {}
    for name in tensors:
        parent, _, last = name.removesuffix(".weight").rpartition(".")
        if last in _SIBLINGS:
            children.setdefault(parent, {})[last] = name
    return {
        name: title
        for found in children.values()
        for parts, title, _ in SIBLINGS
        if parts <= found.keys()
        for name in found.values()
    }


def _by_config(tensors: Mapping[str, Tensor], facts: TensorFacts) -> Iterator[tuple[str, str]]:
    """Factors with unknown names in an adapter that its config, or PEFT's prefix, reveals."""
    if facts.adapter in LINEAR:
        return
    if facts.adapter is not None:
        yield from ((name, facts.adapter) for name in tensors)
        return
    for name in tensors:
        if name.startswith(PEFT_PREFIX):
            parts = name.split(".")
            if not LINEAR_PARTS.fullmatch(parts[-1]) or OWN_MODULE.fullmatch(parts[-2]):
                yield name, "an adapter of an unknown kind"


def _by_structure(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The matrices of a file that holds only pairs of thin factors; empty otherwise."""
    titles: dict[str, str] = {}
    for name, tensor in tensors.items():
        if len(tensor.shape) > 1:
            if not any(_are_thin(tensor, tensors.get(other)) for other in _halves(name)):
                return {}
            titles[name] = "LoRA"
    return titles


def _halves(name: str) -> Iterator[str]:
    """The possible names of the other half of a pair."""
    stem = name.removesuffix(".weight")
    for pair in PAIRS:
        for mine, other in (pair, pair[::-1]):
            if stem.endswith(mine):
                yield stem.removesuffix(mine) + other + name[len(stem) :]


def _are_thin(first: Tensor, second: Tensor | None) -> bool:
    """Whether two matrices multiply, in one order, with their inner side the shortest."""
    if second is None or len(second.shape) < 2:
        return False
    ways = ((first.shape, second.shape), (second.shape, first.shape))
    return any(up[1] == down[0] < min(up[0], down[1]) for up, down in ways)
