"""A range of timesteps: nothing else is trained on, and the record says so."""

from __future__ import annotations

import pytest

from soupctl.diffusion.base import Conditioning
from soupctl.errors import UsageError
from soupctl.training.dataset import scan_dataset
from soupctl.training.loader import Examples, InputSpec
from soupctl.training.options import Options


def timesteps(shards, text: str | None, chosen: range) -> list[int]:
    """The timesteps of the first 300 examples."""
    samples = scan_dataset(shards["plain"], Conditioning.NONE).samples
    spec = InputSpec(8, 3, (3, 8, 8), has_vae=False, timesteps=chosen)
    examples = Examples(samples, Options(timesteps=text), spec, None, None, None)
    return [int(examples[position].timesteps) for position in range(300)]


def test_only_the_timesteps_of_the_range_are_drawn_and_all_of_them(shards):
    assert set(range(90, 110)) == set(timesteps(shards, "90:110", range(90, 110)))


def test_all_timesteps_as_a_range_are_drawn_as_without_one(shards):
    assert timesteps(shards, None, range(1000)) == timesteps(shards, "0:1000", range(1000))


def test_a_range_is_planned_recorded_and_bounded_by_the_base(running, bases, shards, tmp_path):
    data = [shards["plain"]]
    (run,) = running.prepared_runs(bases["plain"], data, tmp_path, timesteps="900:1000")
    (plain,) = running.prepared_runs(bases["plain"], data, tmp_path)

    assert "only the timesteps from 900 to 999 are trained" in run.plan.notices
    assert {**plain.recipe, "timesteps": "900:1000"} == run.recipe
    with pytest.raises(UsageError) as refusal:
        running.prepared_runs(bases["plain"], data, tmp_path, timesteps="5:1001")
    expected = "has timesteps from 0 to 999, but --timesteps is 5:1001 (--timesteps 5:1000)"
    assert refusal.value.message().endswith(expected)
