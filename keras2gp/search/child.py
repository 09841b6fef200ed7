"""The process in which trials run: it answers the messages of a `Worker` through pipes.

A message is its length, 8 bytes, and a pickle. The first message holds the `Attempts`; each later
one the arguments of its `run`. An answer is a kind, a value, and the resident memory of this
process in bytes, None where the system does not tell it.
"""

from __future__ import annotations

import gc
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import traceback
from typing import Any, BinaryIO, Literal

from keras2gp._util.memory import resident_memory
from keras2gp._util.program_cache import VARIABLE
from keras2gp._util.starting import import_tensorflow

__all__ = ["Answer", "main", "receive", "send"]

Answer = tuple[Literal["done", "unread", "failed"], Any, int | None]

_LENGTH = struct.Struct("<Q")


def send(stream: BinaryIO, message: bytes) -> None:
    """Write one message."""
    stream.write(_LENGTH.pack(len(message)))
    stream.write(message)
    stream.flush()


def receive(stream: BinaryIO) -> bytes:
    """Read one message. Raises: EOFError if the other side is gone."""
    head = stream.read(_LENGTH.size)
    message = stream.read(*_LENGTH.unpack(head)) if len(head) == _LENGTH.size else b""
    if not message:
        raise EOFError
    return message


def main() -> None:
    """Answer until the process that started this one is gone."""
    # An interrupt reaches all processes of a terminal: the one that asks decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # text that a user's code prints is no answer
    messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(messages,), daemon=True).start()
    os.environ[VARIABLE] = "off"  # each trial is another network, whose program none asks for again
    import_tensorflow()
    try:
        run = pickle.loads(messages.get()).run  # noqa: S301 (of the process that started this one)
    except Exception as error:  # noqa: BLE001 (whatever importing a user's module raises)
        send(answers, pickle.dumps(("unread", f"{type(error).__name__}: {error}", None)))
        return
    send(answers, pickle.dumps(("done", None, resident_memory())))
    while True:
        arguments = pickle.loads(messages.get())  # noqa: S301 (as above)
        try:
            answer: Answer = ("done", run(*arguments), None)
        except Exception as error:  # noqa: BLE001 (raised again where it was asked for)
            answer = ("failed", _sendable(error), None)
        gc.collect()
        send(answers, pickle.dumps((*answer[:2], resident_memory())))


def _read(messages: queue.SimpleQueue[bytes]) -> None:
    """Hand messages on; end this process when its parent is gone, in the midst of a trial too."""
    try:
        while True:
            messages.put(receive(sys.stdin.buffer))
    finally:
        os._exit(0)


def _sendable(error: Exception) -> Exception:
    """The error with its traceback as a note; a RuntimeError of its text if it has no pickle."""
    where = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 (made here)
    except Exception:  # noqa: BLE001 (whatever a foreign class raises)
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"In the process of the trials:\n{where}")
    return error
