"""`python -m votectl`: the operator's command line."""

import sys
from importlib.util import find_spec
from pathlib import Path

# A checkout has no installed packages, so the layer's package is found by its path.
if find_spec("voting") is None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "layers" / "voting"))
