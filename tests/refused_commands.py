"""Commands that are refused with advice that names an option, and what it leaves to the user."""

from __future__ import annotations

from advised import Refused

SEARCH = {"--search": "elsewhere"}
TO = {"-o": "x.st"}
UNET = {"--component": "unet"}
FITTED = "ema a.st b.st -o x.st --sigma-rel 0.1 --steps 1,2 --stored-sigma-rel 0.2"
OUT = "avg a.st b.st --json -o x.st"
SCORED = "greedy a.st b.st --score 'echo 1 # {}'"
SCORE = "such as --score 'python score.py {}'"
IGNORE = "avg --ignore-ledger treats the file as a plain checkpoint"
IGNORE_NEWER = "use a newer soupctl, or avg --ignore-ledger to take the file as it is"

RECORD = "record b.st -o x.st"
OTHER = "blake3:" + 64 * "0"

REFUSED_COMMANDS = [
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
        "bom soup.st",
        ("-o bom.json, --model-card or both",),
        instead=("bom soup.st -o bom.json", "bom other-whole --model-card"),
    ),
    Refused("bom soup.st -o -", ("-o {} names no file",), {"-o": "bom.json"}),
    Refused(
        "bom soup.st --model-card -o bom.json",
        ("is a file, and --model-card writes into the folder of a soup",),
        instead=("bom soup.st -o bom.json",),
    ),
    *(
        Refused(f"verify pair {options}", (text,), instead=(f"verify pair {instead}",))
        for options, text, instead in (
            ("--sample half", "--sample {} is not a share", "--sample 50%"),
            (
                "--sample 120%",
                "--sample must be above 0% and at most 100%",
                "--sample 100%",
            ),
            ("--max-duration soon", "--max-duration {} is not a duration", "--max-duration 2h"),
        )
    ),
    Refused(
        "verify soup.st --sample 5%",
        ("is not a folder of soups, which --sample and --max-duration are for",),
        instead=("verify soup.st", "verify pair --sample 5%"),
    ),
    Refused("attest soup.st", ("-o is required",), {"-o": "p.json"}),
    Refused("attest soup.st -o -", ("-o {} is not a file",), {"-o": "p.json"}),
    Refused(
        "attest soup.st -o p.json --certificate ca.crt",
        ("--certificate needs the key that it is for",),
        {"--sign-with": "key.pem"},
    ),
    Refused(
        "attest soup.st -o p.json --level nothing",
        ("--level nothing proves nothing to attest",),
        instead=("attest soup.st -o p.json",),
    ),
    Refused(
        "verify soup.st --key key.pub",
        ("--attestation FILE names it",),
        {"--attestation": "proof.json"},
    ),
    Refused(
        "verify soup.st --attestation proof.json --key key.pub --signers signers",
        ("--key and --signers both say who signed",),
        instead=("verify soup.st --attestation proof.json --key key.pub",),
    ),
    Refused(
        "verify whole --attestation whole.json --component unet",
        ("leave out --component",),
        instead=("verify whole --attestation whole.json",),
    ),
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
    Refused("add kept.st nan.st -o x.st", ("--allow-nonfinite lets IEEE rules apply",)),
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
    Refused("add soup.st fewer.st -o x.st", ("--on-missing {}",), {"--exclude": "conv.weight"}),
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
    Refused("add damaged.st c.st -o x.st", (IGNORE,)),
    Refused("add changed.st c.st -o x.st", (IGNORE,)),
    Refused("add a.st changed.st --count 1 -o x.st", (IGNORE,)),
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
    Refused(
        "diff a.st b.st --matrix",
        ("--base and --matrix go together",),
        instead=("diff a.st b.st --base a.st --matrix",),
    ),
    Refused(
        "diff a.st b.st --base a.st --matrix --by block",
        ("--by does not apply to --matrix",),
        instead=("diff a.st b.st --base a.st --matrix",),
    ),
    Refused(
        "diff a.st b.st c.st",
        ("--base BASE --matrix compares the deltas of several",),
        instead=("diff a.st b.st c.st --base a.st --matrix",),
    ),
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
        "mix a.st b.st -o x.st",
        ("soupctl --help lists all commands",),
        instead=("--help", "avg a.st b.st -o x.st"),
    ),
    Refused("--versoin", ("soupctl --help lists all options",), instead=("--help", "--version")),
    Refused(
        "avg a.st b.st -o x.st --max-memory 1M",
        ("one thread needs {} bytes: --max-memory {} allows them",),
    ),
    Refused(
        "avg a.st b.st -o x.st --keep-sum --allow-nonfinite",
        ("with --no-keep-sum, the soup is recomputed when it changes",),
    ),
    Refused("avg a.st b.st -o - --keep-sum", (), TO),
    Refused("subtract kept.st a.st -o - --keep-sum", (), TO),
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
    Refused(
        "add soup.st pipe-0 -o x.st",
        ("--component picks one of a pipeline's",),
        instead=("avg pipe-0 pipe-1 -o x",),
    ),
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
    *(
        Refused(
            f"{command} -o x",
            ("--config-from INPUT chooses the configs of one input",),
            {"--config-from": "run-2"},
        )
        for command in ("add run-soup run-2", "swap run-soup run-0 run-2")
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
    Refused("add soup.st a.st -o x.st", ("--again adds its weight once more",)),
    Refused(
        "add lost.st c.st -o x.st",
        (
            (
                "--search DIR looks for it, --approximate computes with the rounded soup; a soup"
                " made with --keep-sum needs none of the others"
            ),
        ),
        SEARCH,
    ),
    Refused(
        "subtract dropped.st fewer.st -o x.st",
        (
            (
                "the kept sum alone is not enough for this change; --search DIR looks for it,"
                " --approximate computes with the rounded soup"
            ),
        ),
        SEARCH,
    ),
    Refused(
        "subtract lost.st gone.st -o x.st --approximate",
        ("--search DIR looks for it elsewhere",),
        SEARCH,
    ),
    Refused("verify lost.st --level rebuild", (), SEARCH),
    Refused(
        "add a.st b.st -o x.st",
        ("give its weight with --count N or --total W; the result is then approximate",),
        {"--count": "1", "--total": "1"},
    ),
    Refused("add soup.st c.st --count 2 -o x.st", ("leave out --count and --total",)),
    Refused(
        "add a.st b.st --count 2 --total 3 -o x.st",
        ("--count and --total exclude each other",),
        instead=("add a.st b.st --count 2 -o x.st", "add a.st b.st --total 3 -o x.st"),
    ),
    Refused("add a.st b.st --count 2 --exact -o x.st", ("leave out --exact",)),
    Refused("add alone.sum c.st --approximate -o x.st", ("leave out --approximate",)),
    Refused("add soup.st c.st --approximate --keep-sum -o x.st", ("leave out --keep-sum",)),
    Refused("subtract soup.st -o x.st", ("name one, or --each takes out each in turn",)),
    Refused("subtract soup.st --each -o x.st", ("such as -o 'without-{}'",)),
    Refused(
        "subtract soup.st a.st --each -o 'x-{name}'",
        ("--each takes out every ingredient in turn",),
        instead=("subtract soup.st --each -o 'x-{name}'",),
    ),
    Refused(
        "subtract soup.st --each --keep-sum -o 'x-{name}'",
        ("--each cannot keep sums", "leave out --keep-sum"),
    ),
    Refused(
        "subtract soup.st --each --count 2 -o 'x-{name}'",
        ("--each needs a soup with a ledger", "leave out --count and --total"),
    ),
    Refused(
        "subtract first.st a.st -o x.st",
        ("make the soup again with avg --take",),
        instead=("avg b.st --take steps=b.st -o x.st",),
    ),
    Refused(
        "hash --check list --sha256",
        (
            "--check reads the files and the kind of digest from its list",
            "leave out FILE, --sha256 and --component",
        ),
    ),
    Refused(
        "hash a.st --sha256 --component unet",
        ("--sha256 digests whole files", "leave out --component and --variant"),
    ),
    Refused("inspect a.st -f", ("-f needs --plot",), instead=("inspect a.st",)),
    Refused(
        "inspect a.st --summary --tensors",
        ("--summary and --tensors exclude each other",),
        instead=("inspect a.st --summary", "inspect a.st --tensors"),
    ),
    Refused(
        "subtract apart pipe-0 -o x",
        ("make the soup again with avg, which records it, or change one --component",),
        UNET,
    ),
    Refused(
        "subtract apart --each -o 'x-{name}'",
        ("make the soup again with avg, which records it, or change one --component",),
        UNET,
    ),
    Refused("add apart pipe-0 -o x", ("--again adds its weight",)),
    Refused("add mixed pipe-0 -o x", ("--again adds its weight once more",)),
    Refused("subtract mixed --each -o 'x-{name}'", ("--component picks one",), UNET),
    Refused("subtract half --each -o 'x-{name}'", ("--component picks one of a pipeline's",), UNET),
    Refused("has mixed pipe-2", ("--component asks for one",), {"--component": "vae"}),
    Refused(
        "has cats.st other.png",
        ("--search DIR looks for {}, the list that training leaves in a run's folder",),
        {"--search": "found"},
        ends=1,
    ),
    Refused(f"{SCORED} -o -", ("name one with -o",), instead=(f"{SCORED} -o x.st",)),
    Refused(
        f"{SCORED} -o scored.st",
        ("--resume goes on with it, -f begins again",),
        instead=(f"{SCORED} -o scored.st --resume", f"{SCORED} -o scored.st -f"),
    ),
    Refused(
        f"{SCORED} -o spoilt.st --resume",
        ("-f begins again, without --resume",),
        instead=(f"{SCORED} -o spoilt.st -f",),
    ),
    *(
        Refused(f"greedy a.st b.st -o x.st {options}", texts, instead=(f"{SCORED} -o x.st",))
        for options, texts in (
            ("", ("a scorer is given by either --score or --scorer", SCORE)),
            ("--score true", ("--score names no place for the candidate's path", SCORE)),
            ("--scorer score", ("--scorer {} is not module:function",)),
            (
                "--scorer math:fsum --jobs 2",
                ("--jobs and --timeout apply to commands, not to a function", "use --score"),
            ),
            ("--score 'echo {}' --timeout 0", ("--timeout {} is not a number of seconds",)),
        )
    ),
    Refused(
        "-v avg a.st b.st -o x.st",
        (),
        instead=("avg -v a.st b.st -o x.st",),
    ),
]
