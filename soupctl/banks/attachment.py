"""Attach prompt banks to a base, and take them off again: the base itself is never changed.

    with attach(pipeline.transformer, bank):
        images = pipeline(...).images

Rule 1: prompts come in by forward pre-hooks, which hand on other arguments; no tensor of the base
is written to, because the input of a UNet's first block is its first skip connection as well.
Rule 2: taking off restores the base bit for bit; its parameters, buffers and names never change.
Rule 3: what is added is computed in float32, and only then takes the dtype of the block's input.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..errors import MismatchError
from .bank import Draws, PromptBank
from .blocks import blocks_of, describe_base, own_model
from .compatibility import require_fit
from .config import GateInput, Site
from .gate_inputs import Arguments, Parameter, watch_embeddings
from .gates import Gated
from .resizing import resized
from .stack import BankStack, Member


def attach(
    model: Any,
    bank: PromptBank | BankStack,
    *,
    allow_base_mismatch: bool = False,
    resize_prompts_to: tuple[int, int] | None = None,
) -> Attachment:
    """Attach a bank, or a stack of them, to a diffusers denoiser, until the result is removed.

    With `resize_prompts_to`, what it adds is interpolated for latents, or pixels, of that height
    and width; else the model can be given those that the bank was trained for alone.
    Raises MismatchError if the model's class, blocks or shapes are not the bank's base's, or,
    without `allow_base_mismatch`, its config. Timesteps and weights, which a model does not tell,
    are checked by `soupctl.banks.compatibility.require_fit`.
    """
    model = own_model(model)
    members = bank.members if isinstance(bank, BankStack) else (Member("", 1.0, bank),)
    configs = {member.name or "the bank": member.bank.config for member in members}
    sizes = dict.fromkeys(config.base.sample_size for config in configs.values())
    found = {size: describe_base(model, sample_size=size) for size in sizes}
    for name, config in configs.items():
        base = found[config.base.sample_size]
        require_fit(config, base, name, allow_base_mismatch=allow_base_mismatch)
    if "torch._dynamo" in sys.modules:
        # compiled code is not checked for hooks that have come since, and would run without them
        torch.compiler.reset()
    if resize_prompts_to is None:
        return Attachment(model, members)
    return Attachment(model, members, describe_base(model, sample_size=resize_prompts_to).sites)


class Attachment:
    """Banks at work in a model; leaving a `with` block removes them."""

    def __init__(
        self, model: Any, members: Sequence[Member], resized_to: Sequence[Site] = ()
    ) -> None:
        self._members = members
        configs = [member.bank.config for member in members]
        self._embeddings = watch_embeddings(
            model, tuple(each for each in GateInput if each in {one.gate_input for one in configs})
        )
        self._draws: Draws | None = None
        self._ahead: dict[PromptBank, tuple[Tensor, dict[str, Tensor]]] = {}
        self._prepended = configs[0].prepended
        self._handles: list[RemovableHandle] = []
        blocks = blocks_of(model)
        sites = {site.name: site for one in configs for site in one.base.sites}
        sites |= {site.name: site for site in resized_to if site.name in sites}
        for site in sorted(sites.values(), key=lambda site: site.depth):
            block = blocks[site.name]
            inputs = Parameter(block, "hidden_states")
            hook = partial(self._before, site, not self._handles, inputs)
            self._handles.append(block.register_forward_pre_hook(hook, with_kwargs=True))
        if self._prepended:
            *_, last = blocks.values()
            self._handles.append(last.register_forward_hook(self._without_prompts))

    def remove(self) -> None:
        """Take the banks off; nothing happens the second time."""
        for handle in self._handles:
            handle.remove()
        self._embeddings.remove()
        self._ahead.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    @contextmanager
    def noise(self, draws: Draws | None) -> Iterator[None]:
        """Use `draws` for noisy gates in the block, which holds forward and backward pass.

        Gradient checkpointing computes the gates again in the backward pass. For training one
        bank; without draws no gate is noisy.
        """
        self._draws = draws
        try:
            yield
        finally:
            self._draws = None

    def gated(self, bank: PromptBank) -> dict[str, Gated]:
        """What the bank's gates said in the last forward pass, by block, for balancing losses.

        Computed again, from what the pass was conditioned on, so gradients reach the gates however
        the pass itself was made. Raises ValueError before the first pass.
        """
        embedding = self._embeddings.last()[bank.config.gate_input]
        return {name: bank.gated(name, embedding, self._draws) for name in bank.sites}

    def _before(
        self,
        site: Site,
        is_first: bool,
        inputs: Parameter,
        _block: nn.Module,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Arguments:
        """The arguments of a block, with prompts."""
        hidden = inputs.of(args, kwargs)
        prompts = self._prompts(site, args, kwargs).to(hidden)
        if self._prepended:
            rest = hidden if is_first else hidden[:, self._prepended :]
            _require_shape(site, rest)
            patched = torch.cat([prompts.expand(len(rest), -1, -1), rest], dim=1)
        else:
            _require_shape(site, hidden)
            patched = _sum(hidden, prompts)
        return inputs.replaced(args, kwargs, patched)

    def _prompts(self, site: Site, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
        """The sum of what all members have for a block, in their order."""
        embeddings = self._embeddings.at(site.name, args, kwargs)
        total: Tensor | None = None
        for member in self._members:
            if site.name in member.bank.sites:
                embedding = embeddings[member.bank.config.gate_input]
                weights = self._weights(member.bank, site.name, embedding)
                delta = member.bank.weighed(site.name, weights, member.scale)
                total = delta if total is None else total + delta
        assert total is not None
        return total if self._prepended else resized(total, site.shape)

    def _weights(self, bank: PromptBank, block: str, embedding: Tensor) -> Tensor:
        """The weights of a block's prompts.

        Where nobody wants gradients, those of all blocks are found at the first one: a block
        leaves nothing in a processor's caches, and each would wait for the gate again.
        """
        is_plain = not torch.is_grad_enabled() and self._draws is None
        if not is_plain or torch.compiler.is_compiling():
            return bank.gated(block, embedding, self._draws).weights
        if bank not in self._ahead or self._ahead[bank][0] is not embedding:
            found = {name: bank.gated(name, embedding).weights for name in bank.sites}
            self._ahead[bank] = embedding, found
        return self._ahead[bank][1][block]

    def _without_prompts(self, _block: nn.Module, _args: Any, output: Tensor) -> Tensor:
        return output[:, self._prepended :]


def _sum(hidden: Tensor, prompts: Tensor) -> Tensor:
    """Their sum, laid out as `hidden` is: other strides can mean other roundings further on."""
    if prompts.shape == hidden.shape and prompts.stride() == hidden.stride():
        # prompts were just made and are nobody else's: a third less memory is touched
        return prompts.add_(hidden)
    # a batch of one gives one row of weights for all
    return hidden + prompts


def _require_shape(site: Site, hidden: Tensor) -> None:
    if tuple(hidden.shape[1:]) != site.shape:
        raise MismatchError(
            f"the bank has prompts for {list(site.shape)}, and the block's input is "
            f"{list(hidden.shape[1:])}",
            tensor=site.name,
            advice="resize_prompts_to fits a bank to images of another size",
        )
