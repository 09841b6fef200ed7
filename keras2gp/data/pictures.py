"""Folders of images, one folder for each class, decoded by Pillow.

The files are of unknown origin: only formats that Pillow decodes itself are opened, the sizes that
the headers state are added up before memory is allocated, and a file that is damaged is refused by
its name.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from keras2gp._util.arrays import Array, Images, Vector
from keras2gp._util.memory import require_memory
from keras2gp._util.text import received_text
from keras2gp.errors import DataError, one_line

__all__ = ["holds_class_folders", "holds_images", "read_image_folder", "read_images"]

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp")
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "WEBP")
_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB", "CMYK": "RGB", "LA": "L"}
"""Modes of Pillow whose pixels are 8-bit numbers, and the mode that they are read in."""
_FROM_COPY = "Try: another copy of the file, or move it away"
_CHANNELS = {"L": 1, "RGB": 3}
_SPLITS = ("train", "test")


def holds_images(folder: Path) -> bool:
    """Whether image files lie in a folder itself."""
    return any(True for _ in _image_files(folder))


def holds_class_folders(folder: Path) -> bool:
    """Whether a folder holds folders of images, or folders train and test that do."""
    roots = (folder, *(folder / name for name in _SPLITS))
    return any(holds_images(child) for root in roots for child in _folders(root))


def read_images(folder: Path) -> Images:
    """The images that lie in a folder itself, in the order of their names.

    Raises:
        DataError: as `read_image_folder`.
    """
    return _decoded(sorted(_image_files(folder)))


def read_image_folder(folder: Path) -> tuple[dict[str, Array], list[str]]:
    """Read images with the names of their folders as labels.

    Rows are dealt from the classes in turn: the first of each class, then the second of each.
    Labels are whole numbers where all names of folders are, and text otherwise.

    Args:
        folder: it holds a folder for each class; or folders train and, if there is one, test, each
            with a folder for each class.

    Returns:
        x_train and y_train, and x_test and y_test if there is a test folder; and notes.

    Raises:
        DataError: Pillow is not installed; images differ in size; a file is damaged, holds several
            images or other pixels than 8-bit ones; images lie outside the folders of classes.
    """
    splits = {name: folder / name for name in _SPLITS if any(_folders(folder / name))}
    if "train" not in splits:
        splits = {"train": folder}
    arrays: dict[str, Array] = {}
    notes = []
    for name, root in splits.items():
        loose = sorted(_image_files(root))
        if loose:
            raise DataError(
                f"{_path_text(root)}: {one_line(loose[0].name)} and {len(loose) - 1} more images "
                "lie outside the folders of the classes. Try: move them into the folder of their "
                "class, or away"
            )
        files, labels = _dealt(root)
        arrays[f"x_{name}"], arrays[f"y_{name}"] = _decoded(files), labels
        notes.append(f"{len(files)} images of {len(set(labels.tolist()))} classes from {root}")
        notes += _unread(root)
    return arrays, notes


def _unread(root: Path) -> list[str]:
    """Notes on what lies in the folders of the classes and is not read; hidden files are not."""
    notes, others = [], []
    for folder in sorted(_folders(root)):
        read = set(_image_files(folder))
        others += sorted(p for p in folder.iterdir() if p not in read and p.name[0] != ".")
        if not read:
            notes.append(f"{_path_text(folder)} holds no images: it is no class")
    if others:
        kinds = ", ".join(_SUFFIXES)
        notes.append(
            f"{len(others)} files or folders are not read, the first {_path_text(others[0])}: "
            f"images are files {kinds} in the folder of their class"
        )
    return notes


def _path_text(path: Path) -> str:
    """A path as a message shows it, on one line whatever its name holds."""
    return one_line(str(path))


def _dealt(root: Path) -> tuple[list[Path], Vector]:
    """The files of all classes, dealt in turn, and their labels."""
    classes = {folder.name: sorted(_image_files(folder)) for folder in sorted(_folders(root))}
    classes = {name: files for name, files in classes.items() if files}
    turns = zip_longest(*[[(file, name) for file in files] for name, files in classes.items()])
    rows = [pair for turn in turns for pair in turn if pair is not None]
    labels = [name for _, name in rows]
    plain = all(name.isascii() and name.isdigit() and len(name) < 10 for name in classes)
    if plain and len({int(name) for name in classes}) == len(classes):
        return [file for file, _ in rows], np.array([int(name) for name in labels])
    return [file for file, _ in rows], np.array(labels)


def _folders(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _image_files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        for path in folder.iterdir():
            if (
                path.suffix.lower() in _SUFFIXES
                and not path.name.startswith(".")
                and path.is_file()
            ):
                yield path


def _decoded(files: Sequence[Path]) -> Images:
    """The pixels of files of one size, uint8, [N, height, width, channels]."""
    library = _pillow()
    headers = [_header(library, file) for file in files]
    for file, (size, _) in zip(files, headers, strict=True):
        if size != headers[0][0]:
            raise DataError(
                f"{_path_text(file)} has {size[0]} x {size[1]} pixels, and "
                f"{one_line(files[0].name)} has "
                f"{headers[0][0][0]} x {headers[0][0][1]}. Try: bring them to one size first, for "
                "instance with Image.resize of Pillow"
            )
    mode = "L" if all(of_file == "L" for _, of_file in headers) else "RGB"
    (width, height), channels = headers[0][0], _CHANNELS[mode]
    require_memory(
        len(files) * width * height * channels,
        f"{len(files)} images of {width} x {height} pixels",
        "fewer or smaller images",
        DataError,
    )
    images = np.empty((len(files), height, width, channels), np.uint8)
    for i, file in enumerate(files):
        with _damage_named(file), library.open(file, formats=_FORMATS) as image:
            pixels = np.asarray(image.convert(mode))
        images[i] = pixels.reshape(height, width, channels)
    return images


def _header(library: Any, file: Path) -> tuple[tuple[int, int], str]:
    """Size of an image, and the mode in which it is read; nothing is decoded."""
    with _damage_named(file), library.open(file, formats=_FORMATS) as image:
        size, mode, frames = image.size, image.mode, getattr(image, "n_frames", 1)
    if frames != 1:
        raise DataError(
            f"{_path_text(file)} holds {frames} images, and one is expected. Try: a file for each"
        )
    if mode not in _MODES:
        raise DataError(
            f"{_path_text(file)} holds pixels of the mode {one_line(mode)}, and 8-bit ones are "
            "expected. Try: save it as 8-bit grey or RGB; or all images as numbers in an .npz file"
        )
    return size, _MODES[mode]


@contextmanager
def _damage_named(file: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into a DataError that names the file."""
    try:
        with warnings.catch_warnings():
            # Pillow's word on large images: their sizes are compared with the memory here.
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # decoders raise anything
        reason = received_text(getattr(error, "strerror", None) or error, 200)
        if type(error).__name__ == "UnidentifiedImageError":  # its message is the path
            kinds = ", ".join(_FORMATS)
            reason = "it is empty" if not file.stat().st_size else f"it is none of {kinds}"
        where = _path_text(file)
        raise DataError(f"{where} cannot be read as an image: {reason}. {_FROM_COPY}") from error


def _pillow() -> Any:
    try:
        from PIL import Image  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise DataError(
            f"images are decoded by Pillow, which does not start ({error}). Try: python -m pip "
            'install "keras2gp[images]"'
        ) from error
    return Image
