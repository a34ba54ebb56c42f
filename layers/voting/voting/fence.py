"""The newest run of the worker wins: each run holds a token, and both stores refuse all but the greatest."""


class Superseded(Exception):
    """A newer run holds a greater token. This one must stop and change nothing more."""


class HandedOutAnew(Exception):
    """What was to be acknowledged has been handed out again since. It is to be claimed anew; nothing was changed."""


class HandedBack(Exception):
    """An operator gave the draining to another worker. Nothing is handed out until it is taken over again."""
