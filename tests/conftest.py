"""What every test runs under."""

import os

from hypothesis import settings

# a test that fails once in a while proves nothing; the search for new examples is a run by hand
# with HYPOTHESIS_PROFILE=default
settings.register_profile("ci", derandomize=True, deadline=None)
settings.load_profile("ci")


def pytest_configure(config):
    # triton reads it once, when a kernel is defined: a run of `pytest -m gpu` compiles kernels, any
    # other interprets them
    if config.option.markexpr != "gpu":
        os.environ["TRITON_INTERPRET"] = "1"
