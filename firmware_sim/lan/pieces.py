"""The 60 small objects of a router's status page: icons, styles, scripts and values."""

import struct
import zlib

ICON_PIXELS = 24
ICONS, STYLES, SCRIPTS, VALUES = 30, 10, 10, 10
SVG_ICONS = 15
OBJECTS = ICONS + STYLES + SCRIPTS + VALUES
CONTENT_TYPES = {
    "svg": "image/svg+xml",
    "png": "image/png",
    "css": "text/css",
    "js": "text/javascript",
}


def pieces() -> dict[str, bytes]:
    """Every piece that is a file, by its name: `icon-01.svg` … `script-10.js`."""
    made: dict[str, bytes] = {}
    for number in range(1, ICONS + 1):
        if number <= SVG_ICONS:
            made[f"icon-{number:02d}.svg"] = _svg(number)
        else:
            made[f"icon-{number:02d}.png"] = _png(number)
    for number in range(1, STYLES + 1):
        hue = number * 36 % 360
        text = f":root {{ --style-{number:02d}: ok; --hue-{number:02d}: {hue}; }}\n"
        made[f"style-{number:02d}.css"] = text.encode()
    for number in range(1, SCRIPTS + 1):
        text = f'"use strict";\nwindow.scripts.add("script-{number:02d}");\n'
        made[f"script-{number:02d}.js"] = text.encode()
    return made


def _hue(number: int) -> int:
    return 200 + number * 5 % 60


def _svg(number: int) -> bytes:
    """Bars of a signal, a few more for each icon."""
    bars = "".join(
        f'<rect x="{3 + 5 * bar}" y="{16 - 4 * bar}" width="3" height="{5 + 4 * bar}"'
        f' opacity="{1 if bar <= number % 4 else 0.25}"/>'
        for bar in range(4)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{ICON_PIXELS}" height="{ICON_PIXELS}"'
        f' fill="hsl({_hue(number)} 60% 40%)">{bars}</svg>\n'
    ).encode()


def _png(number: int) -> bytes:
    """A round lamp."""
    middle, lamp = (ICON_PIXELS - 1) / 2, bytes((20 + number * 7, 110 + number * 3, 170, 255))
    rows = b"".join(
        b"\0"
        + b"".join(
            lamp if (x - middle) ** 2 + (y - middle) ** 2 < 80 else bytes(4)
            for x in range(ICON_PIXELS)
        )
        for y in range(ICON_PIXELS)
    )
    header = struct.pack(">IIBBBBB", ICON_PIXELS, ICON_PIXELS, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
