"""One reader of pictures: every bit of every depth, upright, in this process, within limits; the same for solver and networks.

The files are written here, byte by byte, where Pillow could not write them without the losses that are tested.
"""

import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile
from tiers import pack

from unigrid.files import FileError, read_array
from unigrid.pictures import LUMINANCE, as_bytes, pixels_of, read

COLORS = {"gray": (1, 0), "gray + alpha": (2, 4), "RGB": (3, 2), "RGBA": (4, 6)}  # channels, color type of PNG
PASSES = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]  # Adam7


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def paeth(a, b, c):
    p = a + b - c
    distances = [abs(p - a), abs(p - b), abs(p - c)]
    return [a, b, c][distances.index(min(distances))]


def filtered(rows, width):
    """Filter the rows of a PNG, each row with another one of the five filters."""
    before, filters = bytes(len(rows[0])), itertools.cycle(range(5))
    for row, kind in zip(rows, filters, strict=False):
        left, corner = bytes(width) + row, bytes(width) + before
        guesses = [(0, a, b, (a + b) // 2, paeth(a, b, c))[kind] for a, b, c in zip(left, before, corner, strict=False)]
        yield bytes([kind, *((x - guess) % 256 for x, guess in zip(row, guesses, strict=False))])
        before = row


def write_png(path, pixels, color, interlaced=False, **chunks):
    """Write a PNG of 16 bits per channel."""
    height, width, channels = pixels.shape
    parts = [pixels[y::dy, x::dx] for y, x, dy, dx in PASSES] if interlaced else [pixels]
    rows = [list(map(bytes, part.astype(">u2").reshape(len(part), -1).view(np.uint8))) for part in parts if part.size]
    data = b"".join(b"".join(filtered(part, 2 * channels)) for part in rows)
    head = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, int(interlaced))
    more = b"".join(chunk(name.encode(), content) for name, content in chunks.items())
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    )


def write_tiff(path, pixels, *, order="<", packed=False, bits=None, predicted=False, **tags):
    """Write a TIFF of one strip; `tags` are replaced or added: tag<number>=values."""
    height, width = pixels.shape[:2]
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    bits = bits or 8 * pixels.dtype.itemsize
    stored = pixels.reshape(height, width, channels)
    if predicted:
        stored = np.concatenate([stored[:, :1], stored[:, 1:] - stored[:, :-1]], axis=1)
    content = stored.astype(pixels.dtype.newbyteorder(order)).tobytes()
    content = zlib.compress(content) if packed else content
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    fields = {
        256: [width], 257: [height], 258: [bits] * channels, 259: [8 if packed else 1], 262: [2 if channels > 2 else 1],
        273: [8], 277: [channels], 278: [height], 279: [len(content)], 284: [1], 317: [2 if predicted else 1],
        338: [2] * (channels in (2, 4)), 339: [kind] * channels,
    }  # fmt: skip
    fields |= {int(name.removeprefix("tag")): values for name, values in tags.items()}
    fields = {tag: values for tag, values in sorted(fields.items()) if values}
    start = 8 + len(content)
    at = start + 2 + 12 * len(fields) + 4
    entries, more = b"", b""
    for tag, values in fields.items():
        wide = tag in (273, 279)
        data = struct.pack(f"{order}{len(values)}{'I' if wide else 'H'}", *values)
        if len(data) > 4:
            more, data = more + data, struct.pack(f"{order}I", at + len(more))
        entries += struct.pack(f"{order}HHI", tag, 4 if wide else 3, len(values)) + data.ljust(4, b"\0")
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HI", 42, start) + content + struct.pack(f"{order}H", len(fields))
    path.write_bytes(head + entries + bytes(4) + more)


def refusal(path):
    with pytest.raises(FileError) as error:
        read(path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


def oriented(pixels, orientation):
    """Return pixels as EXIF defines: where row 0 and column 0 of the file lie in the picture."""
    flipped = {1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1]}
    flipped |= {5: pixels, 6: pixels[::-1], 7: pixels[::-1, ::-1], 8: pixels[:, ::-1]}
    return flipped[orientation].swapaxes(0, 1) if orientation > 4 else flipped[orientation]


# Every bit.


@pack
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("color", COLORS)
def test_png_of_16_bits(tmp_path, rng, color, interlaced):
    channels, number = COLORS[color]
    pixels = rng.integers(65536, size=(11, 9, channels), dtype=np.uint16)
    write_png(tmp_path / "p.png", pixels, number, interlaced)
    expected = pixels[:, :, 0] if channels < 3 else pixels[:, :, :3]
    found = read(tmp_path / "p.png")
    assert found.dtype == np.uint16
    assert np.array_equal(found, expected)
    values = expected / 65535
    assert read_array(tmp_path / "p.png") == pytest.approx(values @ LUMINANCE if channels > 2 else values, abs=1e-12)


TIFFS = {
    "uint8": (np.uint8, 1), "uint8 RGB": (np.uint8, 3), "uint16": (np.uint16, 1), "uint16 RGB": (np.uint16, 3),
    "uint16 RGBA": (np.uint16, 4), "uint32": (np.uint32, 1), "float32": (np.float32, 1),
}  # fmt: skip
STORED = {
    "little": {}, "big": {"order": ">"}, "deflated": {"packed": True}, "big deflated": {"order": ">", "packed": True},
    "predicted": {"packed": True, "predicted": True},
}  # fmt: skip


@pack
@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("kind", TIFFS)
def test_tiff(tmp_path, rng, kind, stored):
    dtype, channels = TIFFS[kind]
    if (kind == "uint32" and stored.startswith("big")) or (kind == "float32" and stored == "predicted"):
        return  # the first is none that Pillow reads; the second has another predictor
    shape = (6, 5, channels) if channels > 1 else (6, 5)
    pixels = rng.standard_normal(shape).astype(dtype) if dtype == np.float32 else rng.integers(np.iinfo(dtype).max, size=shape)
    pixels = pixels.astype(dtype)
    write_tiff(tmp_path / "p.tif", pixels, **STORED[stored])
    found = read(tmp_path / "p.tif")
    assert found.dtype == dtype
    assert np.array_equal(found, pixels[..., :3] if channels > 1 else pixels)
    if dtype == np.float32:
        assert np.array_equal(read_array(tmp_path / "p.tif"), pixels)  # a source, as it is


def test_tiff_of_12_bits_reaches_white(tmp_path):
    pixels = np.array([[0, 1, 4094, 4095]] * 2, dtype=np.uint16)
    packed = np.array([0x00, 0x00, 0x01, 0xFF, 0xEF, 0xFF] * 2, dtype=np.uint8).reshape(2, 6)
    write_tiff(tmp_path / "p.tif", packed, bits=12, tag256=[4])
    assert read_array(tmp_path / "p.tif") == pytest.approx(pixels / 4095, abs=1 / 65535)
    assert len(np.unique(read(tmp_path / "p.tif"))) == 4


@pytest.mark.parametrize("largest", [255, 1000, 65535])
def test_portable_graymaps(tmp_path, largest):
    values = np.array([[0, largest // 3, largest]], dtype=">u2" if largest > 255 else np.uint8)
    (tmp_path / "p.pgm").write_bytes(f"P5 3 1 {largest}\n".encode() + values.tobytes())
    assert read_array(tmp_path / "p.pgm") == pytest.approx(values / largest, abs=1 / 65535)


WAYS = {
    "signed 16 bits": ({"pixels": np.full((4, 4), 7, np.int16)}, "whole numbers have a sign"),
    "signed 32 bits": ({"pixels": np.full((4, 4), -7, np.int32)}, "whole numbers have a sign"),
    "16 bits of CMYK": (
        {"pixels": np.full((4, 4, 4), 7, np.uint16), "tag262": [5], "tag338": []}, "16 bits per channel in the layout CMYK",
    ),
    "premultiplied": (
        {"pixels": np.full((4, 4, 4), 7, np.uint16), "tag338": [1]}, "16 bits per channel in the layout RGBa",
    ),
    "planes": ({"pixels": np.full((4, 4, 3), 7, np.uint16), "tag284": [2]}, "channels interleaved"),
    "a plane of floats": ({"pixels": np.ones((4, 4), np.float32), "order": ">", "tag284": [2]}, "channels interleaved"),
    "white is zero": ({"pixels": np.full((4, 4), 7, np.uint16), "tag262": [0]}, "where 0 is white"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_what_would_be_read_with_a_loss_or_otherwise_than_meant_is_refused(tmp_path, way):
    options, text = WAYS[way]
    write_tiff(tmp_path / "p.tif", **options)
    assert text in refusal(tmp_path / "p.tif")


def test_color_of_16_bits_in_a_pixmap_is_refused(tmp_path):
    (tmp_path / "p.ppm").write_bytes(b"P6 1 1 65535\n\1\2\3\4\5\6")
    assert "would lose 8" in refusal(tmp_path / "p.ppm")


def test_several_pages_are_refused(tmp_path):
    pages = [Image.new("L", (4, 4), value) for value in (1, 2, 3)]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    assert "holds 3 pictures" in refusal(tmp_path / "p.tif")


def test_the_picture_of_a_camera_that_saves_several(tmp_path):
    """JPEG files of many telephones hold a second picture, in a format of its own for Pillow."""
    first, second = Image.new("L", (4, 6), 200), Image.new("L", (2, 2), 9)
    first.save(tmp_path / "p.jpg", format="MPO", save_all=True, append_images=[second])
    assert read(tmp_path / "p.jpg").tolist() == [[200] * 4] * 6


# Upright.


@pack
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "png of 16 bits", "tif", "tif of 16 bits", "PIL"])
def test_upright_as_the_camera_was_held(tmp_path, rng, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = rng.integers(256, size=(4, 6, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    path = tmp_path / f"p.{kind[:3]}"
    if kind == "png of 16 bits":
        pixels = pixels * np.uint16(251)
        write_png(path, pixels, 2, eXIf=exif.tobytes().removeprefix(b"Exif\0\0"))
    elif kind == "tif of 16 bits":
        pixels = pixels * np.uint16(251)
        write_tiff(path, pixels, tag274=[orientation])
    elif kind != "PIL":
        Image.fromarray(pixels).save(path, exif=exif, quality=100, subsampling=0)
    found = read(path) if kind != "PIL" else pixels_of(with_exif(pixels, exif))
    assert found.shape == oriented(pixels, orientation).shape
    largest = float(np.iinfo(pixels.dtype).max)
    assert np.abs(found / largest - oriented(pixels, orientation) / largest).max() < 0.03 * (kind == "jpg") + 1e-9


def with_exif(pixels, exif):
    """Return an image in memory, as those that torchvision has read and converted."""
    image = Image.fromarray(pixels)
    image.info["exif"] = exif.tobytes()
    return image


# Kinds of pixels.


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"])
def test_images_of_every_mode(mode):
    image = Image.new("RGB", (3, 2), (255, 255, 255)).convert({"I;16": "L", "I": "L", "F": "L"}.get(mode, mode))
    if mode in ("I;16", "I", "F"):
        image = Image.fromarray(np.full((2, 3), 1 if mode == "F" else 65535, {"F": "f4", "I": "i4", "I;16": "u2"}[mode]))
    assert as_bytes(pixels_of(image), "").min() >= 254


def test_a_palette_is_looked_up_and_transparency_ignored(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png", transparency=b"\x00\x80")
    image.save(tmp_path / "p.gif", transparency=1)
    for name in ("p.png", "p.gif"):
        assert read(tmp_path / name).tolist() == [[[10, 20, 30], [200, 100, 0]]]


@pytest.mark.parametrize("values", [[-1, 5], [0, 65536]])
def test_whole_numbers_without_a_scale_are_refused(values):
    with pytest.raises(ValueError, match="are no 16-bit gray values"):
        pixels_of(Image.fromarray(np.array([values], dtype=np.int32)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_bytes_are_the_nearest_ones(dtype, rng):
    largest = np.iinfo(dtype).max
    values = np.append(rng.integers(largest, size=500), [0, largest, largest // 255, largest // 2]).astype(dtype)
    assert np.array_equal(as_bytes(values, ""), np.rint(values * 255.0 / largest))
    assert np.array_equal(as_bytes(values / largest, ""), as_bytes(values, ""))


# Hostile files.


SCRIPTS = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n(x) run\n",
    "wmf": struct.pack("<IHhhhhHIH", 0x9AC6CDD7, 0, 0, 0, 100, 100, 72, 0, 0) + b"\1\0\t\0\0\3" + bytes(80),
    "fits": b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800),
    "psd": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, 8, 3) + bytes(60),
}


@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("kind", SCRIPTS)
def test_only_formats_that_are_decoded_in_this_process(tmp_path, monkeypatch, kind, ending):
    Image.init()
    monkeypatch.setattr("subprocess.Popen", lambda *arguments, **options: pytest.fail("a process was started"))
    (tmp_path / f"p{ending}").write_bytes(SCRIPTS[kind])
    assert "not a picture, or of a format that is not read; convert it to one of PNG, JPEG, " in refusal(
        tmp_path / f"p{ending}"
    )


@pytest.mark.parametrize("size", [(12_000, 12_000), (2**27 + 1, 1), (65_000, 65_000)])
def test_a_small_file_of_too_many_pixels(tmp_path, monkeypatch, size):
    head = struct.pack(">IIBBBBB", *size, 1, 0, 0, 0, 0)
    content = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    (tmp_path / "p.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as who reads scans sets it
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("it was decoded"))
    assert f"{size[0]} x {size[1]} pixels are too many, at most 134,217,728 are read" in refusal(tmp_path / "p.png")
