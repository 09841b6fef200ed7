"""The peer's own virtual environment: Neural Tangents with the versions that it works with."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarking.serving import environment

__all__ = ["PEER", "peer_python"]

PEER = "0.6.5"
REQUIREMENTS = (
    f"neural-tangents=={PEER}",
    "jax==0.4.25",
    "jaxlib==0.4.25",
    "numpy<2",
    "scipy<1.13",  # later ones lack what this JAX imports
)
PYTHON = (3, 11)


def peer_python(folder: Path) -> str:
    """The interpreter of the peer's environment, which is made if it is not there.

    Raises: RuntimeError if there is no Python 3.11, or if the packages cannot be installed.
    """
    python = folder / "bin" / "python"
    if _works(python):
        return str(python)
    print(f"Installing Neural Tangents {PEER} into {folder}", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for command in (
        [_interpreter(), "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS],
    ):
        done = subprocess.run(command, check=False, stdout=sys.stderr)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed. Try --no-peer")
    if not _works(python):
        raise RuntimeError(f"{folder} does not run Neural Tangents {PEER}. Try another --peer-env")
    return str(python)


def _works(python: Path) -> bool:
    code = (
        "import importlib.metadata as m, sys; import neural_tangents; "
        f"sys.exit(m.version('neural-tangents') != {PEER!r} or m.version('jax') != '0.4.25')"
    )
    if not python.exists():
        return False
    command = [str(python), "-c", code]
    return not subprocess.run(
        command, check=False, capture_output=True, env=environment()
    ).returncode


def _interpreter() -> str:
    if sys.version_info[:2] == PYTHON:
        return sys.executable
    found = shutil.which("python{}.{}".format(*PYTHON))
    if found is None:
        raise RuntimeError("Neural Tangents needs python3.11, which is not found. Try --no-peer")
    return found
