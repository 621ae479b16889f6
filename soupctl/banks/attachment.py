"""Attach prompt banks to a base and detach them again: the base itself is never changed.

    with attach(pipeline.transformer, bank):
        images = pipeline(...).images

Rule 1: prompts are added by forward pre-hooks, which pass on changed arguments; no tensor of the
base is modified, because the input of a UNet's first block is also its first skip connection.
Rule 2: detaching restores the base bit for bit; its parameters, buffers and names never change.
Rule 3: prompts are weighted in float32, and then cast to the dtype of the block's input.
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
from .bank import GateNoise, PromptBank
from .blocks import blocks_of, describe_base, uncompiled
from .compatibility import require_fit
from .config import GateInput, Site
from .gate_inputs import Arguments, Parameter, watch_embeddings
from .gates import GateOutput
from .resizing import resized
from .stack import BankStack, Member


def attach(
    model: Any,
    bank: PromptBank | BankStack,
    *,
    allow_base_mismatch: bool = False,
    resize_prompts_to: tuple[int, int] | None = None,
) -> Attachment:
    """Attach a bank, or a stack of banks, to a diffusers denoiser; see `Attachment.remove`.

    With `resize_prompts_to`, the weighted prompts are interpolated for latents (or pixels) of that
    height and width; without it, the model accepts only the size that the bank was trained for.
    Raises MismatchError if the model's class, blocks or shapes differ from those of the bank's
    base, or, without `allow_base_mismatch`, its config. A model does not know its number of
    timesteps or its digest: `soupctl.banks.compatibility.require_fit` compares those.
    """
    model = uncompiled(model)
    members = bank.members if isinstance(bank, BankStack) else (Member("", 1.0, bank),)
    configs = {member.name or "the bank": member.bank.config for member in members}
    sizes = dict.fromkeys(config.base.sample_size for config in configs.values())
    found = {size: describe_base(model, sample_size=size) for size in sizes}
    for name, config in configs.items():
        base = found[config.base.sample_size]
        require_fit(config, base, name, allow_base_mismatch=allow_base_mismatch)
    if "torch._dynamo" in sys.modules:
        # compiled code ignores hooks that were added after its compilation
        torch.compiler.reset()
    if resize_prompts_to is None:
        return Attachment(model, members)
    return Attachment(model, members, describe_base(model, sample_size=resize_prompts_to).sites)


class Attachment:
    """Banks attached to a model; leaving a `with` block detaches them."""

    def __init__(
        self, model: Any, members: Sequence[Member], resized_to: Sequence[Site] = ()
    ) -> None:
        self._members = members
        configs = [member.bank.config for member in members]
        self._embeddings = watch_embeddings(
            model, tuple(each for each in GateInput if each in {one.embedding for one in configs})
        )
        self._noise: GateNoise | None = None
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
        """Detach the banks; a second call does nothing."""
        for handle in self._handles:
            handle.remove()
        self._embeddings.remove()
        self._ahead.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    @contextmanager
    def noise(self, noise: GateNoise | None) -> Iterator[None]:
        """Add `noise` to the logits of noisy gates within the block; without it, none is noisy.

        The block must contain the forward and the backward pass, since gradient checkpointing
        computes the gates again in the backward pass. For training a single bank.
        """
        self._noise = noise
        try:
            yield
        finally:
            self._noise = None

    def gate_outputs(self, bank: PromptBank) -> dict[str, GateOutput]:
        """The outputs of the bank's gates in the last forward pass, by block, for balance losses.

        They are computed again from the conditioning of that pass, so that gradients reach the
        gates even with gradient checkpointing. Raises ValueError before the first pass.
        """
        embedding = self._embeddings.last()[bank.config.embedding]
        return {name: bank.gate_output(name, embedding, self._noise) for name in bank.sites}

    def _before(
        self,
        site: Site,
        is_first: bool,
        inputs: Parameter,
        _block: nn.Module,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Arguments:
        """The arguments of a block, with the prompts added to its input."""
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
        """The sum of the weighted prompts of all members for a block, in their order."""
        embeddings = self._embeddings.at(site.name, args, kwargs)
        total: Tensor | None = None
        for member in self._members:
            if site.name in member.bank.sites:
                embedding = embeddings[member.bank.config.embedding]
                weights = self._weights(member.bank, site.name, embedding)
                delta = member.bank.weighted_prompts(site.name, weights, member.scale)
                total = delta if total is None else total + delta
        assert total is not None
        return total if self._prepended else resized(total, site.shape)

    def _weights(self, bank: PromptBank, block: str, embedding: Tensor) -> Tensor:
        """The weights [B, rows] of a block's prompts.

        Without gradients, those of all blocks are computed before the first one: a block evicts
        the gate from the processor's caches, and each would have to load it again.
        """
        is_plain = not torch.is_grad_enabled() and self._noise is None
        if not is_plain or torch.compiler.is_compiling():
            return bank.gate_output(block, embedding, self._noise).weights
        if bank not in self._ahead or self._ahead[bank][0] is not embedding:
            found = {name: bank.gate_output(name, embedding).weights for name in bank.sites}
            self._ahead[bank] = embedding, found
        return self._ahead[bank][1][block]

    def _without_prompts(self, _block: nn.Module, _args: Any, output: Tensor) -> Tensor:
        return output[:, self._prepended :]


def _sum(hidden: Tensor, prompts: Tensor) -> Tensor:
    """Their sum with the strides of `hidden`: other strides can change how later sums round."""
    if prompts.shape == hidden.shape and prompts.stride() == hidden.stride():
        # the prompts are a fresh tensor, so they may be overwritten, which saves memory traffic
        return prompts.add_(hidden)
    # a batch of one timestep gives one row of weights for the whole batch
    return hidden + prompts


def _require_shape(site: Site, hidden: Tensor) -> None:
    if tuple(hidden.shape[1:]) != site.shape:
        raise MismatchError(
            f"the bank has prompts of shape {list(site.shape)}, but the block's input has shape "
            f"{list(hidden.shape[1:])}",
            tensor=site.name,
            advice="attach with resize_prompts_to for images of another size",
        )
