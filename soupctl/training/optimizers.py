"""The optimizers of a run, and ways to step that take less memory.

Rule 1: an optimizer's state is float32, or what the optimizer itself stores, whatever the dtype of
the weights.
Rule 2: random rounding is a function of the seed, the step and the parameter, so a resumed run
rounds as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..choices import Optimizer, WeightDtype
from ..diffusion import rng
from .options import Options

IN_FLOAT32 = ("timestep", "time_ids")
"""Parameters of a denoiser that keep their dtype: diffusers embeds these in float32."""
LOWER_HALF = 0xFFFF
"""The bits of a float32 that bfloat16 lacks."""


def make_optimizer(parameters: list[Any], options: Options) -> Any:
    """The chosen optimizer of parameters, or of parameter groups."""
    if options.optimizer is Optimizer.ADAMW8BIT:
        # an optional library
        import bitsandbytes

        kind = bitsandbytes.optim.AdamW8bit
    elif options.optimizer is Optimizer.ADAFACTOR:
        kind = torch.optim.Adafactor
    else:
        kind = torch.optim.AdamW
    return kind(parameters, lr=options.lr, weight_decay=options.weight_decay)


def has_own_steps(options: Options) -> bool:
    """Whether each parameter needs an optimizer of its own."""
    return options.fused_backward or options.weight_dtype is WeightDtype.BFLOAT16


class ParameterOptimizers:
    """An optimizer for each parameter, used like one: states and results are the same.

    With `fused_backward`, a parameter is stepped when its gradient is complete, which is then
    freed. Parameters in bfloat16 are stepped in float32 and rounded at random, up or down in
    proportion to the distance, so that small steps count on average (Gupta et al. 2015, arXiv
    1502.02551).
    """

    def __init__(self, parameters: Sequence[nn.Parameter], options: Options) -> None:
        self._seed, self._is_fused = options.seed, options.fused_backward
        self._parameters = list(parameters)
        # what an optimizer holds in place of bfloat16 weights; it has values during a step only
        self._stepped = [_float32_in_place_of(each) for each in parameters]
        self._optimizers = [make_optimizer([each], options) for each in self._stepped]
        if self._is_fused:
            for number, parameter in enumerate(parameters):
                parameter.register_post_accumulate_grad_hook(self._hook(number))

    def _hook(self, number: int) -> Any:
        def step(_parameter: Tensor) -> None:
            self._step(number)

        return step

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all parameters, whose learning rates may be set."""
        return [group for each in self._optimizers for group in each.param_groups]

    def step(self) -> None:
        """Step all parameters, unless the backward pass already did."""
        if not self._is_fused:
            for number in range(len(self._parameters)):
                self._step(number)

    def zero_grad(self) -> None:
        """Free the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def _step(self, number: int) -> None:
        parameter, stepped = self._parameters[number], self._stepped[number]
        optimizer = self._optimizers[number]
        if parameter.grad is None:
            return
        if stepped is not parameter:
            stepped.data = parameter.detach().float()
            stepped.grad = parameter.grad.float()
        optimizer.step()
        parameter.grad = stepped.grad = None
        if stepped is not parameter:
            count = int(optimizer.state[stepped]["step"])
            rounded = stochastically_rounded(stepped.data, self._seed, count, number)
            parameter.data.copy_(rounded)
            stepped.data = stepped.data.new_empty(0)

    def state_dict(self) -> dict[str, Any]:
        """The states of all parameters by number, as a single optimizer has them."""
        states = {number: each.state_dict()["state"] for number, each in self._numbered}
        return {"state": {number: each[0] for number, each in states.items() if each}}

    def load_state_dict(self, content: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for number, optimizer in self._numbered:
            if number in content["state"]:
                groups = optimizer.state_dict()["param_groups"]
                own = {"state": {0: content["state"][number]}, "param_groups": groups}
                optimizer.load_state_dict(own)

    @property
    def _numbered(self) -> Iterator[tuple[int, Any]]:
        return enumerate(self._optimizers)


def _float32_in_place_of(parameter: nn.Parameter) -> nn.Parameter:
    """The parameter itself, or if it is not float32, an empty one that is."""
    if parameter.dtype is torch.float32:
        return parameter
    return nn.Parameter(torch.empty(0, device=parameter.device))


def stochastically_rounded(values: Tensor, seed: int, step: int, number: int) -> Tensor:
    """Float32 values in bfloat16, rounded up or down with probabilities that keep the mean.

    The random numbers depend on seed, step and the number of the parameter alone.
    """
    key = int(rng.generator(seed, "rounding", step, number).integers(np.iinfo(np.int64).max))
    generator = torch.Generator(values.device).manual_seed(key)
    noise = torch.randint(
        LOWER_HALF + 1, values.shape, generator=generator, dtype=torch.int32, device=values.device
    )
    bits = (values.view(torch.int32) + noise) & ~LOWER_HALF
    # NaN may have any bits
    return torch.where(values.isfinite(), bits.view(torch.float32), values).bfloat16()


def train_in_bfloat16(denoiser: nn.Module) -> None:
    """Make a denoiser's weights bfloat16; inputs are cast to it, and its prediction to float32."""

    def before(_module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        # a timestep may also be the second argument
        return (*map(_bfloat16, args[:1]), *args[1:]), _bfloat16(kwargs)

    def after(_module: Any, _args: Any, output: Any) -> Any:
        return tuple(each.float() for each in output)

    denoiser.to(torch.bfloat16)
    denoiser.register_forward_pre_hook(before, with_kwargs=True)
    denoiser.register_forward_hook(after)


def _bfloat16(value: Any) -> Any:
    """A tensor, or those of a dictionary, in bfloat16; other values as they are."""
    if isinstance(value, Mapping):
        return {
            name: each if name in IN_FLOAT32 else _bfloat16(each) for name, each in value.items()
        }
    is_float = isinstance(value, Tensor) and value.is_floating_point()
    return value.bfloat16() if is_float else value
