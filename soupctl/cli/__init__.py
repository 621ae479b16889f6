"""The command line: words in, one call, words out."""

from __future__ import annotations

import resource
import sys

if resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
    # Python would leave compiled modules cut off at the limit, and fail to load them ever after
    sys.dont_write_bytecode = True
