"""The kinds of tensors in words."""

import pytest

from soupctl.kinds.kind import Role, TensorKind

SEVERAL = {
    Role.WEIGHT: "2 weights",
    Role.COPY: "2 copies",
    Role.STATISTIC: "2 statistics",
    Role.CODE: "2 codes",
    Role.COMPANION: "2 companions of codes",
    Role.FACTOR: "2 factors",
    Role.CONSTANT: "2 constants",
    Role.SETTING: "2 settings",
}


@pytest.mark.parametrize("role", Role)
def test_several_tensors_of_a_kind_are_counted_in_the_plural(role):
    kind, described = TensorKind(role), TensorKind(role, "fp8 with a scale")

    assert f"1 {role.value}" == kind.counted(1)
    assert SEVERAL[role] == kind.counted(2)
    assert f"{SEVERAL[role]} (fp8 with a scale)" == described.counted(2)
