"""Digests: a JSON file that states the SHA-256 of its content, and SHA-256 of other files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras2gp._util.paths import read_if_regular
from keras2gp._util.version import VERSION
from keras2gp.errors import Keras2GPError, ModelFileError

__all__ = ["check_digest", "digest_of", "file_digest", "with_digest"]

_KEY = "digest"


def digest_of(data: Mapping[str, Any]) -> str:
    """SHA-256 of an object for JSON, without its own digest; the order of keys does not matter."""
    # Keys and tuples become what they are when they are read again.
    plain = json.loads(json.dumps({key: data[key] for key in data if key != _KEY}))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def with_digest(data: Mapping[str, Any]) -> dict[str, Any]:
    """The object with the version of keras2gp and its digest, to be written as JSON."""
    versioned = {"keras2gp": VERSION, **data}
    return {**versioned, _KEY: digest_of(versioned)}


def check_digest(
    data: Mapping[str, Any], where: str, error: type[Keras2GPError] = ModelFileError
) -> None:
    """Refuse an object whose content is not the content that was written.

    keras2gp 0.1 wrote no digests: an object of that version, or of no version, may lack one.

    Args:
        data: the object, as it was read.
        where: the file, for the message.
        error: class of the error.

    Raises:
        Keras2GPError: of the class `error`, if the digest is another one or is missing.
    """
    old = str(data.get("keras2gp", "0.1.")).startswith("0.1.")
    if _KEY not in data and old:
        return
    if data.get(_KEY) != digest_of(data):
        raise error(
            f"{where}: its content is not what keras2gp wrote (its digest differs): it was "
            "changed, or the disk is damaged. Try: an unchanged copy, or write it again"
        )


def file_digest(path: Path) -> str | None:
    """SHA-256 of a regular file; None where there is none."""
    content = read_if_regular(path)
    return None if content is None else f"sha256:{hashlib.sha256(content).hexdigest()}"
