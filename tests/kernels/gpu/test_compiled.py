"""Compiled ahead of time, the kernels do what their proofs and their speed stand on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
NVIDIA = ("sm_80", "sm_90")


@pytest.fixture(scope="module", params=[*NVIDIA, "gfx942"])
def compiled(request, tmp_path_factory):
    """What is launched in every way that there is, compiled for a device that is not here."""
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))}
    environment.pop("TRITON_INTERPRET", None)
    run = subprocess.run(
        [sys.executable, HERE / "compiling.py", request.param],
        env=environment,
        capture_output=True,
        check=False,
    )

    assert 0 == run.returncode, run.stderr.decode()
    return json.loads(run.stdout)


def told(kernels):
    """Enough of some kernels to find them by."""
    return [(kernel["kernel"], kernel["constants"]) for kernel in kernels]


def test_every_format_and_every_way_is_compiled(compiled):
    constants = [kernel["constants"] for kernel in compiled]

    assert 6 == len({each["FORMAT"] for each in constants if "FORMAT" in each})
    for name in ("POWER", "BOUNDED", "SETTLE", "ALIGNED", "WHOLE", "BEGINS"):
        assert {False, True} == {each[name] for each in constants if name in each}


def test_no_product_is_fused_into_a_sum(compiled):
    """A division takes fused steps of its own; where nothing is divided there is none at all."""
    undivided = [
        kernel
        for kernel in compiled
        if kernel["constants"].get("POWER", True)
        and not kernel["constants"].get("SETTLE", kernel["kernel"] == "settle_kernel")
    ]
    fused = [kernel for kernel in compiled if kernel["fusion"] or kernel.get("fused")]

    assert [] == told(fused)
    assert undivided
    assert [] == told(kernel for kernel in undivided if kernel["machine_fused"])


def test_division_is_correctly_rounded_and_subnormals_are_kept(compiled):
    divisions = {name for kernel in compiled for name in kernel.get("divisions", ())}

    assert divisions <= {"div.rn.f64"}
    assert [] == told(kernel for kernel in compiled if kernel.get("flushed"))


def test_everything_stays_in_registers(compiled):
    assert [] == told(kernel for kernel in compiled if kernel["spilled"])


def is_wide(move):
    return move.endswith(("v4.b32", "v2.b64", "dwordx4"))


def test_rows_and_results_move_in_words_of_128_bits(compiled):
    """Where blocks are whole, which is all but the last; not in the second pass, which is rare."""
    main = [
        kernel
        for kernel in compiled
        if kernel["case"] in ("whole", "power")
        # of doubles, the second pass is the only one
        and (not kernel["constants"]["SETTLE"] or kernel["constants"]["FORMAT"] == "F64")
    ]
    narrow = {move for kernel in main for move in kernel["moves"] if not is_wide(move)}

    assert 6 == len({kernel["constants"]["FORMAT"] for kernel in main})
    # the tables of addresses and weights, read by all threads alike, and the mark of a block
    assert narrow <= {"ld.global.b64", *MARKS}
    assert [] == told(kernel for kernel in main if not both_ways(kernel))


MARKS = ("ld.global.b8", "st.global.b8", "global_load_ubyte", "global_store_byte")


def both_ways(kernel):
    """Whether a kernel loads and stores in wide words."""
    wide = [move.replace("ld.", "load").replace("st.", "store") for move in kernel["moves"]
            if is_wide(move)]  # fmt: skip
    return all(any(kind in move for move in wide) for kind in ("load", "store"))


def test_sums_move_in_words_of_128_bits(compiled):
    main = [
        kernel
        for kernel in compiled
        if kernel["kernel"] == "update_kernel" and kernel["constants"]["WHOLE"]
    ]
    wide = [kernel for kernel in main if not kernel["constants"]["FORMAT"].startswith("F8")]
    narrow = {move for kernel in wide for move in kernel["moves"] if not is_wide(move)}

    assert (7, 5) == (len(main), len(wide))
    assert [] == told(kernel for kernel in main if not both_ways(kernel))
    # the table, and a mean of 16 or 32 bits beside its sum of 64
    table = {"ld.global.b64", "global_load_dwordx2"}
    beside = {"st.global.v2.b32", "buffer_store_dwordx2"}
    assert narrow <= {*table, *beside, *MARKS}
