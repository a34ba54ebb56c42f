"""Random waits between retries, so that clients that failed together do not come back together."""

import random
from collections.abc import Callable


def full_jitter_s(
    attempts: int,
    first_s: float,
    longest_s: float,
    uniform: Callable[[float, float], float] = random.uniform,
) -> float:
    """Draw the seconds to wait after *attempts* earlier retries, between 0 and a bound that doubles with each.

    The bound begins at *first_s* and never exceeds *longest_s*. *uniform* draws a number between its two arguments.
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return uniform(0, min(longest_s, first_s * 2 ** min(attempts, 10)))  # a larger exponent would overflow a float
