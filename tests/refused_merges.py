"""Commands refused for weights by block, sweeps, padding, eight bits, deltas and `--take`.

Their checkpoints are `a.st` to `d.st` and the pipelines of all refused commands, and those that are
saved here.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from advised import Refused
from deltas import apply, delta
from making import save, save_raw
from revising import average

from soupctl import verbs

LINEAR = "blocks.0.q.weight"
KERNEL = "conv_in.weight"
UNET = "unet/diffusion_pytorch_model.safetensors"
BLOCKS = {
    "two.toml": '[blocks]\n"conv*" = [0, 1]\n',
    "three.toml": '[blocks]\n"conv*" = [0, 1, 1]\n',
    "default.toml": 'default = [1, 3]\n[blocks]\n"conv*" = [0, 1]\n',
    "nothing.toml": '[blocks]\n"convs*" = [0, 1]\n',
    "fine.toml": f'[blocks]\n"*.in*" = ["1/{2**40 + 1}", 1]\n"*.out*" = ["1/{2**40 - 1}", 1]\n',
}
"""Files of weights by block."""
NUMBERS = ",".join(["0.5"] * 26)


def save_inputs() -> None:
    """Save, beside the checkpoints `a.st` to `d.st` and pipelines, what the commands are of."""
    for name, text in BLOCKS.items():
        Path(name).write_text(text)
    for number in (0, 1):
        blocks = [f"{side}put_blocks.{n}.0" for side in ("in", "out") for n in range(12)]
        names = (*blocks, "middle_block.1.norm", "time_embed.0", "out.2")
        values = {f"model.diffusion_model.{name}.weight": np.full(2, number) for name in names}
        save(Path(f"sd-{number}.st"), **{name: each * 1.0 for name, each in values.items()})
        kernel = np.full((8, 4 + 5 * number, 3, 3), number, np.float16)
        save(Path(f"channels-{number}.st"), **{KERNEL: kernel}, norm=np.ones(3, np.float16))
        linear = {LINEAR: np.full((2, 4), number + 1, np.float32)}
        save(Path(f"linear-{number}.st"), **linear, norm=np.ones(3, np.float32))
        save(Path(f"vast-{number}.st"), **linear, **{"blocks.1.q.weight": np.full((2, 4), 1e90)})
        scale = {"blocks.0.q.scale_weight": np.ones(1, np.float32)}
        save(Path(f"scale-{number}.st"), **linear, **scale)
        save(Path(f"linear-run-{number}/model.safetensors"), **linear)
        shutil.copytree(f"pipe-{number}", f"linear-pipe-{number}")
        save(Path(f"linear-pipe-{number}", UNET), {"format": "pt"}, **linear)
    delta("b.st", "a.st", "b-a.delta")
    delta("c.st", "b.st", "c-b.delta")
    delta("integers.st", "a.st", "integers.delta")
    apply("a.st", "b-a.delta", output="applied.st")
    factors = {"up.weight": np.ones((3, 1)), "down.weight": np.ones((1, 2))}
    layers = ("lora_te_layer", "lora_unet_layer")
    save(Path("unet.st"), **{"layer.weight": np.ones((3, 2), np.float16)})
    save(
        Path("both-lora.st"),
        **{
            f"{layer}.lora_{name}": array.astype(np.float16)
            for layer in layers
            for name, array in factors.items()
        },
    )
    average("taken.st", "a.st", "b.st", take=[("steps", "c.st")])
    _save_parts()


def _save_parts() -> None:
    """Save parts of soups: some are missing, or an input has changed since."""
    shutil.copy("a.st", "touched.st")
    for output, first, count in (
        ("lacking.st", "a.st", 2),
        ("stale.st", "touched.st", 1),
        ("parted.st", "a.st", 1),
    ):
        request = verbs.Request((first, "b.st"), output)
        with verbs.open_part(request, verbs.PartOfPlan(1, count)) as planned:
            verbs.make_part(planned)
    os.utime("touched.st", ns=(1, 1))
    for number in (0, 1):
        codes = ("F8_E4M3", (2, 4), bytes(8))
        scale = ("F32", (), np.float32([2]).tobytes())
        tensors = {"layer.weight": codes, "layer.scale_weight": scale}
        save_raw(Path(f"codes-{number}.st"), tensors)


OF_BLOCKS = [
    Refused(
        "avg a.st b.st -w 1,2 --blocks default.toml -o x.st",
        ("--blocks has default weights, and the ingredients have weights of their own",),
        instead=(
            "avg a.st b.st -w 1,2 --blocks two.toml -o x.st",
            "avg a.st b.st --blocks default.toml -o x.st",
        ),
    ),
    Refused(
        "avg a.st b.st c.st --blocks two.toml -o x.st",
        ("--blocks {} has {} weight{} for {} ingredients",),
        instead=("avg a.st b.st c.st --blocks three.toml -o x.st",),
    ),
    Refused(
        "avg a.st b.st c.st --blocks GRAD_V -o x.st",
        ("--blocks has shares of a second ingredient, and there are {}",),
        instead=("avg a.st b.st c.st --blocks three.toml -o x.st",),
    ),
    Refused(
        "avg sd-0.st sd-1.st --blocks 0.5,0.5 -o x.st",
        ("--blocks has {} numbers",),
        instead=(f"avg sd-0.st sd-1.st --blocks {NUMBERS} -o x.st",),
    ),
    Refused(
        "avg sd-0.st sd-1.st --blocks GRAD_W -o x.st",
        ("--blocks {} is not a file, preset or list of numbers",),
        instead=("avg sd-0.st sd-1.st --blocks GRAD_V -o x.st",),
    ),
    Refused(
        "avg sd-0.st sd-1.st --blocks fine.toml --keep-sum -o x.st",
        (),
        instead=("avg sd-0.st sd-1.st --blocks fine.toml --no-keep-sum -o x.st",),
    ),
    Refused(
        "avg a.st b.st --blocks nothing.toml -o x.st",
        ("--blocks {} matches no tensor",),
        instead=("avg a.st b.st --blocks two.toml -o x.st",),
    ),
]
"""Refused for weights by block."""

PART = "avg a.st b.st -o x.st --part 1/2"
OF_PARTS = [
    *(
        Refused(f"{command} -o x.st --part {part}", says, instead=(instead,))
        for command, part, says, instead in (
            (
                "avg a.st b.st --keep-sum",
                "1/2",
                ("--part and {} exclude each other",),
                PART,
            ),
            (
                "avg a.st b.st -n",
                "1/2",
                (
                    "--part and --dry-run exclude each other",
                    "leave out --part: the plan is that of all parts",
                ),
                "avg a.st b.st -o x.st -n",
            ),
            (
                "avg codes-0.st codes-1.st",
                "1/2",
                (),
                "avg codes-0.st codes-1.st -o x.st",
            ),
            (
                "avg a.st -",
                "1/2",
                ("--part reads and writes files, which other processes find, not streams",),
                PART,
            ),
            ("avg a.st b.st", "half", ("--part {} is not a part", "such as --part 1/4"), PART),
            ("avg a.st b.st", "5/4", ("--part {}/{} does not exist",), PART),
        )
    ),
    Refused(
        "avg a.st b.st --sweep 0:1:0.5 --part 1/2 -o 'mix-{t}.st'",
        (),
        instead=("avg a.st b.st --sweep 0:1:0.5 -o 'mix-{t}.st'", PART),
    ),
    *(
        Refused(f"avg {inputs} --ray {address}", says, instead=("avg a.st b.st -o x.st",))
        for inputs, address, says in (
            (
                "a.st b.st -o x.st",
                "head",
                (
                    "--ray {} is not the address of a cluster",
                    "such as --ray head:6379, --ray auto or --ray local",
                ),
            ),
            ("a.st b.st -o -", "local", ("--ray makes files, not a stream", "name one with -o")),
            (
                "a.st b.st --keep-sum -o x.st",
                "local",
                ("--ray keeps no exact sum", "--no-keep-sum, or leave out --ray"),
            ),
        )
    ),
    Refused(
        "subtract soup.st --each -o 'x-{name}.st' --ray local",
        ("--each reads all once, on this machine", "leave out --ray"),
        instead=("subtract soup.st --each -o 'x-{name}.st'",),
    ),
    Refused(
        "commit lacking.st",
        ("make {} with avg --part {}/{}",),
        instead=("avg a.st b.st -o lacking.st --part 2/2",),
    ),
    Refused(
        "commit stale.st",
        ("make it again with avg --part {}",),
        instead=("avg touched.st b.st -o stale.st --part 1/1",),
    ),
    Refused("commit a.st", ("name the output of avg --part",), instead=("commit parted.st",)),
]
"""Refused for parts of soups."""

SWEEP = "avg a.st b.st --sweep 0:1:0.5"
OF_SWEEPS = [
    *(
        Refused(
            f"avg a.st b.st --sweep {shares} -o 'mix-{{t}}.st'",
            (text,),
            instead=("avg a.st b.st --sweep 0:1:0.1 -o 'mix-{t}.st'",),
        )
        for shares, text in (
            ("0:1", "--sweep {} is not START:STOP:STEP"),
            ("1:0:0.1", "--sweep START:STOP:STEP needs a positive step from START up to STOP"),
            ("0:1:0.001", "--sweep makes {} soups, and at most {} are possible"),
        )
    ),
    Refused(f"{SWEEP} -o x.st", ("such as -o 'mix-{}.st'",)),
    Refused(f"{SWEEP} -o -", ("such as -o 'mix-{}.st'",)),
    Refused(
        "avg a.st b.st c.st --sweep 0:1:0.5 -o 'mix-{t}.st'",
        (),
        instead=(f"{SWEEP} -o 'mix-{{t}}.st'",),
    ),
    Refused(
        f"{SWEEP} -w 1,2 -o 'mix-{{t}}.st'",
        ("--sweep gives the weights", "leave out -w and @"),
    ),
    Refused(
        "avg a.st@2 b.st --sweep 0:1:0.5 -o 'mix-{t}.st'",
        ("--sweep gives the weights", "leave out -w and @"),
        instead=(f"{SWEEP} -o 'mix-{{t}}.st'",),
    ),
    Refused(
        f"{SWEEP} --blocks two.toml -o 'mix-{{t}}.st'",
        ("--sweep has no weights by block", "leave out --blocks"),
    ),
    Refused(f"{SWEEP} --keep-sum -o 'mix-{{t}}.st'", ("--sweep cannot keep sums",)),
    Refused(
        f"{SWEEP} --take steps=a.st -o 'mix-{{t}}.st'",
        ("--take takes tensors from an input that a share of 0 or 1 leaves out",),
        instead=("avg a.st b.st --sweep 0.1:0.9:0.2 --take steps=a.st -o 'mix-{t}.st'",),
    ),
]
"""Refused for a sweep."""

QUANTIZED = "avg linear-0.st linear-1.st --quantize fp8-scaled"
OF_EIGHT_BITS = [
    Refused(
        f"{QUANTIZED} --allow-nonfinite -o x.st",
        ("--quantize and --allow-nonfinite exclude each other",),
        instead=(f"{QUANTIZED} -o x.st", "avg linear-0.st linear-1.st --allow-nonfinite -o x.st"),
    ),
    Refused(
        "avg a.st b.st --quantize fp8-scaled -o x.st",
        ("--quantize {} finds no weight of a linear layer in a block", "leave out --quantize"),
    ),
    Refused(
        "avg scale-0.st scale-1.st --quantize fp8-scaled -o x.st",
        ("has the name of a tensor that --quantize {} adds", "--exclude '{}' leaves it out"),
    ),
    Refused(
        "avg vast-0.st vast-1.st --quantize fp8-scaled -o x.st",
        ("--dtype-for '{}=f64' keeps it",),
    ),
    Refused(
        "avg linear-run-0 linear-run-1 --quantize fp8-scaled -o x",
        (
            "weights quantised by --quantize fp8-scaled are loaded from single files only",
            "name a .safetensors file with -o",
        ),
        {"-o": "x.safetensors"},
    ),
    Refused(
        "avg linear-pipe-0 linear-pipe-1 --quantize fp8-scaled -o x",
        ("--quantize {} makes a single file", "pick one of the components with --component"),
        {"--component": "unet", "-o": "x.safetensors"},
    ),
]
"""Refused for codes of eight bits."""

OF_TAKES = [
    Refused(
        "avg a.st b.st --take steps=- -o x.st",
        ("--take cannot take tensors from standard input",),
        instead=("avg a.st b.st --take steps=c.st -o x.st",),
    ),
    Refused(
        f"avg pipe-0 pipe-1 --take {KERNEL}=pipe-2/{UNET} -o x",
        ("--component picks one of them",),
        {"--component": "unet"},
    ),
    *(
        Refused(
            f"{command} -o x.st",
            ("make the soup again with avg --take and another file",),
            instead=("avg a.st b.st --take steps=d.st -o x.st", "avg a.st b.st -o x.st"),
        )
        for command in ("subtract taken.st c.st", "swap taken.st c.st a.st")
    ),
    Refused(
        "avg channels-0.st channels-1.st -o x.st",
        ("--pad '{}' pads the narrower with zeros",),
        {"--take": f"{KERNEL}=channels-1.st", "--exclude": KERNEL},
    ),
]
"""Refused for where tensors are taken from, or how many input channels they have."""

OF_DELTAS = [
    Refused("apply b.st b-a.delta -o x.st", ("--other-base applies it anyway",)),
    Refused(
        "apply a.st integers.delta@0.5 -o x.st",
        ("--on-int first takes the base's, {}",),
        {"--exclude": "steps"},
    ),
    Refused(
        "apply a.st integers.delta --keep-sum -o x.st",
        ("with --no-keep-sum, the soup is recomputed when it changes",),
        instead=("apply a.st integers.delta --no-keep-sum -o x.st",),
    ),
    Refused(
        "add applied.st c-b.delta -o x.st",
        ("make the soup again with soupctl apply --other-base",),
        instead=("apply a.st b-a.delta c-b.delta --other-base -o x.st",),
    ),
    Refused(
        "apply unet.st both-lora.st -o x.st",
        ("soupctl convert --exclude GLOB makes an adapter without such modules",),
        instead=("convert both-lora.st --exclude 'lora_te*' -o x.st",),
    ),
    Refused(
        "apply a.st b-a.delta c-b.delta --blocks GRAD_V -o x.st",
        ("--blocks has the scales of one delta, and there are {}",),
        instead=("apply a.st b-a.delta c-b.delta --other-base --blocks two.toml -o x.st",),
    ),
]
"""Refused for deltas."""

OF_METHODS = [
    Refused(
        "merge a.st c.st --method model-stock -o x.st",
        ("give it with --base",),
        {"--base": "b.st"},
    ),
    Refused("merge a.st --base b.st --method ties -o x.st", ("such as --density 0.2",)),
    Refused(
        "merge a.st --base b.st --method breadcrumbs --density 0.2 --gamma 1 -o x.st",
        ("--gamma is {}, and not from 0 to below 1",),
        instead=("merge a.st --base b.st --method breadcrumbs --density 0.2 --gamma 0.01 -o x.st",),
    ),
    Refused(
        "merge a.st --base b.st --method dare --density 0.2 --seed -1 -o x.st",
        ("--seed is {}, and not from 0 to 2**64 - 1",),
        instead=("merge a.st --base b.st --method dare --density 0.2 --seed 0 -o x.st",),
    ),
]
"""Refused for what a method needs or cannot work with."""

REFUSED_MERGES = [
    *OF_PARTS,
    *OF_BLOCKS,
    *OF_SWEEPS,
    *OF_EIGHT_BITS,
    *OF_TAKES,
    *OF_DELTAS,
    *OF_METHODS,
]
