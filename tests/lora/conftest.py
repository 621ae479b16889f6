"""What the tests of adapters share."""

import sys
from pathlib import Path

# lets these tests import the modules that are beside their folder
sys.path.append(str(Path(__file__).parents[1]))
