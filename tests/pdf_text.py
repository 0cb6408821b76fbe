"""Reads the text of a PDF that Chromium printed: enough of the format for that, and no more.

A font's `ToUnicode` says which characters its glyphs are; a page's content says which glyphs of
which font are drawn.
"""

import re
import zlib
from collections.abc import Mapping

_OBJECT = re.compile(rb"(\d+) 0 obj\b(.*?)\bendobj", re.DOTALL)
_STREAM = re.compile(rb"stream\r?\n(.*?)\r?\nendstream", re.DOTALL)
_FONTS = re.compile(rb"/(F\d+) (\d+) 0 R")
_TO_UNICODE = re.compile(rb"/ToUnicode (\d+) 0 R")
_SECTION = re.compile(r"beginbf(char|range)(.*?)endbf", re.DOTALL)
_HEX = re.compile(r"<([0-9A-Fa-f]+)>")
_DRAWN = re.compile(r"/(F\d+) [\d.]+ Tf|<([0-9A-Fa-f]+)> ?Tj|\[(.*?)\] ?TJ", re.DOTALL)
_Glyphs = Mapping[int, str]


def text_of_pdf(paper: bytes) -> str:
    """All its text without spaces: Chromium places glyphs one by one."""
    objects = {int(number): body for number, body in _OBJECT.findall(paper)}
    fonts = {
        name.decode(): _glyphs(objects, int(number))
        for body in objects.values()
        for name, number in _FONTS.findall(body)
    }
    pages = (_content(body) for body in objects.values() if b"stream" in body)
    text = "".join(_drawn(page, fonts) for page in pages if "BT" in page)
    return "".join(text.split())


def _content(body: bytes) -> str:
    found = _STREAM.search(body)
    if found is None:
        return ""
    raw = found[1]
    if b"/FlateDecode" in body:
        raw = zlib.decompressobj().decompress(raw)
    return raw.decode("latin-1")


def _glyphs(objects: Mapping[int, bytes], font: int) -> _Glyphs:
    link = _TO_UNICODE.search(objects[font])
    glyphs: dict[int, str] = {}
    for kind, lines in _SECTION.findall(_content(objects[int(link[1])]) if link else ""):
        codes = _HEX.findall(lines)
        step = 2 if kind == "char" else 3
        for begin in range(0, len(codes) - step + 1, step):
            first, last, to = int(codes[begin], 16), int(codes[begin + step - 2], 16), step - 1
            said = bytes.fromhex(codes[begin + to]).decode("utf-16-be")
            for code in range(first, last + 1):
                glyphs[code] = said[:-1] + chr(ord(said[-1]) + code - first)
    return glyphs


def _drawn(page: str, fonts: Mapping[str, _Glyphs]) -> str:
    glyphs: _Glyphs = {}
    text = ""
    for font, one, several in _DRAWN.findall(page):
        if font:
            glyphs = fonts.get(font, {})
        for run in [one] if one else _HEX.findall(several):
            text += "".join(
                glyphs.get(int(run[at : at + 4], 16), "\ufffd") for at in range(0, len(run), 4)
            )
    return text
