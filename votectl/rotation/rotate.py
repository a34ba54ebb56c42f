"""What each secret needs: its form checked before anything is done, and what to do when it is in use."""

import argparse
from collections.abc import Callable, Mapping

from votectl.rotation.cookie_keys import CookieKeys, add, drop_old, promote
from votectl.rotation.new_value import Unfit, checked_database_url, checked_key, checked_redis_url, new_key, read_value
from votectl.rotation.stack import NotUpdated, Stack
from votectl.terminal import say

AFTER_REDIS = """Every function has the new RedisUrl. Runs of the worker with the old one end within two minutes.
Then take the old password from its user in Redis: ACL SETUSER USER <OLD-PASSWORD"""
AFTER_DATABASE = """Every function has the new DatabaseUrl. Runs of the worker with the old one end within two minutes.
Then drop the old login in Postgres, or change its password."""
AFTER_KEYS = """The new key signs, the old ones verify. Each voter who comes back gets a cookie with the new one.
When the voters have been back, at the latest after the poll: votectl rotate --stack {stack} cookie-keys --drop-old
A voter who has not been back by then is a new voter."""

Find = Callable[[], Stack]  # connects to AWS, so it is called once the value is known to be fit


def rotate_redis(options: argparse.Namespace, find: Find) -> None:
    """Give the stack a new `RedisUrl`."""
    value = checked_redis_url(read_value("RedisUrl", options.source))
    stack = find()
    if stack.resource("Cache") is not None:
        raise NotUpdated("This stack has a Redis of its own: docs/guides/deploy.md says how its password changes.")
    stack.update({"RedisUrl": value})
    say(AFTER_REDIS)


def rotate_database(options: argparse.Namespace, find: Find) -> None:
    """Give the stack a new `DatabaseUrl`."""
    value = checked_database_url(read_value("DatabaseUrl", options.source))
    stack = find()
    if stack.resource("OperatorLogin") is not None:
        raise NotUpdated("This stack has logins of its own: docs/guides/deploy.md says how their passwords change.")
    stack.update({"DatabaseUrl": value})
    say(AFTER_DATABASE)


def rotate_keys(options: argparse.Namespace, find: Find) -> None:
    """Give the stack a new key of cookies, or do one step of that."""
    is_step = options.promote or options.drop_old
    if is_step and options.source:
        raise Unfit("--from gives a new key, and --promote and --drop-old need none.")
    key = None if is_step else checked_key(read_value("key", options.source) if options.source else new_key())
    stack = find()
    keys = CookieKeys(stack)
    if options.drop_old:
        say(f"{drop_old(keys)} dropped.")
        return
    if key is None:
        promote(keys)
    else:
        add(keys, key)
    say(AFTER_KEYS.format(stack=stack.name))


ROTATIONS: Mapping[str, Callable[[argparse.Namespace, Find], None]] = {
    "redis-url": rotate_redis,
    "database-url": rotate_database,
    "cookie-keys": rotate_keys,
}
