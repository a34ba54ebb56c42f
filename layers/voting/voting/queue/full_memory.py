"""How a script passes while Redis' memory is full: the drain frees memory, and the results are announced even then.

With `noeviction`, Redis refuses a script the commands that may take memory, but no longer after the script's first
write, even if that write changed nothing. Redis 6.2: `lua_write_dirty` in src/scripting.c, luaRedisGenericCommand;
from 7.0 on, and Valkey: SCRIPT_WRITE_DIRTY in src/script.c, scriptVerifyOOM. So these scripts begin with such a write.
It is neither replicated nor appended to a file, and costs less than a microsecond.
"""

# A hash and a sorted set lose a member that they never have. In the scripts of the queue the line stands in the file;
# for a list it is an LTRIM that keeps all.
TOUCH_HASH = "redis.call('HDEL', KEYS[1], '')\n"
TOUCH_SORTED_SET = "redis.call('ZREM', KEYS[1], '')\n"
