"""For children of the tests that are to be interrupted."""

import signal

__all__ = ["hear_interrupts"]


def hear_interrupts():
    """A test run in the background of a shell inherits that SIGINT is ignored; a child does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
