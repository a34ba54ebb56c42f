"""How an attacker computes the container app's ids: `hex(random.getrandbits(64))[2:-1]`, the digits but the last.

An id shows the second of two outputs of the Mersenne Twister in full, and of the first all but four bits. Each number
of its state follows from three earlier ones: of one a single bit counts, and the other two are among those shown in
full.
"""

from collections.abc import Iterator, Sequence

N, M, A = 624, 397, 0x9908B0DF  # Matsumoto and Nishimura, 1998
UPPER, LOWER = 0x80000000, 0x7FFFFFFF
State = dict[int, int]


def next_ids(seen: Sequence[str]) -> Iterator[str]:
    """The ids that follow those *seen*, of which 700 in a row are enough."""
    state, at = _state(seen), 2 * len(seen)
    while True:
        for further in (at, at + 1):
            state[further] = _follows(state[further - N], state[further - N + 1], state[further - N + M])
        yield _id(state, at)
        at += 2


def earlier_ids(seen: Sequence[str]) -> Iterator[str]:
    """The ids before those *seen*, the latest first."""
    state = _state(seen)
    for at in range(N - 1, -1, -1):
        _recall(state, at)
    at = -2
    while True:
        _recall(state, at + 1)
        _recall(state, at)
        yield _id(state, at)
        at -= 2


def _state(seen: Sequence[str]) -> State:
    """The numbers of the state, from the first that is known in full and has all of those after it known, too."""
    state = {2 * number + 1: _untemper(int(text, 16) >> 28) for number, text in enumerate(seen)}
    for at in range(N, 2 * len(seen), 2):
        visible = int(seen[at // 2], 16) & 0xFFFFFFF
        candidates = (_follows(top, state[at - N + 1], state[at - N + M]) for top in (0, UPPER))
        state[at] = next(number for number in candidates if _temper(number) >> 4 == visible)
    return state


def _follows(first: int, second: int, middle: int) -> int:
    mixed = (first & UPPER) | (second & LOWER)
    return middle ^ (mixed >> 1) ^ (A if mixed & 1 else 0)


def _recall(state: State, at: int) -> None:
    """Add the number *at*: its highest bit is in the one that followed from it, the others in the one before that."""
    state[at] = (_mixed(state, at) & UPPER) | (_mixed(state, at - 1) & LOWER)


def _mixed(state: State, at: int) -> int:
    shifted = state[at + N] ^ state[at + M]
    return (shifted ^ A) << 1 & 0xFFFFFFFF | 1 if shifted & UPPER else shifted << 1


def _id(state: State, at: int) -> str:
    return hex(_temper(state[at + 1]) << 32 | _temper(state[at]))[2:-1]


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
