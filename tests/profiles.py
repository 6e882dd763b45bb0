"""Colour profiles, built from what they are to do."""

import struct

D50 = (0.9642, 1.0, 0.8249)
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))  # X, Y, Z of red, green and blue
SWAPPED = (SRGB[1], SRGB[0], SRGB[2])


def srgb_curve(points: int = 1024) -> bytes:
    """The curve of sRGB as a table."""
    levels = (i / (points - 1) for i in range(points))
    linear = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in levels)
    return b"curv\0\0\0\0" + struct.pack(f">I{points}H", points, *(round(65535 * y) for y in linear))


def gamma(exponent: float) -> bytes:
    """A power as a curve."""
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256)) + b"\0\0"


def profile(name: str, curve: bytes, space: bytes = b"RGB ", primaries: tuple[tuple[float, ...], ...] = SRGB) -> bytes:
    """A profile of RGB (a curve and primaries) or GRAY (a curve) by any name."""
    if space == b"GRAY":
        return _built(name, space, b"XYZ ", b"mntr", {b"kTRC": curve})
    colours = zip((b"r", b"g", b"b"), primaries, strict=True)
    tags = {tag: value for k, p in colours for tag, value in ((k + b"XYZ", _xyz(p)), (k + b"TRC", curve))}
    return _built(name, space, b"XYZ ", b"mntr", tags)


def ink() -> bytes:
    """A profile of CMYK in which the four inks make a picture lighter: what is white without it is black with it."""
    lightness = bytes(255 * sum(map(int, f"{corner:04b}")) // 4 for corner in range(16))
    line = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes((4, 3, 2, 0)) + b"".join(struct.pack(">i", 65536 * (i % 4 == 0)) for i in range(9))
    table += line * 4 + b"".join(bytes((value, 128, 128)) for value in lightness) + line * 3
    return _built("sRGB", b"CMYK", b"Lab ", b"prtr", {b"A2B0": table})


def _built(name: str, space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = name.encode() + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz(D50),
        **tags,
    }
    table, data = struct.pack(">I", len(tags)), b""
    for tag, value in tags.items():
        table += tag + struct.pack(">II", 132 + 12 * len(tags) + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    head = struct.pack(">I4s4s4s4s4s", 128 + len(table + data), b"none", b"\2\x40\0\0", kind, space, connection)
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _xyz(D50)[8:]
    return head + bytes(128 - len(head)) + table + data


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(struct.pack(">i", round(value * 65536)) for value in values)
