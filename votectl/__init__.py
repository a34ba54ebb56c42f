"""`python -m votectl`: the operator's command line."""

import sys
from importlib.util import find_spec
from pathlib import Path

# In a checkout nothing is installed: the layer's package lies beside this one.
if find_spec("voting") is None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "layers" / "voting"))
