"""What can go wrong with an experiment, although what a user gave is right."""


class SearchFailed(RuntimeError):
    """An experiment came to no result: every trial failed, or the manager did.

    The message is one line, with the cause.
    """
