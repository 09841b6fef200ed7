"""A child process that answers requests, one JSON object to a line; and its parent's side.

Only the standard library: the peer's interpreter has another set of packages.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Child", "environment", "serve"]

TOOLS = Path(__file__).resolve().parent.parent


def environment(checkout: Path | None = None) -> dict[str, str]:
    """The environment of a child: this checkout first, libraries quiet, no GPU for JAX.

    checkout: where keras2gp is taken from instead
    """
    paths = [str(TOOLS), str(checkout or TOOLS.parent)]
    if os.environ.get("PYTHONPATH"):
        paths.append(os.environ["PYTHONPATH"])
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"}
    return {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(paths)}


def serve(actions: Mapping[str, Callable[..., Any]]) -> None:
    """Answer {"do": action, **arguments} on stdin until it closes.

    What the libraries print goes to stderr; stdout is for answers.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        answer = actions[request.pop("do")](**request)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Child:
    """A process that runs a module's `serve`. A context manager: leaving it ends the process."""

    def __init__(self, module: str, python: str = sys.executable, *arguments: str) -> None:
        self.module = module
        self.process = subprocess.Popen(
            [python, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
        )

    def ask(self, do: str, **arguments: Any) -> Any:
        """The child's answer. Raises: RuntimeError if it died; its traceback is on stderr."""
        requests, answers = self.process.stdin, self.process.stdout
        if requests is None or answers is None:
            raise RuntimeError(f"{self.module} has no pipes")
        try:
            requests.write(json.dumps({"do": do, **arguments}) + "\n")
            requests.flush()
        except BrokenPipeError:
            pass  # the empty answer below says it
        line = answers.readline()
        if not line:
            raise RuntimeError(f"{self.module} ended while it was asked to {do} {arguments}")
        return json.loads(line)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
