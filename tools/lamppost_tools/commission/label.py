"""A label for the housing: QR code beside what a person reads. SVG and PDF carry both; the PNG is the code alone, for label printers' own
templates, because a picture of text would need a font that we would have to ship.

The code and the text say the same, and no secret: network, node, fingerprint of its public key, asset. Size 62 x 29 mm, a common roll.
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Any
from xml.sax.saxutils import escape

import segno

_WIDTH_MM, _HEIGHT_MM = 62.0, 29.0
_MARGIN_MM = 3.5  # the quiet zone: four modules
_CODE_MM = 22.0
_TEXT_MM = 2 * _MARGIN_MM + _CODE_MM
_POINTS_PER_MM = 72 / 25.4
_LINES_MM = (6.0, 11.0, 15.5, 20.0, 24.5)  # from the top
_SIZES_MM = (3.6, 3.2, 2.4, 2.4, 2.4)
_LINE_CHARACTERS = 28
_PNG_SCALE = 8


@dataclass(frozen=True)
class Label:
    """What stands on it."""

    asset: str
    node: str
    network: str
    fixtures: tuple[str, ...]
    fingerprint: str

    @property
    def code_text(self) -> str:
        """What the QR code says: one line, words separated by a space, the asset last because it may hold spaces."""
        return f"LAMPPOST {self.network} {self.node} {self.fingerprint.replace(' ', '')} {self.asset}"

    @property
    def lines(self) -> tuple[str, ...]:
        """What a person reads beside it."""
        lines = (self.asset, f"node {self.node}", " ".join(self.fixtures), f"network {self.network}", f"key {self.fingerprint}")
        return tuple(line if len(line) <= _LINE_CHARACTERS else line[: _LINE_CHARACTERS - 3] + "..." for line in lines)

    def svg(self) -> bytes:
        """Code and text, in millimetres."""
        side = _CODE_MM / len(self._modules())
        squares = "".join(f"M{x} {y}h1v1h-1z" for x, y in self._dark())
        words = "".join(
            f'<text x="{_TEXT_MM:g}" y="{y:g}" font-size="{size:g}" font-family="Helvetica, Arial, sans-serif">{escape(line)}</text>\n'
            for line, y, size in zip(self.lines, _LINES_MM, _SIZES_MM, strict=True)
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH_MM:g}mm" height="{_HEIGHT_MM:g}mm" '
            f'viewBox="0 0 {_WIDTH_MM:g} {_HEIGHT_MM:g}">\n<rect width="100%" height="100%" fill="#fff"/>\n'
            f'<path transform="translate({_MARGIN_MM:g} {_MARGIN_MM:g}) scale({side:.6f})" d="{squares}"/>\n{words}</svg>\n'
        ).encode()

    def png(self) -> bytes:
        """The code alone, with its quiet zone."""
        out = BytesIO()
        self._code().save(out, kind="png", scale=_PNG_SCALE)
        return out.getvalue()

    def pdf(self) -> bytes:
        """Code and text on one page of the label's size. Ref: ISO 32000-1; Helvetica is one of the 14 fonts every reader has (9.6.2.2)."""
        side = _CODE_MM / len(self._modules())
        drawn = [f"{_POINTS_PER_MM:.6f} 0 0 {_POINTS_PER_MM:.6f} 0 0 cm"]
        drawn += [
            f"{_MARGIN_MM + x * side:.4f} {_HEIGHT_MM - _MARGIN_MM - (y + 1) * side:.4f} {side:.4f} {side:.4f} re" for x, y in self._dark()
        ]
        drawn.append("f")
        for line, y, size in zip(self.lines, _LINES_MM, _SIZES_MM, strict=True):
            text = line.encode("cp1252", "replace").replace(b"\\", rb"\\").replace(b"(", rb"\(").replace(b")", rb"\)").decode("latin-1")
            drawn.append(f"BT /F {size:g} Tf {_TEXT_MM:g} {_HEIGHT_MM - y:g} Td ({text}) Tj ET")
        return _pdf_of("\n".join(drawn).encode("latin-1"))

    def _code(self) -> Any:
        return segno.make(self.code_text, error="m", micro=False)

    def _modules(self) -> list[bytearray]:
        return list(self._code().matrix)

    def _dark(self) -> list[tuple[int, int]]:
        return [(x, y) for y, row in enumerate(self._modules()) for x, module in enumerate(row) if module & 1]


def _pdf_of(content: bytes) -> bytes:
    width, height = _WIDTH_MM * _POINTS_PER_MM, _HEIGHT_MM * _POINTS_PER_MM
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:.2f} {height:.2f}] /Contents 4 0 R "
        "/Resources << /Font << /F 5 0 R >> >> >>".encode(),
        b"<< /Length %d >>\nstream\n%b\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    out = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"xref\n0 %d\n0000000000 65535 f \n%btrailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1, table, len(objects) + 1, len(out),
    )  # fmt: skip
