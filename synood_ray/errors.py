"""Errors that are the user's to mend, told apart from defects of ours."""


class UserError(Exception):
    """A wrong setting, file or folder. The message is one line: what is wrong and what to do.

    Jobs print it without a traceback and exit with code 2. Everything else that is raised is a defect
    of ours (or of the machine) and keeps its traceback.
    """
