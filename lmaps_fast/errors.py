"""Errors that a user can mend."""


class InputError(ValueError):
    """Bad input, told in one sentence that names the fix. The command line prints it and exits with status 2."""
