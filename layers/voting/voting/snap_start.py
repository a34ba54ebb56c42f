"""SnapStart: one environment is initialized, stored, and restored any number of times. None may share what was drawn.

Voter ids, tokens and keys of TLS come from the kernel, which Lambda gives new entropy at each restore.
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-uniqueness.html
"""

import importlib
import os
from collections.abc import Callable

from voting.observability import sampler

# What most first responses do without: in a snapshot it costs nothing, and the others are faster with it.
MODULES = ("html", "http", "ssl", "voting.logs", "voting.reason")


def prepare(drop: Callable[[], None], *modules: str) -> None:
    """Arrange that a snapshot of this environment holds *modules*, and none of the connections that *drop* closes.

    Does nothing where the environment is not for a snapshot.
    """
    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start":
        return
    # Part of Lambda's runtime, which calls what is registered.
    from snapshot_restore_py import (  # type: ignore[import-untyped] # noqa: PLC0415 - Amazon ships it without types
        register_after_restore,
        register_before_snapshot,
    )

    register_before_snapshot(_store, drop, (*MODULES, *modules))
    register_after_restore(_restore)


def _store(drop: Callable[[], None], modules: tuple[str, ...]) -> None:
    for module in modules:
        importlib.import_module(module)
    drop()


def _restore() -> None:
    import random  # noqa: PLC0415 - only here and between retries

    random.seed()  # else all environments would wait alike between their retries
    sampler.forget()  # its monotonic clock may have jumped
