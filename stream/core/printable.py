"""Text of others, as a terminal may show it."""

import re


def printable(text: str) -> str:
    r"""Return a text with what a terminal would obey, or show as nothing, in escapes.

    Those are controls, marks of direction and of joining, lone surrogates and every space but the common one.

    >>> print(printable("user\x1b[2J\u202e-9 é"))
    user\u001b[2J\u202e-9 é
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def printable_lines(text: str) -> str:
    """Do so with each line of a text."""
    return "\n".join(map(printable, text.split("\n")))


def _escape(letter: str) -> str:
    """Return a letter in the escapes of JSON."""
    return re.sub("(....)", r"\\u\1", letter.encode("utf-16-be", "surrogatepass").hex())
