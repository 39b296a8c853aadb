"""Pictures: opened safely, upright, as RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hw2_utils.errors import explained, require

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")


def open_image(path: Path | str, *, max_pixels: int = 50_000_000) -> Image.Image:
    """A picture file as RGB, uint8 [height, width, 3]: EXIF rotation applied, alpha over white.

    16-bit grey is scaled to 8 bits; of an animation the first frame is taken. Raises InputError
    with the file's name if it is no picture in one of FORMATS, is damaged, or has more than
    `max_pixels` by its header, before any pixel is decoded.
    """
    path = Path(path)
    # Also keeps a named pipe from being opened.
    what = "there is no such picture file"
    require(path.is_file(), what, where=path, todo="add it or correct the name")
    todo = f"replace it by a whole picture in {', '.join(FORMATS)}"
    # a damaged file makes the decoders raise nearly every built-in type
    with (
        explained("not a usable picture", where=path, todo=todo),
        Image.open(path, formats=FORMATS) as image,
    ):
        if image.width * image.height > max_pixels:
            shape = f"{image.width} x {image.height}"
            raise ValueError(f"{shape} pixels are too large, limit {max_pixels:,}")
        return _to_rgb(ImageOps.exif_transpose(image))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # 0..65535 -> 0..255, rounded: 65535 = 255 * 257
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        image = Image.fromarray(grey.astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("32-bit pixels say nothing about which value is white")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
