"""The one kind of error that a user can mend."""


class InputError(ValueError):
    """Something that the user gave is wrong: a file, a setting, an argument.

    ``launch.py`` prints the message alone and exits with 2.

    Args:
        message: What is wrong, where (file, key, line), and what was expected. It becomes one line: letters that break
            lines or steer a terminal, which a name in a file may hold, are written as escapes.

    Example:
        >>> print(InputError("settings.yml: unknown key 'heads\\\\n'"))
        settings.yml: unknown key 'heads\\n'
    """

    def __init__(self, message: str):
        super().__init__("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message))


def one_line(error: Exception) -> str:
    """Returns the type and the message of an error as one line, of 200 letters at most.

    Example:
        >>> one_line(OSError("no\\nroom"))
        'OSError: no room'
    """
    line = " ".join(f"{type(error).__name__}: {error}".split())
    return line if len(line) <= 200 else f"{line[:197]}..."
