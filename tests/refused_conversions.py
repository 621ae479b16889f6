"""Refused conversions, and records of training, whose advice names an option."""

from __future__ import annotations

from advised import Refused

UNET = {"--component": "unet"}
RECORD = "record b.st -o x.st"
OTHER = "blake3:" + 64 * "0"

REFUSED_CONVERSIONS = [
    *(
        Refused(command, (text,), values)
        for command, text, values in (
            (
                f"{RECORD} --base a.st --steps 3",
                "--data DIR, the folder of its images",
                {"--data": "images"},
            ),
            (
                f"{RECORD} --data images --steps 3",
                "--base BASE, or the digest that soupctl hash BASE prints",
                {"--base": "a.st"},
            ),
            (
                f"{RECORD} --data images --base a.st",
                "--steps N, the optimizer steps of its training",
                {"--steps": "3"},
            ),
            (
                f"{RECORD} --data images --base b.st --steps 3",
                "give --base the model that training began with",
                {"--base": "a.st"},
            ),
            (
                f"{RECORD} --data images --base pipe-0 --steps 3",
                "--base names the folder of the component that was trained, such as BASE/unet",
                {"--base": "a.st"},
            ),
            (
                f"record pipe-1 -o x --data images --base {OTHER} --steps 3",
                "give the path of its base to --base",
                {"--base": "pipe-0"},
            ),
            (
                f"{RECORD} --data pipe-0 --base a.st --steps 3",
                "--data names the images of the training",
                {"--data": "images"},
            ),
            (
                "record soup.st -o x.st --data images --base a.st --steps 3",
                "--ignore-ledger replaces it",
                {},
            ),
        )
    ),
    Refused(
        "convert a.st -o x.st --set soupctl=x",
        ("--ignore-ledger leaves out a ledger",),
        instead=("convert soup.st -o x.st --ignore-ledger",),
    ),
    Refused(
        "convert a.st -o x.st --set a=1 --set a=2",
        ("--set gives {} more than once",),
        instead=("convert a.st -o x.st --set a=2",),
    ),
    Refused(
        "convert a.st -o x.st --set a=1 --unset a",
        ("--set and --unset both name {}",),
        instead=("convert a.st -o x.st --set a=1",),
    ),
    Refused(
        "convert a.st -o x.st --unset a",
        ("--unset {} is not in its metadata",),
        instead=("convert a.st -o x.st",),
    ),
    Refused(
        "convert a.st -o x.st --exclude '*'",
        ("see --key and --exclude",),
        instead=("convert a.st -o x.st --key 'conv*'",),
    ),
    Refused(
        "convert nf4.st -o x.st --dtype F32",
        ("without --dtype, --dtype-for and --quantize, codes are copied",),
        instead=("convert nf4.st -o x.st",),
    ),
    Refused(
        "convert ldm.st -o x.st --layout diffusers",
        ("--exclude 'model_ema.*' leaves out all of its kind",),
    ),
    Refused(
        "convert coded.st -o x.st --layout diffusers",
        ("--dtype BF16 stores values, which are laid out",),
    ),
    Refused(
        "convert odd-pipe -o x.st --layout ldm",
        ("--component picks one of the others",),
        instead=("convert odd-pipe -o x.st --layout ldm --component vae",),
    ),
    Refused("convert pipe-0 -o x --layout diffusers", ("leave out --layout",)),
    Refused(
        "convert a.st -o x.st --config-from pipe-0",
        ("--config-from gives configs to the pipeline that --layout diffusers makes of a file",),
        instead=("convert a.st -o x.st",),
    ),
    Refused("convert nested.ckpt -o x.st", ("--entry NAME chooses one",), {"--entry": "ema"}),
    Refused(
        "convert nested.ckpt -o x.st --entry none",
        ("--entry {} holds no tensors",),
        instead=("convert nested.ckpt -o x.st --entry model",),
    ),
    Refused(
        "convert a.st -o x.st --entry model",
        ("--entry goes with a checkpoint that torch has saved",),
        instead=("convert a.st -o x.st",),
    ),
    Refused("convert nf4.st -o x.gguf", ("--exclude '{}' leaves it out",)),
    Refused("convert coded.st -o x.gguf", ("--dtype BF16 stores its value",)),
    Refused(
        "convert a.st -o x.gguf --quantize q8_0",
        (
            "--quantize q8_0 finds no weight of a linear layer with rows of {} elements",
            "leave out --quantize",
        ),
        instead=("convert a.st -o x.gguf",),
    ),
    Refused(
        "convert plain-gguf.st -o x.st --quantize q8_0",
        ("--quantize q8_0 stores weights as a GGUF file does", "name a .gguf file with -o"),
        instead=("convert plain-gguf.st -o x.gguf --quantize q8_0",),
    ),
    Refused(
        "convert large.st -o x.gguf --quantize q8_0",
        ("--dtype-for '{}=F32' stores it as it is",),
        instead=("convert large.st -o x.gguf",),
    ),
    Refused(
        "convert a.st -o x.gguf --shard-size 1M",
        ("--shard-size makes a folder of safetensors files", "name a folder with -o"),
        instead=("convert a.st -o x --shard-size 1M",),
    ),
    Refused("convert pipe-0 -o x.gguf", ("pick one of them with --component",), UNET),
    Refused("convert changed.st -o x.st", ("--ignore-ledger treats it as a plain checkpoint",)),
]
