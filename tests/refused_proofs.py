"""Refused proofs of soups: commands whose advice names an option."""

from __future__ import annotations

from advised import Refused

SEARCH = {"--search": "elsewhere"}

REFUSED_PROOFS = [
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
    Refused("verify lost.st --level rebuild", (), SEARCH),
]
