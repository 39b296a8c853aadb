"""Pictures of every kind come out upright and in RGB; what is no picture is refused by name."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from hw2_utils import pictures
from hw2_utils.errors import InputError


def pixels(path: Path) -> np.ndarray:
    image = pictures.open_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_rotation_is_turned_upright(tmp_path, orientation):
    stored = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), TURNS[orientation](stored))


@pytest.mark.parametrize("name, dtype", [("a.png", "<u2"), ("a.tif", "<u2"), ("b.tif", ">u2")])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, name, dtype):
    values = np.linspace(0, 65535, 640).round().astype(np.uint16).reshape(20, 32)
    mode = {"<u2": "I;16", ">u2": "I;16B"}[dtype]
    Image.frombytes(mode, (32, 20), values.astype(dtype).tobytes()).save(tmp_path / name)
    expected = np.floor(values / 257 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(
        pixels(tmp_path / name), np.repeat(expected[:, :, None], 3, axis=2)
    )


def test_16_bit_colour_keeps_its_range(tmp_path):
    row = b"\0" + struct.pack(">6H", 65535, 32768, 0, 257, 65535, 511)  # two 16-bit RGB pixels
    (tmp_path / "a.png").write_bytes(png(2, 1, row, depth=16, colour=2))
    difference = pixels(tmp_path / "a.png").astype(int) - [[[255, 128, 0], [1, 255, 2]]]
    assert np.abs(difference).max() <= 1


def test_transparency_lies_over_white(tmp_path):
    rgba = np.array([[[255, 0, 0, 0], [255, 0, 0, 255], [255, 0, 0, 128]]], np.uint8)
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    expected = [[[255, 255, 255], [255, 0, 0], [255, 127, 127]]]
    np.testing.assert_allclose(pixels(tmp_path / "rgba.png"), expected, atol=1)
    Image.fromarray(np.array([[[0, 0], [40, 255]]], np.uint8)).save(tmp_path / "la.png")
    np.testing.assert_array_equal(pixels(tmp_path / "la.png"), [[[255] * 3, [40] * 3]])
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(pixels(tmp_path / "p.png"), [[[10, 20, 30], [40, 50, 60]]])
    palette.save(tmp_path / "p.gif", transparency=0)
    np.testing.assert_array_equal(pixels(tmp_path / "p.gif"), [[[255] * 3, [40, 50, 60]]])


@pytest.mark.parametrize(
    "mode, value, expected",
    [
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_other_colour_spaces_and_one_pixel(tmp_path, mode, value, expected):
    for name, tolerance in (("a.tif", 0), ("a.jpg", 4)):
        Image.new(mode, (1, 1), value).save(tmp_path / name)
        np.testing.assert_allclose(pixels(tmp_path / name), [[expected]], atol=tolerance)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert (pixels(tmp_path / f"a.{suffix}") == [255, 0, 0]).all()


def png(width: int, height: int, rows: bytes, *, depth: int = 1, colour: int = 0) -> bytes:
    """A PNG file made by hand: `rows` are the raw scan lines, each with its filter byte."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "side", [7_072, 9_600, 16_000]
)  # over our limit, Pillow's warning, Pillow's error
def test_bomb_is_refused_before_a_pixel_is_decoded(tmp_path, monkeypatch, side):
    bomb = tmp_path / "image1.png"
    bomb.write_bytes(png(side, side, bytes((1 + (side + 7) // 8) * side)))
    assert bomb.stat().st_size < 60_000
    loaded, load = [], ImageFile.ImageFile.load
    monkeypatch.setattr(
        ImageFile.ImageFile, "load", lambda self: loaded.append(self.size) or load(self)
    )
    with pytest.raises(InputError, match=r"image1\.png.*(too large|could be decompression bomb)"):
        pictures.open_image(bomb)
    assert loaded == []
    Image.new("RGB", (5, 4)).save(tmp_path / "small.png")
    pictures.open_image(tmp_path / "small.png", max_pixels=20)
    assert loaded  # the witness sees what is decoded
    with pytest.raises(InputError, match="5 x 4 pixels are too large, limit 19"):
        pictures.open_image(tmp_path / "small.png", max_pixels=19)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about damaged metadata
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.bmp", "a.tif"])
def test_cut_files_are_refused_by_name(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / name
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    assert pixels(path).shape == (64, 64, 3)
    for share in (0, 0.01, 0.3, 0.6, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match=name.replace(".", r"\.") + ".*not a usable picture"):
            pictures.open_image(path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=150, deadline=None)
@given(data=st.data(), suffix=st.sampled_from(["jpg", "png", "gif", "webp", "bmp", "tif"]))
def test_a_damaged_file_gives_a_picture_or_one_message(data, suffix):
    file = io.BytesIO()
    Image.new("RGB", (6, 5), "teal").save(file, {"jpg": "jpeg", "tif": "tiff"}.get(suffix, suffix))
    content = bytearray(file.getvalue())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"a.{suffix}"
        path.write_bytes(content)
        try:
            assert pictures.open_image(path, max_pixels=10_000).mode == "RGB"
        except InputError as error:
            assert str(path) in str(error)


def test_what_is_no_picture_is_refused(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.ppm")  # not on the list, whatever its name
    (tmp_path / "b.png").write_bytes((tmp_path / "a.ppm").read_bytes())
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "c.tif")
    (tmp_path / "d.jpg").write_text("<script>")
    (tmp_path / "e.jpg").mkdir()
    os.mkfifo(tmp_path / "f.jpg")
    for name in ("a.ppm", "b.png", "c.tif", "d.jpg", "e.jpg", "f.jpg", "absent.jpg"):
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            pictures.open_image(tmp_path / name)
