"""Streams that say whether they are a terminal."""

import io

__all__ = ["Stream"]


class Stream(io.StringIO):
    """Text that is kept, of a terminal or of a pipe."""

    def __init__(self, terminal=True):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal
