"""A prompt bank: learned prompts for the blocks of a frozen base, weighted by a gate.

It implements Diffusion Model Patching (Ham et al. 2025, arXiv 2405.17825): x_i + g_i(t) * P_i is
the input of block i, where P_i are its prompts and g_i(t) the gate's weights at timestep t.

Rule 1: the prompts of a new bank are zero, so it adds exactly nothing to the input of a block.
Rule 2: a bank is stored and computed in float32, whatever the base's dtype, also under autocast.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..diffusion import rng
from ..errors import MismatchError
from .config import BankConfig, GateInput, GateKind
from .gates import Gate, GateOutput

GateNoise = Mapping[str, Tensor]
"""Standard normal noise [B, rows] by block, for the logits of a noisy gate."""


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

    def gate_output(
        self, block: str, embedding: Tensor, noise: GateNoise | None = None
    ) -> GateOutput:
        """The gate's output for a block, from embeddings [B, D]; see `BankConfig.embedding`."""
        site = self.sites[block]
        if self.config.gate_input is GateInput.NONE:
            embedding = torch.zeros_like(embedding)
        gate = self.gate[str(self.config.rows(site))]
        with _float32(embedding):
            output: GateOutput = gate(
                embedding, site.depth, None if noise is None else noise[block]
            )
        return output

    def delta(
        self, block: str, embedding: Tensor, scale: float = 1.0, noise: GateNoise | None = None
    ) -> Tensor:
        """`scale` times the weighted prompts for a block, [B, N, D] or [B, C, H, W].

        They are added to the block's input, or, if prepended, put before it: [B, prompts, D].
        """
        return self.weighted_prompts(
            block, self.gate_output(block, embedding, noise).weights, scale
        )

    def weighted_prompts(self, block: str, weights: Tensor, scale: float = 1.0) -> Tensor:
        """`scale` times a block's prompts, weighted by `weights` [B, rows]; see `delta`."""
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
        # each position takes the weight of its nearest cell
        return functional.interpolate(grid, size=site.shape[1:], mode="nearest") * prompts

    def tensors(self) -> dict[str, Tensor]:
        """The bank's tensors by their names in its file; they share memory with its parameters."""
        found = {f"prompts.{name}": self.prompts[_key(name)].detach() for name in self.sites}
        for rows, gate in self.gate.items():
            found |= {
                f"gate.{rows}.{name}": value.detach() for name, value in gate.named_parameters()
            }
        return found

    def draw_gate(self, seed: int) -> None:
        """Draw the gate's weights for the embedding from N(0, 1 / D), or, without one, its bias.

        Prompts that a zero gate weighs alike, and that are not bound to a position, would get equal
        gradients, and stay equal for ever.
        """
        width = self.config.base.embedding_width
        for name, gate in self.gate.items():
            rows = int(name)
            if self.config.gate_input is GateInput.NONE:
                # no embedding reaches the weights
                part, drawn = gate.bias, rng.normal((rows,), seed, "initial bias", rows)
            else:
                part = gate.weight[:, :-1]
                drawn = rng.normal((rows, width), seed, "initial gate", rows) / np.sqrt(width)
            part.data.copy_(torch.from_numpy(drawn))

    def copy_gate(self, other: PromptBank) -> None:
        """Copy the gate of `other`, and freeze it: banks that share a gate average exactly.

        Raises MismatchError, with all fields that differ, if the gates are of different kinds.
        """
        mine, theirs = (_gate_fields(bank.config) for bank in (self, other))
        if different := [name for name in mine if mine[name] != theirs[name]]:
            fields = ", ".join(different)
            raise MismatchError(f"the gates differ in {fields}, so one cannot be copied")
        self.gate.load_state_dict(other.gate.state_dict())
        self.gate.requires_grad_(False)

    def parameter_groups(self, learning_rate: float, gate_scale: float) -> list[dict[str, Any]]:
        """Parameter groups for an optimizer; gates learn at `gate_scale` times the learning rate.

        A frozen gate has no group. `factor` is a group's rate as a multiple of `learning_rate`.
        """
        gates = [parameter for parameter in self.gate.parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": list(self.prompts.values()), "lr": learning_rate, "factor": 1.0}
        ]
        if gates:
            rate = learning_rate * gate_scale
            groups.append({"params": gates, "lr": rate, "factor": gate_scale})
        return groups


def gate_noise(config: BankConfig, seed: int, visits: Sequence[int]) -> GateNoise:
    """Standard normal noise [B, rows] by block, with a row for each visit of a sample in training.

    The noise of a visit is a function of the seed, the visit and the block alone, so it is the same
    in any batch, process or resumed run.
    """
    found = {}
    for site in config.base.sites:
        shape = (config.rows(site),)
        rows = [rng.normal(shape, seed, "gate", visit, site.depth) for visit in visits]
        found[site.name] = torch.from_numpy(np.stack(rows))
    return found


def _gate_fields(config: BankConfig) -> dict[str, object]:
    """The fields that two gates must share for one to be copied to the other."""
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
    """A context without autocast, which would compute in fewer bits."""
    return torch.autocast(tensor.device.type, enabled=False)


def _key(block: str) -> str:
    """The block's name without dots, which PyTorch refuses in the names of parameters."""
    return block.replace(".", "__")
