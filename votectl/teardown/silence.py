"""Bears with AWS when it is busy, or the network away, in the middle of a watch of an hour."""

import time
from collections.abc import Callable
from typing import TypeVar

from votectl.aws_account import Unanswered, may_pass

T = TypeVar("T")
MOST_SILENT_LOOKS = 60  # in a row


def persistently(look: Callable[[], T], every_s: float) -> T:
    """Return what *look* returns; look again *every_s* while AWS gives no answer that would be the same next time.

    Raises:
        Unanswered: for many times in a row, or for a reason that does not pass.
    """
    for _ in range(MOST_SILENT_LOOKS - 1):
        try:
            return look()
        except Unanswered as error:
            if not may_pass(error):
                raise
        time.sleep(every_s)
    return look()
