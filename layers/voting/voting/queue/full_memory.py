"""How a script runs while the memory of Redis is full: the drain must free memory, and results must be published.

With `noeviction`, Redis refuses a script's commands that may take memory, but only before the first write of the
script, even if that write changes nothing. Redis 6.2: `lua_write_dirty` in src/scripting.c, luaRedisGenericCommand;
from 7.0 on, and Valkey: SCRIPT_WRITE_DIRTY in src/script.c, scriptVerifyOOM. So these scripts begin with such a write.
It is neither replicated nor appended to a file, and takes less than a microsecond.
"""

# Remove a member that is never there. The queue's own scripts hold this line in their files; for a list it is an LTRIM
# that keeps everything.
TOUCH_HASH = "redis.call('HDEL', KEYS[1], '')\n"
TOUCH_SORTED_SET = "redis.call('ZREM', KEYS[1], '')\n"
