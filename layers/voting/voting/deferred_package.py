"""Imports of parts of a package whose `__init__` is dear: it runs only when something of it is asked for.

`import redis.exceptions` runs redis/__init__.py first, which imports the asynchronous client, and asyncio with it: half
of a cold start of a function that needs no more than the exceptions.
"""

import importlib.util
import sys
import threading
from typing import Any


def defer(name: str) -> None:
    """Let the package *name* run its `__init__` at the first use of one of its names; later imports see no difference.

    Its modules can be imported before that. Does nothing if the package is imported already, or not installed.
    """
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        return
    loader = spec.loader
    package = importlib.util.module_from_spec(spec)
    lock = threading.RLock()  # a second thread waits; the `__init__` itself may ask for names that are not there yet
    is_run = False

    def attribute(wanted: str) -> Any:
        nonlocal is_run
        if wanted in {"__path__", "__wrapped__"}:
            raise AttributeError(wanted)
        with lock:
            if not is_run:
                is_run = True
                try:
                    loader.exec_module(package)
                except BaseException:
                    is_run = False
                    raise
        try:
            return vars(package)[wanted]
        except KeyError:
            raise AttributeError(f"module {name!r} has no attribute {wanted!r}") from None

    vars(package)["__getattr__"] = attribute  # PEP 562: asked for what is not in the module
    sys.modules[name] = package
