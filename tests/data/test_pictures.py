"""Folders of images: labels, order, and files that are none."""

from __future__ import annotations

import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from keras2gp.data.loading import load
from keras2gp.data.pictures import read_images
from keras2gp.errors import DataError


def pixels(seed=0, shape=(4, 5)):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write(root, **classes):
    seed = 0
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(pixels(seed)).save(root / name / f"{i}.png")
            seed += 1


def test_classes_are_dealt_in_turn(tmp_path):
    write(tmp_path, owl=3, cat=2)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".thumbnails").mkdir()
    data = load(str(tmp_path))
    assert data.y_train.tolist() == ["cat", "owl", "cat", "owl", "owl"]
    assert data.x_train.shape == (5, 4, 5, 1)
    np.testing.assert_array_equal(data.x_train[1, :, :, 0], pixels(0))
    assert data.x_test is None
    counted, unread = data.notes
    assert counted == f"5 images of 2 classes from {tmp_path}"
    assert unread.startswith(f"1 files or folders are not read, the first {tmp_path}/cat/notes.txt")


def test_what_is_not_read_is_told(tmp_path):
    """Formats that are none of these, folders in a class's folder, links that lead nowhere."""
    write(tmp_path, a=1, b=1, **{"a/more": 2})
    assert load(str(tmp_path)).notes[1].startswith("1 files or folders are not read, the first")
    Image.fromarray(pixels()).save(tmp_path / "b" / "2.gif")
    (tmp_path / "b" / "3.png").symlink_to(tmp_path / "b" / "3.png")
    (tmp_path / "c\nd").mkdir()
    data = load(str(tmp_path))
    assert data.x_train.shape[0] == 2
    empty, others = data.notes[1:]
    assert empty == f"{tmp_path}/c\\nd holds no images: it is no class"
    assert others.startswith(f"3 files or folders are not read, the first {tmp_path}/a/more: ")


@pytest.mark.filterwarnings("error")
def test_large_images_are_compared_with_the_memory_alone(tmp_path, monkeypatch):
    """Pillow's own limits are those of a web server: it warns from 89 million pixels on."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15)
    write(tmp_path, a=1)
    assert load(str(tmp_path)).x_train.shape == (1, 4, 5, 1)


def test_train_and_test_and_numbers_as_labels(tmp_path):
    write(tmp_path / "train", **{"0": 1, "10": 1, "2": 1})
    write(tmp_path / "test", **{"2": 2})
    data = load(str(tmp_path))
    assert data.y_train.tolist() == [0, 10, 2]
    assert data.y_test.tolist() == [2, 2]
    assert data.y_train.dtype == np.int64


def test_names_with_leading_zeros_are_texts(tmp_path):
    """They are those of both splits: a test split without them has the labels of the other."""
    write(tmp_path / "train", **{"007": 1, "10": 1})
    write(tmp_path / "test", **{"10": 2})
    data = load(str(tmp_path))
    assert data.y_train.tolist() == ["007", "10"]
    assert data.y_test.tolist() == ["10", "10"]


def test_colours_and_grey_together(tmp_path):
    write(tmp_path, a=1)
    Image.fromarray(pixels(3, (4, 5, 3))).save(tmp_path / "a" / "colour.png")
    Image.fromarray(pixels(3, (4, 5, 4)), "RGBA").save(tmp_path / "a" / "more.png")
    data = load(str(tmp_path))
    assert data.x_train.shape == (3, 4, 5, 3)
    np.testing.assert_array_equal(data.x_train[1], pixels(3, (4, 5, 3)))
    np.testing.assert_array_equal(data.x_train[0], np.repeat(pixels(0)[:, :, None], 3, 2))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.write_bytes(b"MZ" + f.read_bytes()), "cannot be read as an image"),
        (lambda f: f.write_bytes(f.read_bytes()[:60]), "cannot be read as an image"),
        (lambda f: f.write_bytes(b""), r"cannot be read as an image: it is empty\. Try: another"),
        (lambda f: Image.fromarray(pixels(0, (4, 6))).save(f), "6 x 4 pixels, and 0.png has 5 x 4"),
        (lambda f: Image.fromarray(pixels().astype(np.uint16) * 257).save(f), "of the mode I;16"),
        (lambda f: Image.fromarray(pixels()).save(f, "GIF"), "it is none of BMP, JPEG, PNG"),
        (
            lambda f: Image.fromarray(pixels()).save(
                f, save_all=True, append_images=[Image.fromarray(pixels(1))]
            ),
            r"holds 2 images, and one is expected\. Try: a file for each",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, damage, message):
    write(tmp_path, a=2)
    damage(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match=message) as refusal:
        load(str(tmp_path))
    assert "1.png" in str(refusal.value)


SHOWN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a.T[:, ::-1],
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: a.T[::-1],
}
"""By EXIF orientation, the rows and columns as they are shown: of the value 6, for instance, the
first row of the file is the right-hand column."""


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("orientation", SHOWN)
def test_images_are_turned_as_they_are_shown(orientation, suffix, tmp_path):
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "a" / f"x.{suffix}"
    quality = {"png": {}, "jpg": {"quality": 100}, "webp": {"lossless": True}}[suffix]
    blocks = np.kron(pixels(shape=(2, 3)), np.ones((8, 8), "uint8"))
    Image.fromarray(blocks).save(file, exif=exif, **quality)
    data = load(str(tmp_path))
    expected = SHOWN[orientation](blocks)
    assert data.x_train.shape[1:3] == expected.shape
    assert abs(data.x_train[0, :, :, 0] - expected.astype(float)).max() < 4
    told = [note for note in data.notes if "EXIF" in note]
    assert told == ([f"1 images are turned as their EXIF orientation says, the first {file}"]
                    if orientation > 1 else [])  # fmt: skip


def test_transparent_images_and_four_colours_are_told(tmp_path):
    for name in "abcd":
        (tmp_path / name).mkdir()
    colours = pixels(shape=(4, 5, 4))
    colours[..., 3] = 255
    Image.fromarray(colours).save(tmp_path / "a" / "opaque.png")
    colours[1, 2, 3] = 254
    Image.fromarray(colours).save(tmp_path / "b" / "clear.png")
    picture = Image.fromarray(colours[..., 0]).convert("P")
    picture.save(tmp_path / "c" / "palette.png", transparency=picture.getpixel((0, 0)))
    Image.new("CMYK", (5, 4)).save(tmp_path / "d" / "four.jpg")
    data = load(str(tmp_path))
    np.testing.assert_array_equal(data.x_train[0], colours[..., :3])
    assert data.x_train[3].min() == 255  # no ink
    told = {note.partition(", the first ")[0]: note for note in data.notes[1:]}
    assert sorted(told) == [
        "1 images in CMYK are converted to RGB, without a colour profile",
        "2 images are transparent in places, which have the colour that is stored there",
    ]
    assert told[sorted(told)[1]].endswith(f"{tmp_path}/b/clear.png")


def deep_png(kind, channels):
    """A PNG file of 16 bits, which Pillow reads as one of 8, of 5 x 4 pixels."""
    rows = np.full((4, 5 * channels), 0x1234, ">u2")
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 5, 4, 16, kind, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


DEEP = {
    "grey.png": deep_png(0, 1),
    "grey-alpha.png": deep_png(4, 2),
    "rgb.png": deep_png(2, 3),
    "rgba.png": deep_png(6, 4),
    "grey.pgm": b"P5 5 4 1023\n" + bytes(40),
    "rgb.ppm": b"P6 5 4 65535\n" + bytes(120),
    "plain.ppm": b"P3 1 1 300\n1 2 300\n",
}


@pytest.mark.parametrize("name", DEEP)
def test_pixels_of_more_bits_are_refused(name, tmp_path):
    """Pillow cuts most of them to 8 bits, and says nothing."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / name).write_bytes(DEEP[name])
    with pytest.raises(DataError, match=r"holds pixels of .*, and 8-bit ones are expected"):
        load(str(tmp_path))


def test_fewer_grey_levels_are_spread(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.pgm").write_bytes(b"P5 2 1 15\n\x00\x0f")
    assert load(str(tmp_path)).x_train.reshape(-1).tolist() == [0, 255]


def test_names_are_told_on_one_line(tmp_path):
    write(tmp_path, a=2)
    (tmp_path / "a" / "1.png").write_bytes(b"")
    (tmp_path / "a" / "1.png").rename(tmp_path / "a" / "1\nERROR\x1b[31m.png")
    with pytest.raises(DataError, match=r"1\\nERROR\\x1b\[31m\.png cannot be read"):
        load(str(tmp_path))


def test_sizes_are_compared_before_memory_is_taken(tmp_path, monkeypatch):
    write(tmp_path, a=2)
    monkeypatch.setattr("keras2gp._util.memory.NEGLIGIBLE", 0)
    monkeypatch.setattr("keras2gp._util.memory.available_memory", lambda: 30)
    with pytest.raises(DataError, match="2 images of 5 x 4 pixels needs 40 bytes"):
        load(str(tmp_path))


def test_images_without_classes(tmp_path):
    write(tmp_path, a=2)
    with pytest.raises(DataError, match="in no folders of classes"):
        load(str(tmp_path / "a"))
    images, notes = read_images(tmp_path / "a")
    assert images.shape == (2, 4, 5, 1)
    assert not notes
    (tmp_path / "a" / "2.tif").touch()
    assert read_images(tmp_path / "a")[1][0].startswith("1 files or folders are not read")
    Image.fromarray(pixels()).save(tmp_path / "loose.png")
    with pytest.raises(DataError, match=r"loose\.png and 0 more images lie outside"):
        load(str(tmp_path))


def test_without_pillow(tmp_path, monkeypatch):
    write(tmp_path, a=1)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"keras2gp\[images\]"):
        load(str(tmp_path))


def test_npy_files_in_a_folder(tmp_path):
    np.save(tmp_path / "x.npy", pixels(0, (5, 4, 4)))
    with pytest.raises(DataError, match=r"holds x\.npy"):
        load(str(tmp_path))
    np.save(tmp_path / "y.npy", np.arange(5))
    assert load(str(tmp_path)).y_train.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match=r"a folder that holds x\.npy and y\.npy"):
        load(str(tmp_path / "x.npy"))
    np.save(tmp_path / "y.npy", np.array([{}] * 5, dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        load(str(tmp_path))
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-1])
    with pytest.raises(DataError, match="takes 208 bytes, and the file has 207"):
        load(str(tmp_path))


def test_shuffled_rows_keep_their_labels(tmp_path):
    x, y = pixels(0, (50, 2, 2)), np.arange(50)
    np.savez(tmp_path / "d.npz", x=x, y=y)
    data = load(str(tmp_path / "d.npz"))
    other = data.shuffled(1)
    assert sorted(other.y_train.tolist()) == y.tolist() != other.y_train.tolist()
    np.testing.assert_array_equal(other.x_train, x[other.y_train])
    assert other.y_train.tolist() == data.shuffled(1).y_train.tolist()
    assert other.y_train[:3].tolist() == np.random.RandomState(1).permutation(50)[:3].tolist()
    with pytest.raises(DataError, match="shuffle"):
        data.shuffled(-1)
