"""The combination of a tensor by each method."""

from __future__ import annotations

from collections.abc import Callable

from ..choices import MergeMethod
from .breadcrumbs import breadcrumbs
from .contract import Combination
from .dare import dare
from .della import della
from .geometric_median import geometric_median
from .karcher import karcher
from .model_stock import model_stock
from .settings import MergedTensor, MethodSettings
from .slerp import slerp
from .ties import ties

ALIKE: dict[MergeMethod, Callable[[MethodSettings], Combination]] = {
    MergeMethod.MODEL_STOCK: model_stock,
    MergeMethod.SLERP: slerp,
    MergeMethod.KARCHER: karcher,
    MergeMethod.GEOMETRIC_MEDIAN: geometric_median,
}
"""Methods that treat all tensors alike."""
BY_TENSOR: dict[MergeMethod, Callable[[MethodSettings, MergedTensor], Combination]] = {
    MergeMethod.TIES: ties,
    MergeMethod.DARE: dare,
    MergeMethod.DELLA: della,
    MergeMethod.BREADCRUMBS: breadcrumbs,
}
"""Methods for which a tensor's shape or name matters."""


def combination_of(settings: MethodSettings, tensor: MergedTensor) -> Combination:
    """How a method combines a tensor; LimitError for one with rows that are too long to rank."""
    by_tensor = BY_TENSOR.get(settings.method)
    return ALIKE[settings.method](settings) if by_tensor is None else by_tensor(settings, tensor)
