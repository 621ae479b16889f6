"""Refused averages: commands whose advice names an option, and what it leaves to the user."""

from __future__ import annotations

from advised import Refused

TO = {"-o": "x.st"}
UNET = {"--component": "unet"}
FITTED = "ema a.st b.st -o x.st --sigma-rel 0.1 --steps 1,2 --stored-sigma-rel 0.2"
OUT = "avg a.st b.st --json -o x.st"
IGNORE = "avg --ignore-ledger treats the file as a plain checkpoint"
IGNORE_NEWER = "use a newer soupctl, or avg --ignore-ledger to take the file as it is"

REFUSED_AVERAGES = [
    Refused("avg a.st b.st", ("-o is required", "-o FILE, or -o - for stdout"), TO),
    Refused("avg a.st b.st -o old.st", ("-f replaces it",)),
    Refused(
        "ema a.st b.st -o x.st",
        ("an EMA needs either --decay or --sigma-rel",),
        instead=("ema a.st b.st -o x.st --decay 0.9", "ema a.st b.st -o x.st --sigma-rel 0.1"),
    ),
    Refused(
        "ema a.st b.st -o x.st --decay 0.9 --steps 1,2",
        ("--steps and --stored-sigma-rel go with --sigma-rel",),
        instead=("ema a.st b.st -o x.st --sigma-rel 0.1 --steps 1,2",),
    ),
    *(
        Refused(f"ema a.st b.st -o x.st {options}", (text,), instead=(FITTED,))
        for options, text in (
            ("--sigma-rel 0.1 --steps 1", "--steps gives {} steps, but there are {} inputs"),
            ("--sigma-rel 0.1 --steps 0,2", "--steps gives a step before the first"),
            ("--sigma-rel 0.1 --steps 2,2", "--steps do not ascend"),
            ("--sigma-rel 0.1 --steps 1,x", "--steps {} is not a step"),
            ("--sigma-rel 0.1 --stored-sigma-rel 0.2", "--stored-sigma-rel needs --steps"),
            (
                "--sigma-rel 0.1 --steps 1,2 --stored-sigma-rel 0.2,0.2,0.2",
                "--stored-sigma-rel gives {} values, but there are {} inputs",
            ),
        )
    ),
    Refused("avg a.st b.st --json -o -", ("--json and -o - both write to stdout",), instead=(OUT,)),
    Refused(
        "avg a.st integers.st -o x.st",
        ("avg --on-int first takes the first ingredient's, {}", "--exclude leaves the tensor out"),
        {"--exclude": "steps"},
    ),
    Refused("avg mask-0.st mask-1.st -o x.st", (), {"--exclude": "flags"}),
    Refused("avg betas-0.st betas-1.st -o x.st", ("--exclude '{}' leaves it out",)),
    Refused(
        "avg ids-0.st ids-1.st -o x.st", ("avg --on-int first takes the first ingredient's, {}",)
    ),
    Refused("avg a.st nan.st -o x.st", ("--allow-nonfinite lets IEEE rules apply",)),
    Refused(
        "avg large-0.st@2 large-1.st@-1 -o x.st", ("ask for a wider dtype, such as --dtype F32",)
    ),
    Refused(
        "avg huge-0.st@2 huge-1.st@-1 -o x.st", ("ask for a wider dtype, such as --dtype F64",)
    ),
    Refused(
        "avg a.st fewer.st -o x.st",
        ("--on-missing {}", "{} or --exclude leaves it out"),
        {"--exclude": "conv.weight"},
    ),
    Refused("avg more.st a.st -o x.st", ("--on-missing {}",), {"--exclude": "other"}),
    Refused("avg a.st ema.st -o x.st", ("{}: --exclude 'model_ema.*' leaves them out, {}",)),
    Refused(
        "avg b.st schedule.st -o x.st",
        (
            (
                "a {}: {} keeps it if it applies to all inputs, {} or --exclude '{}'"
                " leaves it out if not"
            ),
        ),
    ),
    Refused(
        "avg a.st wider.st -o x.st",
        ("--take takes it from one input, --exclude leaves it out",),
        {"--take": "conv.weight=a.st", "--exclude": "conv.weight"},
    ),
    Refused(
        "avg a.st float-steps.st -o x.st",
        ("--take takes it from one input, --exclude leaves it out",),
        {"--take": "steps=a.st", "--exclude": "steps"},
    ),
    Refused(
        "avg a.st fewer.st --take '*=fewer.st' -o x.st",
        (
            "is not in the file that --take takes it from",
            "a narrower glob leaves it alone, --exclude leaves it out",
        ),
        {"--exclude": "conv.weight"},
    ),
    Refused(
        "avg fewer.st@3 a.st@-1 b.st@-1 --on-missing keep -o x.st",
        ("--on-missing drop leaves out what not all have",),
    ),
    Refused(
        "avg a.st b.st --key 'conv*' --exclude '*' -o x.st",
        ("see --key, --exclude, --component",),
        instead=("avg a.st b.st --key 'conv*' -o x.st",),
    ),
    Refused(
        f"avg a.st@0.{'12' * 9} b.st@0.{'98' * 9}1 c.st@1/3 -o x.st",
        ("--round-weights {} rounds them to nine decimals",),
    ),
    Refused(
        "avg a.st@0.001 b.st --round-weights 1 -o x.st",
        ("--round-weights asks for more decimals, or leave the ingredient out",),
        {"--round-weights": "3"},
    ),
    Refused("avg a.st newer.st -o x.st", (IGNORE_NEWER,)),
    Refused("avg a.st damaged.st -o x.st", (IGNORE,)),
    Refused("avg a.st changed.st -o x.st", (IGNORE,)),
    Refused(
        "avg a.st b.st --weight-by samples -w 1,2 -o x.st",
        ("-w and --weight-by both give weights",),
        instead=("avg a.st b.st -w 1,2 -o x.st",),
    ),
    Refused(
        "avg a.st@2 b.st -w 1,2 -o x.st",
        ("-w and @ both give weights",),
        instead=("avg a.st@2 b.st -o x.st", "avg a.st b.st -w 1,2 -o x.st"),
    ),
    Refused(
        "avg a.st@2 b.st --weight-by samples -o x.st",
        ("weights are given twice, with --weight-by and one by one",),
        instead=("avg a.st@2 b.st -o x.st",),
    ),
    Refused(
        "avg - b.st --weight-by samples -o x.st",
        ("--weight-by needs files; standard input is read once",),
        instead=("avg a.st b.st -o x.st",),
    ),
    Refused(
        "avg a.st b.st --weight-by samples -o x.st",
        ("-w gives weights instead of --weight-by",),
        {"-w": "1,2"},
    ),
    Refused(
        "avg a.st b.st -w 1 -o x.st",
        ("-w gives {} weights, but there are {} inputs",),
        instead=("avg a.st b.st -w 1,2 -o x.st",),
    ),
    Refused(
        "avg a.st b.st -0 -o x.st", ("-0 needs --files-from",), instead=("avg a.st b.st -o x.st",)
    ),
    Refused(
        "avg a.st b.st --alpha 0.3 -o x.st",
        ("{}, or give all with --weights 0.7,0.3", "soupctl {} --help describes its options"),
        instead=("avg a.st b.st --weights 0.7,0.3 -o x.st",),
    ),
    Refused(
        "avg a.st b.st -o x.st --max-memory 1M",
        ("one thread needs {} bytes: --max-memory {} allows them",),
    ),
    Refused(
        "avg a.st b.st -o x.st --keep-sum --allow-nonfinite",
        ("with --no-keep-sum, the soup is recomputed when it changes",),
    ),
    Refused("avg a.st b.st -o - --keep-sum", (), TO),
    Refused(
        "avg a.st b.st --shard-size 1k -o x.st",
        ("--shard-size makes a folder", "name one with -o"),
        {"-o": "x"},
    ),
    Refused(
        "avg a.st b.st -o x/",
        ("name a file, or --shard-size makes a folder",),
        {"--shard-size": "1k"},
    ),
    Refused("avg shards shards -o x", ("--shard-size makes fewer",), {"--shard-size": "1M"}),
    Refused(
        "avg shards shards --shard-size 1 -o x",
        ("--shard-size {} makes {} files; at most {} are written",),
        instead=("avg shards shards --shard-size 1M -o x",),
    ),
    Refused(
        "avg many many -o x",
        ("choose a larger --shard-size, or --component picks one of them",),
        {"--shard-size": "1M", "--component": "unet"},
    ),
    Refused(
        "avg pipe-0 pipe-1 -o x.st",
        ("name a folder with -o, or pick one with --component",),
        {"-o": "x", "--component": "unet"},
    ),
    Refused("avg pipe-0 no-vae -o x", ("--component picks one of a pipeline's",), UNET),
    Refused("avg pipe-0 pickled-vae -o x", ("--component {}",)),
    Refused(
        "avg variants variants -o x",
        ("name one file, or a variant with --variant",),
        {"--variant": "fp16"},
    ),
    Refused(
        "avg a.st b.st --component unet -o x.st",
        ("is not a pipeline, so --component does not apply",),
        instead=("avg a.st b.st -o x.st",),
    ),
    Refused(
        "avg run-0 run-1 -o x",
        ("--config-from INPUT chooses the configs of one input",),
        {"--config-from": "run-1"},
    ),
    Refused(
        "avg run-0 run-1 --config-from none -o x",
        ("--config-from names no input",),
        instead=("avg run-0 run-1 --config-from run-0 -o x",),
    ),
    Refused(
        "avg run-0 run-1/model.safetensors --config-from run-1/model.safetensors -o x",
        ("--config-from names a folder",),
        {"--config-from": "run-0"},
    ),
]
