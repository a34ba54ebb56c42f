"""Why a run cannot begin."""


class StartError(Exception):
    """The run cannot begin; the message says why and what to do."""
