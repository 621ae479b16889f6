"""Runs of mergekit configs in the working folder."""

from __future__ import annotations

from pathlib import Path

from making import contents

from soupctl import verbs
from soupctl.verbs import RecipeRun


def run(text: str) -> dict[str, bytes]:
    """The bytes of the tensors that a config makes, by name; they are those of out.st."""
    Path("config.yml").write_text(text)
    verbs.run_recipe(RecipeRun("config.yml", "out.st"), force=True)
    return {name: data for name, (_, _, data) in contents(Path("out.st")).items()}
