"""Executors by name."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras2gp.errors import InputError
from keras2gp.matrices.executor import Executor
from keras2gp.matrices.mirrored import Mirrored
from keras2gp.matrices.threads import Threads

__all__ = ["executor_of"]


def executor_of(choice: Any) -> Executor:
    """The executor that the user asks for.

    choice: "auto" for all GPUs if there are any, else threads; "threads"; "gpus"; "dask" for a
            Dask cluster on this machine, or the address of a scheduler; a tf.distribute.Strategy;
            or an executor
    Raises: InputError for anything else, for "gpus" where there are none, and for Dask where it is
            not installed.
    """
    if isinstance(choice, tf.distribute.Strategy):
        return Mirrored(choice)
    if isinstance(choice, str):
        if choice == "auto":
            choice = "gpus" if tf.config.list_physical_devices("GPU") else "threads"
        if choice == "threads":
            return Threads()
        if choice == "gpus":
            return Mirrored()
        if choice == "dask" or "://" in choice:
            return _dask(None if choice == "dask" else choice)
    elif hasattr(choice, "run"):
        executor: Executor = choice
        return executor
    raise InputError(
        f"executor={choice!r}: expected 'auto', 'threads', 'gpus', 'dask', the address of a Dask "
        "scheduler such as 'tcp://host:8786', a tf.distribute.Strategy, or an executor"
    )


def _dask(address: str | None) -> Executor:
    try:
        from keras2gp.matrices.dask_workers import DaskWorkers  # noqa: PLC0415 (an extra)
    except ModuleNotFoundError as error:
        raise InputError(
            f"executor={address or 'dask'!r}: {error}. Try pip install 'keras2gp[cluster]'"
        ) from error
    return DaskWorkers(address)
