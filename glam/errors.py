"""The failures that users cause or meet in the ordinary course of things, each told in one sentence."""


class GlamError(Exception):
    """An expected failure. ``str(error)`` is one clear sentence; the command line prints it and exits with 1."""


class ImageError(GlamError):
    """An image that cannot be read.

    Attributes:
        source: path of the file, or a word for what it was (``"bytes"``, ``"array"``).
        reason: why, in a few words.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source}: {reason}")
        self.source = source
        self.reason = reason
