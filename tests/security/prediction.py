"""How an attacker predicts the container app's ids: `hex(random.getrandbits(64))[2:-1]`, the digits but the last.

An id shows the second of two outputs of the Mersenne Twister in full, and of the first all but four bits. Each number
of its state follows from three earlier ones: of one a single bit counts, and the other two are among those shown in
full.
"""

from collections.abc import Iterator, Sequence

N, M = 624, 397  # Matsumoto and Nishimura, 1998


def next_ids(seen: Sequence[str]) -> Iterator[str]:
    """The ids that follow those *seen*, of which 700 in a row are enough."""
    state: dict[int, int] = {}
    for number, shown in enumerate(int(text, 16) for text in seen):
        state[2 * number + 1] = _untemper(shown >> 28)
    for at in range(N, 2 * len(seen), 2):
        visible = int(seen[at // 2], 16) & 0xFFFFFFF
        candidates = (_follows(top << 31, state[at - N + 1], state[at - N + M]) for top in (0, 1))
        state[at] = next(number for number in candidates if _temper(number) >> 4 == visible)
    at = 2 * len(seen)
    while True:
        for further in (at, at + 1):
            state[further] = _follows(state[further - N], state[further - N + 1], state[further - N + M])
        yield hex(_temper(state[at + 1]) << 32 | _temper(state[at]))[2:-1]
        at += 2


def _follows(first: int, second: int, middle: int) -> int:
    mixed = (first & 0x80000000) | (second & 0x7FFFFFFF)
    return middle ^ (mixed >> 1) ^ (0x9908B0DF if mixed & 1 else 0)


def _temper(number: int) -> int:
    number ^= number >> 11
    number ^= (number << 7) & 0x9D2C5680
    number ^= (number << 15) & 0xEFC60000
    return number ^ (number >> 18)


def _untemper(number: int) -> int:
    number ^= number >> 18
    number ^= (number << 15) & 0xEFC60000
    before = number
    for _ in range(4):
        before = number ^ ((before << 7) & 0x9D2C5680)
    number = before
    for _ in range(2):
        before = number ^ (before >> 11)
    return before
