"""The library of the hub, led to a server on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants
from loopback import Loopback

from soupctl.checkpoints.remote import attempts, mirror


def lead_hub_to(state: Loopback, patch: pytest.MonkeyPatch, cache: Path) -> None:
    """Let the library ask this server, with an empty cache and a token that means nothing."""
    values = {
        "ENDPOINT": state.url,
        # other tests of the same process may have loaded the library offline
        "HF_HUB_OFFLINE": False,
        # another protocol, which the stand-in does not speak
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(cache),
        "HUGGINGFACE_CO_URL_TEMPLATE": state.url + "/{repo_id}/resolve/{revision}/{filename}",
    }
    for name, value in values.items():
        patch.setattr(constants, name, value)
    patch.setenv("HF_TOKEN", "hf_hidden")
    patch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    patch.setattr(attempts, "WAIT", 0.001)
    patch.setattr(mirror, "_MIRRORED", {})
