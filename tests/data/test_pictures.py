"""Folders of images: labels, order, and files that are none."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from keras2gp.data.datasets import load
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


def test_names_are_told_on_one_line(tmp_path):
    write(tmp_path, a=2)
    (tmp_path / "a" / "1.png").write_bytes(b"")
    (tmp_path / "a" / "1.png").rename(tmp_path / "a" / "1\nERROR\x1b[31m.png")
    with pytest.raises(DataError, match=r"1\\nERROR\\x1b\[31m\.png cannot be read"):
        load(str(tmp_path))


def test_sizes_are_compared_before_memory_is_taken(tmp_path, monkeypatch):
    write(tmp_path, a=2)
    monkeypatch.setattr("keras2gp._util.memory.available_memory", lambda: 30)
    with pytest.raises(DataError, match="2 images of 5 x 4 pixels needs 40 bytes"):
        load(str(tmp_path))


def test_images_without_classes(tmp_path):
    write(tmp_path, a=2)
    with pytest.raises(DataError, match="in no folders of classes"):
        load(str(tmp_path / "a"))
    assert read_images(tmp_path / "a").shape == (2, 4, 5, 1)
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
