"""How many frames connections have sent lately, over all execution environments."""

from redis import Redis

from voting.queue.full_memory import TOUCH_HASH

WINDOW_S = 20.0
FRAMES = "{votes}:frames"

# KEYS[1] frames
# ARGV[1] connection id   ARGV[2] how many frames more   ARGV[3] now, in ms   ARGV[4] ms that a window lasts
# Returns how many frames the connection has sent within this window. With the first one of a new window, the old one
# is forgotten, so that the hash stays small. Clocks of environments that differ a little begin no window twice.
COUNT = (
    TOUCH_HASH
    + """
local age = tonumber(ARGV[3]) - tonumber(redis.call('HGET', KEYS[1], 'since') or '0')
if math.abs(age) >= tonumber(ARGV[4]) then
    redis.call('DEL', KEYS[1])
    redis.call('HSET', KEYS[1], 'since', ARGV[3])
end
local count = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0') + tonumber(ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], count)
return count
"""
)


class FrameCounts:
    """One hash of the connections that have sent more than a few frames within the window that goes on."""

    def __init__(self, redis: Redis) -> None:
        self._count = redis.register_script(COUNT)

    def add(self, connection_id: str, more: int, now: float) -> int:
        """Count *more* frames of *connection_id* at *now*, in seconds since the epoch; return how many it has sent."""
        return int(self._count(keys=[FRAMES], args=[connection_id, more, round(now * 1000), round(WINDOW_S * 1000)]))
