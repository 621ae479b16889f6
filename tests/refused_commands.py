"""Commands that are refused with advice that names an option, and what it leaves to the user."""

from __future__ import annotations

from advised import Refused
from refused_averages import REFUSED_AVERAGES
from refused_changes import REFUSED_CHANGES
from refused_conversions import REFUSED_CONVERSIONS
from refused_proofs import REFUSED_PROOFS

SCORED = "greedy a.st b.st --score 'echo 1 # {}'"
SCORE = "such as --score 'python score.py {}'"

REFUSED_COMMANDS = [
    *REFUSED_AVERAGES,
    *REFUSED_CHANGES,
    *REFUSED_CONVERSIONS,
    *REFUSED_PROOFS,
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
        "mix a.st b.st -o x.st",
        ("soupctl --help lists all commands",),
        instead=("--help", "avg a.st b.st -o x.st"),
    ),
    Refused("--versoin", ("soupctl --help lists all options",), instead=("--help", "--version")),
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
