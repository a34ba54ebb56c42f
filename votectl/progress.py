"""Progress of a long operation: a bar on a terminal, or else a line every few seconds."""

import sys
import time
from typing import TextIO

WIDTH = 30
BAR_EVERY_S = 0.2
LINE_EVERY_S = 5.0


class Progress:
    """Counts steps towards a known total, and shows their rate and the remaining time."""

    def __init__(self, total: int, unit: str, stream: TextIO = sys.stderr) -> None:
        self._total = total
        self._unit = unit
        self._stream = stream
        self._is_bar = stream.isatty()
        self._every_s = BAR_EVERY_S if self._is_bar else LINE_EVERY_S
        self._began = self._shown = time.monotonic()
        self.done = 0

    @property
    def rate(self) -> float:
        """Steps per second so far."""
        return self.done / max(time.monotonic() - self._began, 1e-9)

    def step(self) -> None:
        """Count one step, and show it if the last update is long enough ago."""
        self.done += 1
        if time.monotonic() - self._shown >= self._every_s:
            self._show()

    def end(self) -> None:
        """Show the final state."""
        self._show()
        if self._is_bar:
            print(file=self._stream, flush=True)

    def _show(self) -> None:
        self._shown = time.monotonic()
        share = self.done / self._total if self._total else 1.0
        left_s = (self._total - self.done) / self.rate if self.done else 0.0
        text = f"{share:4.0%}  {self.done:,} of {self._total:,} {self._unit}  {self.rate:,.0f}/s  {left_s:,.0f} s left"
        if self._is_bar:
            bar = "#" * round(share * WIDTH)
            print(f"\r[{bar:.<{WIDTH}}] {text:60}", end="", file=self._stream, flush=True)
        else:
            print(text, file=self._stream, flush=True)
