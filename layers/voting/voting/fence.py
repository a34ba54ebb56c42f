"""The fence: each run of the worker holds a token, and both stores refuse all but the greatest."""


class Superseded(Exception):
    """A newer run holds a greater token. This one must stop and change nothing more."""
