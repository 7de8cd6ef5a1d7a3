"""The one kind of error that is a user's to mend."""


class InputError(ValueError):
    """Something given from outside is wrong: a file, a setting, an argument.

    Its message is one line: what is wrong, where (file, key, line), what was expected.
    ``launch.py`` prints it alone and exits with 2.
    """
