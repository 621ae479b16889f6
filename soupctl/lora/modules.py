"""The modules of an adapter: tensors that form one update.

Rule 1: pure; names alone decide, in every naming that trainers write.
Rule 2: an adapter is used whole or refused: any tensor that is not part of a linear update is an
error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from math import prod

from ..errors import InputError, Issue
from ..format.header import Tensor
from ..frozen import frozen
from ..kinds.factors import find_factors
from ..kinds.facts import TensorFacts
from ..pattern import pattern


class Family(Enum):
    """The kind of update that factors form."""

    LORA = "LoRA"
    LOHA = "LoHa"
    LOKR = "LoKr"
    FULL = "full difference"


class LayerTensor(Enum):
    """The tensor of a layer that an update is added to."""

    WEIGHT = "weight"
    BIAS = "bias"
    MODULATION = "modulation"


OTHER_TOOL = "merge it with the tool that trained it, then use avg"

ROLES = {"A": "down", "B": "up"}
"""PEFT's names of factors, and kohya's."""

PARTS: tuple[tuple[str, Family], ...] = (
    # the rest of the name after the module, without `.weight`
    (r"\.lora_(?P<role>down|up|mid|A|B)(\.default)?", Family.LORA),
    (r"\.lora(_linear_layer|_layer)?\.(?P<role>down|up)", Family.LORA),
    (r"_lora\.(?P<role>down|up)", Family.LORA),
    (r"\.hada_(?P<role>w[12]_[ab]|t[12])", Family.LOHA),
    (r"\.lokr_(?P<role>w[12](_[ab])?|t2)", Family.LOKR),
    # ComfyUI and LyCORIS' modules/full and norms; the bias of the half up is PEFT's lora_bias
    (r"\.(?P<role>diff(_[bm])?|[wb]_norm)", Family.FULL),
    (r"\.lora_(?P<role>B|up)(\.default)?\.bias", Family.FULL),
)
_PARTS = tuple((pattern(rf"(?P<module>.+){part}"), family) for part, family in PARTS)

PARAMETERS = {
    **dict.fromkeys(("diff", "w_norm"), LayerTensor.WEIGHT),
    **dict.fromkeys(("diff_b", "b_norm", "up"), LayerTensor.BIAS),
    "diff_m": LayerTensor.MODULATION,
}
"""The tensors that full differences are for, by their roles."""

NEEDED = {
    Family.LORA: ({"down", "up"}, {"mid"}),
    Family.LOHA: ({"w1_a", "w1_b", "w2_a", "w2_b"}, {"t1", "t2"}),
}
"""The factors of a module: required ones, and optional ones."""
EITHER = (({"w1"}, {"w1_a", "w1_b"}), ({"w2"}, {"w2_a", "w2_b"}, {"w2_a", "w2_b", "t2"}))
"""The forms of each of the two factors of a LoKr."""


@frozen
class AdapterModule:
    """The factors of the update of one tensor of a model."""

    name: str
    """The module's name in the adapter; of a full difference, that of its tensor."""
    family: Family
    factors: Mapping[str, Tensor]
    """By their role: `down`, `up`, `mid` of a LoRA, `diff` of a full difference; else what follows
    `hada_` or `lokr_`."""
    alpha: Tensor | None
    layer: str
    """The layer that it changes, as the adapter calls it."""
    parameter: LayerTensor = LayerTensor.WEIGHT
    half: Tensor | None = None
    """The factor `down` of the LoRA whose scale the full difference has."""

    @property
    def rank(self) -> int | None:
        """The rank that alpha is divided by; None where factors are whole."""
        if self.half is not None:
            return self.half.shape[0]
        if self.family is Family.LORA:
            return self.factors["down"].shape[0]
        for role in ("w1_b", "t2", "w2_b"):
            if role in self.factors:
                return self.factors[role].shape[0]
        return None

    @property
    def shape(self) -> tuple[int, int] | None:
        """Rows and columns of its update; None if its factors do not fit each other."""
        held = {role: tensor.shape for role, tensor in self.factors.items()}
        if self.family is Family.FULL:
            return held["diff"][0], prod(held["diff"][1:])
        if self.family is Family.LORA:
            return _product(held["up"], held["down"], held.get("mid"))
        if self.family is Family.LOHA:
            one, two = (_half(held, f"w{n}", f"t{n}") for n in (1, 2))
            return one if one == two else None
        outer, inner = (_half(held, f"w{n}", f"t{n}") for n in (1, 2))
        if outer is None or inner is None:
            return None
        return outer[0] * inner[0], outer[1] * inner[1]


Shape = tuple[int, ...]


def _half(held: Mapping[str, Shape], name: str, core: str) -> tuple[int, int] | None:
    """The shape of a whole factor, or of a product of two; with a core, their rank comes first."""
    if name in held:
        return held[name][0], prod(held[name][1:])
    one, two = held[f"{name}_a"], held[f"{name}_b"]
    return _product(one if core not in held else one[::-1], two, held.get(core))


def _product(left: Shape, right: Shape, core: Shape | None) -> tuple[int, int] | None:
    """The shape of a product, through a core [left's columns, right's rows, positions] if any."""
    if prod(left[2:]) != 1:
        return None
    inner = (left[1], right[0])
    if core is None:
        return (left[0], prod(right[1:])) if inner[0] == inner[1] else None
    fits = core[:2] == inner and prod(right[2:]) == 1
    return (left[0], right[1] * prod(core[2:])) if fits else None


def is_adapter(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file is an adapter: it holds factors of updates and little else."""
    factors = sum(_part_of(name) is not None for name in tensors)
    others = sum(len(tensor.shape) > 1 for tensor in tensors.values()) - factors
    return factors > others


def kind_of_other_adapter(tensors: Mapping[str, Tensor], facts: TensorFacts) -> str | None:
    """The kind of an adapter that is not of a known form; None for a model."""
    kinds = find_factors(tensors, facts)
    found = [kinds[name].what for name in tensors if name in kinds]
    # LyCORIS' modules/ia3
    found += ["IA3" for name in tensors if name.endswith(".on_input")]
    # each of the modules of an IA3 also has a weight
    return ", ".join(sorted({*found})) if 2 * len(found) >= max(1, len(tensors)) else None


def modules_of(
    tensors: Mapping[str, Tensor], facts: TensorFacts, path: str
) -> tuple[AdapterModule, ...]:
    """The modules of the adapter at `path`, by name.

    Raises InputError for an adapter that is not linear, or holds what is not a part of an update.
    """
    factors: dict[str, dict[str, Tensor]] = {}
    families: dict[str, Family] = {}
    whole: list[tuple[str, str, str]] = []
    others: list[str] = []
    issues: list[Issue] = []
    for name, tensor in sorted(tensors.items()):
        found = _part_of(name)
        if found is None:
            others.append(name)
            continue
        module, role, family = found
        if family is Family.FULL:
            whole.append((name, module, role))
            continue
        if families.setdefault(module, family) is not family or role in factors.get(module, {}):
            issues.append(Issue("is a second factor of the same role in its module", path, name))
        factors.setdefault(module, {})[role] = tensor
    layers = {*factors, *(layer for _, layer, _ in whole)}
    alphas = {name.removesuffix(".alpha"): name for name in others if name.endswith(".alpha")}
    alphas = {module: name for module, name in alphas.items() if module in layers}
    unknown = [name for name in others if name not in alphas.values()]
    issues += _unknown(unknown, tensors, facts, path)
    issues += _incomplete(factors, families, path)
    if issues:
        raise InputError.collected(issues)
    alpha_of = {module: tensors[name] for module, name in alphas.items()}
    found_modules = [
        AdapterModule(module, families[module], held, alpha_of.get(module), module)
        for module, held in factors.items()
    ]
    found_modules += [
        _full_difference(tensors[name], layer, role, factors.get(layer, {}), alpha_of.get(layer))
        for name, layer, role in whole
    ]
    return tuple(found_modules)


def _full_difference(
    tensor: Tensor, layer: str, role: str, factors: Mapping[str, Tensor], alpha: Tensor | None
) -> AdapterModule:
    """The module of a full difference; only the bias of a LoRA has the scale of that LoRA."""
    half = factors.get("down") if role == "up" else None
    return AdapterModule(
        tensor.name,
        Family.FULL,
        {"diff": tensor},
        None if half is None else alpha,
        layer,
        PARAMETERS[role],
        half,
    )


def _incomplete(
    factors: Mapping[str, Mapping[str, Tensor]], families: Mapping[str, Family], path: str
) -> Iterator[Issue]:
    """The issues of modules whose factors do not form an update."""
    for module, held in factors.items():
        if not _is_whole(families[module], held.keys()):
            factors_held = ", ".join(sorted(held))
            what = f"a {families[module].value} cannot have exactly the factors {factors_held}"
            yield Issue(what, path, module, "download or export it again")


def _part_of(name: str) -> tuple[str, str, Family] | None:
    """The module, role and family of a factor; None for any other tensor."""
    stem = name.removesuffix(".weight")
    for part, family in _PARTS:
        if found := part.fullmatch(stem):
            if family is Family.FULL and stem != name:
                return None
            return found["module"], ROLES.get(found["role"], found["role"]), family
    return None


def _is_whole(family: Family, roles: Iterable[str]) -> bool:
    held = set(roles)
    if family is not Family.LOKR:
        needed, allowed = NEEDED[family]
        return needed <= held <= needed | allowed and len(held & {"t1", "t2"}) != 1
    return any(held == one | two for one in EITHER[0] for two in EITHER[1])


def _unknown(
    names: Iterable[str], tensors: Mapping[str, Tensor], facts: TensorFacts, path: str
) -> Iterable[Issue]:
    """The issues of tensors that are not known factors, by kind of adapter."""
    kinds = find_factors(tensors, facts)
    for name in names:
        title = kinds[name].what if name in kinds else ""
        if title and title not in (family.value for family in Family):
            what = f"belongs to an adapter ({title}) whose update is not linear or not known"
            yield Issue(what, path, name, OTHER_TOOL)
        else:
            yield Issue("is not a factor of a LoRA, LoHa or LoKr, or a full difference", path, name)
