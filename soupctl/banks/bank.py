"""A prompt bank: learned prompts for the blocks of a frozen base, weighed by a gate.

Rule 1: a new bank is zero everywhere, so that what it adds is exactly nothing.
Rule 2: a bank is float32 and computes in it, whatever the base does, under autocast as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import MismatchError
from .config import BankConfig, GateKind
from .gates import Gate, Gated

Draws = Mapping[str, Tensor]
"""Standard normal numbers [B, rows] by block, which make a noisy gate noisy."""


class PromptBank(nn.Module):
    """The prompts and gates that `config` describes, all zero."""

    def __init__(self, config: BankConfig) -> None:
        super().__init__()
        self.config = config
        self.sites = {site.name: site for site in config.base.sites}
        self.prompts = nn.ParameterDict(
            {
                _key(site.name): nn.Parameter(
                    torch.zeros(config.prompt_shape(site), dtype=torch.float32)
                )
                for site in config.base.sites
            }
        )
        width = config.base.embedding_width
        self.gate = nn.ModuleDict(
            {
                str(rows): Gate(rows, width, config.kept(rows), config.noisy).float()
                for rows in config.gates
            }
        )

    def gated(self, block: str, embedding: Tensor, draws: Draws | None = None) -> Gated:
        """What the gate says of a block for embeddings [B, D] of the config's gate input."""
        site = self.sites[block]
        gate = self.gate[str(self.config.rows(site))]
        with _float32(embedding):
            gated: Gated = gate(embedding, site.depth, None if draws is None else draws[block])
        return gated

    def delta(
        self, block: str, embedding: Tensor, scale: float = 1.0, draws: Draws | None = None
    ) -> Tensor:
        """`scale` times what is added to a block's input, [B, N, D] or [B, C, H, W].

        Where prompts go before the sequence, these prompts, [B, prompts, D].
        """
        return self.weighed(block, self.gated(block, embedding, draws).weights, scale)

    def weighed(self, block: str, weights: Tensor, scale: float = 1.0) -> Tensor:
        """`scale` times what is added to a block's input for its gate's weights; see `delta`."""
        if scale != 1:
            weights = weights * scale
        prompts = self.prompts[_key(block)]
        if self.config.gate is GateKind.MIXTURE:
            with _float32(weights):
                return torch.tensordot(weights, prompts, dims=1)
        if self.config.gate_grid is None:
            return weights[:, :, None] * prompts
        site = self.sites[block]
        grid = weights.unflatten(1, (1, *self.config.grid(site)))
        # the nearest cell of the grid weighs a position, so one is never weighed in two cells
        return functional.interpolate(grid, size=site.shape[1:], mode="nearest") * prompts

    def tensors(self) -> dict[str, Tensor]:
        """The bank's numbers by the names they have in its file; no copies."""
        found = {f"prompts.{name}": self.prompts[_key(name)].detach() for name in self.sites}
        for rows, gate in self.gate.items():
            found |= {
                f"gate.{rows}.{name}": value.detach() for name, value in gate.named_parameters()
            }
        return found

    def take_gate(self, other: PromptBank) -> None:
        """Have the gate of `other`, frozen: banks that share one average exactly.

        Raises MismatchError, with all fields that differ, if it is a gate of another kind.
        """
        mine, theirs = (_gate_fields(bank.config) for bank in (self, other))
        if different := [name for name in mine if mine[name] != theirs[name]]:
            fields = ", ".join(different)
            raise MismatchError(f"the gate that was to be taken differs in {fields}")
        self.gate.load_state_dict(other.gate.state_dict())
        self.gate.requires_grad_(False)

    def groups(self, learning_rate: float, gate_scale: float) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer: the gates learn `gate_scale` times as fast.

        A frozen gate has none. Each says by which `factor` its rate is another than asked.
        """
        gates = [parameter for parameter in self.gate.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": list(self.prompts.values()), "lr": learning_rate, "factor": 1.0}
        ]
        if gates:
            rate = learning_rate * gate_scale
            groups.append({"params": gates, "lr": rate, "factor": gate_scale})
        return groups


def _gate_fields(config: BankConfig) -> dict[str, object]:
    """What decides what a gate's numbers mean."""
    return {
        "gate": config.gate,
        "gate_input": config.gate_input,
        "gate_grid": config.gate_grid,
        "topk": config.topk,
        "noisy": config.noisy,
        "weights": config.gates,
        "temb_dim": config.base.embedding_width,
    }


def _float32(tensor: Tensor) -> torch.autocast:
    """A context in which nothing is computed in fewer bits, though the base may be."""
    return torch.autocast(tensor.device.type, enabled=False)


def _key(block: str) -> str:
    """The block's name as PyTorch takes it for a parameter's: without dots."""
    return block.replace(".", "__")
