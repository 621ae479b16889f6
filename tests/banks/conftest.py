"""Bases for prompt banks; where the libraries are not installed, there is nothing to test."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# before a library is imported, which reads it once
os.environ["HF_HUB_OFFLINE"] = "1"
# lets these tests import the module beside them, and those above
sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

collect_ignore_glob = [] if find_spec("torch") and find_spec("diffusers") else ["test_*.py"]

if not collect_ignore_glob:
    import bases


@pytest.fixture(autouse=True)
def seeded():
    bases.torch.manual_seed(0)


@pytest.fixture(params=["dit", "class_unet", "text_unet", "sd3", "flux"])
def base(request):
    return bases.BUILDERS[request.param]()
