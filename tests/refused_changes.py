"""Refused changes of soups, and questions about them, whose advice names an option."""

from __future__ import annotations

from advised import Refused

SEARCH = {"--search": "elsewhere"}
TO = {"-o": "x.st"}
UNET = {"--component": "unet"}
IGNORE = "avg --ignore-ledger treats the file as a plain checkpoint"

REFUSED_CHANGES = [
    Refused("add kept.st nan.st -o x.st", ("--allow-nonfinite lets IEEE rules apply",)),
    Refused("add soup.st fewer.st -o x.st", ("--on-missing {}",), {"--exclude": "conv.weight"}),
    Refused("add damaged.st c.st -o x.st", (IGNORE,)),
    Refused("add changed.st c.st -o x.st", (IGNORE,)),
    Refused("add a.st changed.st --count 1 -o x.st", (IGNORE,)),
    Refused("subtract kept.st a.st -o - --keep-sum", (), TO),
    Refused(
        "add soup.st pipe-0 -o x.st",
        ("--component picks one of a pipeline's",),
        instead=("avg pipe-0 pipe-1 -o x",),
    ),
    *(
        Refused(
            f"{command} -o x",
            ("--config-from INPUT chooses the configs of one input",),
            {"--config-from": "run-2"},
        )
        for command in ("add run-soup run-2", "swap run-soup run-0 run-2")
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
]
