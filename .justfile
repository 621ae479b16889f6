# lint and test
default: lint test

# what CI asks of the sources
lint: types
    ruff check .
    ruff format --check .
    codespell

types:
    mypy --strict soupctl

test *arguments:
    python -m pytest -n 2 {{arguments}}

# rewrite the expected outputs; read the diff before committing it
golden:
    GOLDEN=rewrite python -m pytest -n 2 tests/cli tests/test_docs.py

# record the digests of results anew, where users are meant to get other bytes than before
digests:
    GOLDEN=rewrite-digests python -m pytest -n 0 tests/*/test_golden_*.py

# measure one case, after its correctness gate
bench case:
    python benchmarks/run.py {{case}}

# a wheel in an environment of its own shows what a newcomer gets
bare:
    #!/usr/bin/env bash
    set -euo pipefail
    bare="$(mktemp -d)"
    trap 'rm -rf "$bare"' EXIT
    python3 -m venv "$bare"
    "$bare/bin/pip" install -q -c constraints.txt .
    # what is left there would end up in the next wheel
    rm -rf build
    cd "$bare"
    bin/soupctl --help
