"""The CRC-8 that Sensirion puts behind every 16-bit word.

Ref: Sensirion SHT4x datasheet 7.1, section 4.4: polynomial x^8+x^5+x^4+1 (31h), start FFh, no reflection, no final xor,
BEEFh -> 92h.
"""


def crc8(data: bytes | bytearray, start: int, end: int) -> int:
    """CRC of data[start:end], 0..255; reads in place, allocates nothing."""
    crc = 0xFF
    for i in range(start, end):
        crc ^= data[i]
        for _ in range(8):
            crc = (crc << 1) ^ 0x131 if crc & 0x80 else crc << 1
    return crc
