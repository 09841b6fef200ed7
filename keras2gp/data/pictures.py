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

from keras2gp._util.arrays import Array, Images
from keras2gp._util.memory import require_memory
from keras2gp._util.paths import suffix_of
from keras2gp._util.text import received_text
from keras2gp.data.tables import has_leading_zeros
from keras2gp.errors import DataError, one_line

__all__ = ["holds_class_folders", "holds_images", "read_image_folder", "read_images"]

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp")
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "WEBP")
_MODES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGB", "CMYK": "RGB", "LA": "L"}
"""Modes of Pillow whose pixels are 8-bit numbers, and the mode that they are read in."""
_FROM_COPY = "Try: another copy of the file, or move it away"
_CHANNELS = {"L": 1, "RGB": 3}
_SPLITS = ("train", "test")
_WHITE = 255
_ORIENTATION = 0x0112
"""The EXIF tag of the orientation."""
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""By orientation, how Pillow turns the pixels of a file to the image that is shown."""
_SIDEWAYS = (5, 6, 7, 8)
_TURNED = "are turned as their EXIF orientation says"
_TRANSPARENT = "are transparent in places, which have the colour that is stored there"
_FOUR_COLOURS = "in CMYK are converted to RGB, without a colour profile"


def holds_images(folder: Path) -> bool:
    """Whether image files lie in a folder itself."""
    return any(True for _ in _image_files(folder))


def holds_class_folders(folder: Path) -> bool:
    """Whether a folder holds folders of images, or folders train and test that do."""
    roots = (folder, *(folder / name for name in _SPLITS))
    return any(holds_images(child) for root in roots for child in _folders(root))


def read_images(folder: Path) -> tuple[Images, list[str]]:
    """The images that lie in a folder itself, in the order of their names; and notes.

    Raises:
        DataError: as `read_image_folder`.
    """
    images, notes = _decoded(sorted(_image_files(folder)))
    return images, [*notes, *_others_told(_others(folder))]


def read_image_folder(folder: Path) -> tuple[dict[str, Array], list[str]]:
    """Read images with the names of their folders as labels.

    Rows are dealt from the classes in turn: the first of each class, then the second of each.
    Labels are whole numbers where all names of folders are, without leading zeros, and text
    otherwise.

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
    names: dict[str, list[str]] = {}
    notes = []
    for name, root in splits.items():
        loose = sorted(_image_files(root))
        if loose:
            raise DataError(
                f"{_path_text(root)}: {one_line(loose[0].name)} and {len(loose) - 1} more images "
                "lie outside the folders of the classes. Try: move them into the folder of their "
                "class, or away"
            )
        files, names[name] = _dealt(root)
        arrays[f"x_{name}"], told = _decoded(files)
        notes.append(f"{len(files)} images of {len(set(names[name]))} classes from {root}")
        notes += [*told, *_unread(root)]
    whole = all(_is_whole(text) for labels in names.values() for text in set(labels))
    for name, labels in names.items():
        arrays[f"y_{name}"] = np.array([int(text) for text in labels] if whole else labels)
    return arrays, notes


def _is_whole(name: str) -> bool:
    """Whether the name of a class is a whole number."""
    return name.isascii() and name.isdigit() and len(name) < 10 and not has_leading_zeros(name)


def _unread(root: Path) -> list[str]:
    """Notes on what lies in the folders of the classes and is not read; hidden files are not."""
    notes, others = [], []
    for folder in sorted(_folders(root)):
        others += _others(folder)
        if not holds_images(folder):
            notes.append(f"{_path_text(folder)} holds no images: it is no class")
    return notes + _others_told(others)


def _others(folder: Path) -> list[Path]:
    """The files and folders of a folder of images that are no images; hidden ones are left out."""
    read = set(_image_files(folder))
    return sorted(p for p in folder.iterdir() if p not in read and p.name[0] != ".")


def _others_told(others: Sequence[Path]) -> list[str]:
    """A note on files that are not read, if there are any."""
    if not others:
        return []
    first, kinds = _path_text(others[0]), ", ".join(_SUFFIXES)
    told = f"{len(others)} files or folders are not read, the first {first}"
    return [f"{told}: images are files {kinds}, in no deeper folder"]


def _path_text(path: Path) -> str:
    """A path as a message shows it, on one line whatever its name holds."""
    return one_line(str(path))


def _dealt(root: Path) -> tuple[list[Path], list[str]]:
    """The files of all classes, dealt in turn, and the names of their classes."""
    classes = {folder.name: sorted(_image_files(folder)) for folder in sorted(_folders(root))}
    classes = {name: files for name, files in classes.items() if files}
    turns = zip_longest(*[[(file, name) for file in files] for name, files in classes.items()])
    rows = [pair for turn in turns for pair in turn if pair is not None]
    return [file for file, _ in rows], [name for _, name in rows]


def _folders(root: Path) -> Iterator[Path]:
    if root.is_dir():
        yield from (p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _image_files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        for path in folder.iterdir():
            if suffix_of(path) in _SUFFIXES and not path.name.startswith(".") and path.is_file():
                yield path


def _decoded(files: Sequence[Path]) -> tuple[Images, list[str]]:
    """The pixels of files of one size, uint8, [N, height, width, channels]; and notes."""
    library = _pillow()
    headers = [_header(library, file) for file in files]
    for file, (size, _) in zip(files, headers, strict=True):
        _check_size(file, size, files[0], headers[0][0])
    mode = "L" if all(of_file == "L" for _, of_file in headers) else "RGB"
    (width, height), channels = headers[0][0], _CHANNELS[mode]
    require_memory(
        len(files) * width * height * channels,
        f"{len(files)} images of {width} x {height} pixels",
        "fewer or smaller images",
        DataError,
    )
    images = np.empty((len(files), height, width, channels), np.uint8)
    told: dict[str, list[Path]] = {}
    for i, file in enumerate(files):
        with _damage_named(file), library.open(file, formats=_FORMATS) as image:
            image.load()
            if image.mode == "CMYK":
                told.setdefault(_FOUR_COLOURS, []).append(file)
            if _is_transparent(image):
                told.setdefault(_TRANSPARENT, []).append(file)
            plain = image.convert(mode)
            turn = _TURNS.get(_orientation(image))
            if turn is not None:
                told.setdefault(_TURNED, []).append(file)
                plain = plain.transpose(library.Transpose[turn])
            pixels = np.asarray(plain)
        # A .png file may state its orientation behind its pixels.
        _check_size(file, plain.size, files[0], headers[0][0])
        images[i] = pixels.reshape(height, width, channels)
    notes = [f"{len(of)} images {how}, the first {_path_text(of[0])}" for how, of in told.items()]
    return images, notes


def _check_size(file: Path, size: tuple[int, int], first: Path, expected: tuple[int, int]) -> None:
    """Refuse an image of another size than the first, with a DataError."""
    if size != expected:
        raise DataError(
            f"{_path_text(file)} has {size[0]} x {size[1]} pixels, and {one_line(first.name)} has "
            f"{expected[0]} x {expected[1]}. Try: bring them to one size first, for instance with "
            "Image.resize of Pillow"
        )


def _header(library: Any, file: Path) -> tuple[tuple[int, int], str]:
    """Size of an image as it is shown, and the mode in which it is read; nothing is decoded."""
    with _damage_named(file), library.open(file, formats=_FORMATS) as image:
        (width, height), mode = image.size, image.mode
        frames = getattr(image, "n_frames", 1)
        deep = any(_is_deep(tile[3]) for tile in getattr(image, "tile", ()))
        # Pillow decodes a .png file to look for what may stand behind its pixels.
        stated = image.format != "PNG" or "exif" in image.info
        sideways = stated and _orientation(image) in _SIDEWAYS
    if frames != 1:
        raise DataError(
            f"{_path_text(file)} holds {frames} images, and one is expected. Try: a file for each"
        )
    if mode not in _MODES or deep:
        kind = "of more than 8 bits" if mode in _MODES else f"of the mode {one_line(mode)}"
        raise DataError(
            f"{_path_text(file)} holds pixels {kind}, and 8-bit ones are expected. Try: save it as "
            "8-bit grey or RGB; or all images as numbers in an .npz file"
        )
    return (height, width) if sideways else (width, height), _MODES[mode]


def _is_deep(arguments: Any) -> bool:
    """Whether a decoder of Pillow, by its arguments, cuts numbers of 16 bits to 8."""
    if isinstance(arguments, str):  # of .png files: the form of the pixels
        return arguments.endswith(";16B")
    form, *others = arguments or ("",)  # of .ppm files: the largest number
    return form in ("L", "RGB") and any(isinstance(n, int) and n > _WHITE for n in others[:1])


def _orientation(image: Any) -> int:
    """The EXIF orientation of an image, 1 where it states none."""
    stated = image.getexif().get(_ORIENTATION, 1)
    return stated if isinstance(stated, int) else 1


def _is_transparent(image: Any) -> bool:
    """Whether a pixel of a decoded image is not opaque."""
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return "A" in image.getbands() and image.getchannel("A").getextrema()[0] < _WHITE


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
