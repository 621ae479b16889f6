"""`inspect` says what a file is, also where its tensors are of no known model."""

from __future__ import annotations

import numpy as np
import pytest
from making import save


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("a.st", "nothing known"),
        ("b.delta", "a delta"),
        ("soup.st.*.sum", "a kept sum"),
        ("differences.st", "an adapter"),
    ],
)
def test_a_file_of_no_known_model_is_named_by_its_kind(soupctl, folder, name, title):
    save(folder / "a.st", w=np.zeros((2, 2), np.float32))
    save(folder / "b.st", w=np.ones((2, 2), np.float32))
    save(folder / "differences.st", **{"layer.diff": np.ones((2, 2), np.float32)})
    soupctl("delta", "b.st", "a.st", "-o", "b.delta")
    soupctl("avg", "a.st", "b.st", "-o", "soup.st", "--keep-sum")
    (file,) = folder.glob(name)

    told = soupctl("inspect", file.name).text

    assert f"looks like  {title}" in told
