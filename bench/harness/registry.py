"""The benchmarks, by name and in the order in which a full run takes them."""

from importlib import import_module
from importlib.util import find_spec

from bench.harness.measurement import Benchmark

NAMES = ("drain", "results", "broadcast", "cold", "handler", "screen", "local", "subscribers", "sizes", "fanout")


def names() -> list[str]:
    """The names that ONLY= takes."""
    return [name for name in NAMES if find_spec(f"bench.benchmarks.{name}") is not None]


def load(name: str) -> Benchmark:
    """Import one benchmark, so that its imports do not burden the others."""
    benchmark = import_module(f"bench.benchmarks.{name}").BENCHMARK
    assert isinstance(benchmark, Benchmark)
    return benchmark
