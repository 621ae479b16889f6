"""An adapter open for reading, and the rows of a base that its updates change.

Rule 1: every module must match rows of the base, but for modules of other models that are
left out knowingly; otherwise the adapter is refused.
Rule 2: factors are read when they are needed; only the scales of an adapter stay in memory.
Rule 3: importing this module loads no engine, so that `inspect` stays quick.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from math import lcm, prod
from typing import TYPE_CHECKING

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.digest import text_digest
from ..errors import InputError, Issue, MismatchError
from ..format.dtypes import DType, Kind
from ..format.header import Tensor
from ..frozen import frozen
from ..kinds.facts import TensorFacts
from .modules import AdapterModule, Family, modules_of
from .other_names import Target
from .scales import METADATA, read_configs, scale_of
from .targets import TargetIndex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..engines.updates import Update

WIDEST = DType.F32.bits
"""Bits of the widest factors, such that their products are exact float64s."""
LEAVE_OUT = "soupctl convert --exclude GLOB makes an adapter without such modules"


@frozen
class ScaledModule:
    """A module of an adapter with the scale of its update."""

    module: AdapterModule
    scale: Fraction


@frozen
class UpdateRows:
    """Rows of a module's update, and the rows of a tensor of the base that they are added to."""

    scaled: ScaledModule
    first: int
    count: int
    target: int


class Adapter:
    """A checkpoint that holds factors of updates."""

    def __init__(
        self, checkpoint: Checkpoint, facts: TensorFacts, config: bytes | None = None
    ) -> None:
        """`config` is the `adapter_config.json` beside it.

        Raises InputError for an adapter that is not linear, or that cannot be read.
        """
        self.checkpoint = checkpoint
        modules = modules_of(checkpoint.tensors, facts, checkpoint.label)
        self._require_readable(modules)
        alphas = [self._alpha(each) for each in modules]
        self.modules = self._scaled(modules, alphas, config)
        is_own = config is None or self.modules == self._scaled(modules, alphas, None)
        self.scale_digest = None if is_own else self._digest_of_scales()
        """Of the scales of all modules where the config beside it says them; else None: they are
        a part of the content."""

    @property
    def denominator(self) -> int:
        """The common denominator of the scales of all its updates."""
        return lcm(*(each.scale.denominator for each in self.modules))

    @property
    def says_no_scale(self) -> bool:
        """Whether nothing in the file or a config says the scale of any of its factors."""
        factors = [each for each in self.modules if each.module.rank is not None]
        is_silent = all(each.module.alpha is None and each.scale == 1 for each in factors)
        return bool(factors) and is_silent and METADATA not in self.checkpoint.metadata

    def _scaled(
        self,
        modules: Sequence[AdapterModule],
        alphas: Sequence[Fraction | None],
        config: bytes | None,
    ) -> tuple[ScaledModule, ...]:
        configs = read_configs(self.checkpoint.metadata, config, self.label)
        pairs = zip(modules, alphas, strict=True)
        return tuple(ScaledModule(each, scale_of(each, alpha, configs)) for each, alpha in pairs)

    def _digest_of_scales(self) -> str:
        scales = sorted((each.module.name, str(each.scale)) for each in self.modules)
        return text_digest(json.dumps(scales, ensure_ascii=False))

    @property
    def label(self) -> str:
        """Its name in messages."""
        return self.checkpoint.label

    def _require_readable(self, modules: Sequence[AdapterModule]) -> None:
        """Raise InputError for factors without elements, or wider than F32."""
        issues = []
        every = ((each, tensor) for each in modules for tensor in each.factors.values())
        for module, tensor in every:
            if tensor.dtype.kind is not Kind.FLOAT or tensor.dtype.bits > WIDEST:
                what = (
                    f"is a factor of dtype {tensor.dtype.value}; only F32 or narrower is supported"
                )
                issues.append(Issue(what, self.label, tensor.name, "convert it to F32"))
            elif not tensor.count or len(tensor.shape) < (1 if module.family is Family.FULL else 2):
                issues.append(
                    Issue(f"is not a matrix: {list(tensor.shape)}", self.label, tensor.name)
                )
        if issues:
            raise InputError.collected(issues)

    def _alpha(self, module: AdapterModule) -> Fraction | None:
        """The alpha of a module in the file; InputError if it is not a number."""
        tensor = module.alpha
        if tensor is None:
            return None
        if tensor.count == 1:
            if tensor.dtype.kind is Kind.FLOAT:
                (value,) = self._values(tensor).reshape(-1)
                return Fraction(float(value))
            if tensor.dtype in SIGNED or tensor.dtype in UNSIGNED:
                data = self.checkpoint.stored(tensor.name).read()
                return Fraction(int.from_bytes(data, "little", signed=tensor.dtype in SIGNED))
        raise InputError("is not a number", path=self.label, tensor=tensor.name)

    def _values(self, tensor: Tensor) -> NDArray[np.float64]:
        """The values of a float tensor; InputError for NaN or infinity."""
        import numpy as np

        from ..engines.update_mean import widened

        data = memoryview(self.checkpoint.stored(tensor.name).read())
        values = widened(data, tensor.dtype).reshape(tensor.shape)
        if not np.isfinite(values).all():
            raise InputError("holds NaN or infinity", path=self.label, tensor=tensor.name)
        return values

    def update(self, module: AdapterModule) -> Update:
        """The update of a module; InputError for factors that do not fit each other."""
        from .matrices import update_of

        factors = {role: self._values(tensor) for role, tensor in module.factors.items()}
        try:
            return update_of(module.family, factors)
        except ValueError as error:
            what = f"its factors do not fit: {error}"
            raise InputError(what, path=self.label, tensor=module.name) from None

    def locate(
        self,
        base: Mapping[str, Tensor],
        index: TargetIndex,
        label: str,
        may_lack: Callable[[str], bool],
    ) -> dict[str, list[UpdateRows]]:
        """The rows of updates by the tensor of the base that they are added to.

        Raises MismatchError for modules that are not in the base called `label`, unless it
        `may_lack` them, or do not fit it.
        """
        found: dict[str, list[UpdateRows]] = {}
        issues: list[Issue] = []
        for scaled in self.modules:
            target = index.find(scaled.module.layer, scaled.module.parameter)
            if target is None:
                if not may_lack(scaled.module.layer):
                    advice = None if issues else LEAVE_OUT
                    issues.append(self.unplaced(scaled.module.name, label, advice))
                continue
            issues += self._misfits(scaled.module, target, base, label)
            first = 0
            for rows in target:
                update = UpdateRows(scaled, first, rows.count, rows.first)
                issues += self._overlaps(update, rows.tensor, found.get(rows.tensor, ()))
                found.setdefault(rows.tensor, []).append(update)
                first += rows.count
        if issues:
            raise MismatchError.collected(issues)
        return found

    def unplaced(self, module: str, label: str, advice: str | None) -> Issue:
        """The issue of a module that the base called `label` has no layer for."""
        return Issue(f"matches no layer of {label}", self.label, module, advice)

    def _misfits(
        self, module: AdapterModule, target: Target, base: Mapping[str, Tensor], label: str
    ) -> Iterator[Issue]:
        """The issue of an update whose shape differs from its rows in the base."""
        rows = sum(each.count for each in target)
        columns = prod(base[target[0].tensor].shape[1:])
        mine = module.shape
        if mine != (rows, columns):
            size = "does not multiply" if mine is None else f"is {mine[0]} by {mine[1]}"
            what = f"its update {size}, where {label} has {rows} by {columns}"
            yield Issue(what, self.label, module.name)

    def _overlaps(
        self, rows: UpdateRows, tensor: str, others: Sequence[UpdateRows]
    ) -> Iterator[Issue]:
        """The issue of a module that changes the same rows as another module."""
        for other in others:
            if max(rows.target, other.target) < min(
                rows.target + rows.count, other.target + other.count
            ):
                what = f"changes the same rows of {tensor} as {other.scaled.module.name}"
                yield Issue(what, self.label, rows.scaled.module.name)


SIGNED = frozenset({DType.I8, DType.I16, DType.I32, DType.I64})
UNSIGNED = frozenset({DType.U8, DType.U16, DType.U32, DType.U64})
