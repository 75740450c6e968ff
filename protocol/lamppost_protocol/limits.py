"""Every cap on what a peer may send. Each says why it has its value; at the cap, input is refused with `too_long` or `bad_cbor`."""

#: Longest COSE message: four LoRa packets, a tenth of a second at 115200 baud, one block of a node's spare heap.
MAX_FRAME_BYTES = 1024
#: Longest payload inside a frame: the frame less its signature (64), header (about 20) and lengths, with room to spare.
MAX_PAYLOAD_BYTES = 900
#: Longest serial message before escaping: type, frame, checksum.
MAX_MESSAGE_BYTES = 1 + MAX_FRAME_BYTES + 4
#: Longest serial message on the line: every octet escaped.
MAX_LINE_BYTES = 2 * MAX_MESSAGE_BYTES
#: Nesting of CBOR containers: a schedule, the deepest thing we send, needs 5. Bounds the decoder's recursion on a 16 KB stack.
MAX_DEPTH = 6
#: Items in one CBOR container: the longest record batch has 64 records.
MAX_ITEMS = 128
#: Records in one uplink frame.
MAX_RECORDS = 64
#: Values in one record, after kind, dt and q.
MAX_VALUES = 24
#: Largest counter `tx`: four octets of Partial IV. At the limit the sender refuses and must be re-keyed.
MAX_TX = 0xFFFFFFFF
#: Largest record number `n`: 2^48 - 1; at one record a second that is nine million years.
MAX_N = 0xFFFFFFFFFFFF
#: Width of the replay window on `tx` (RFC 8613 section 7.4 uses 32; serial and LoRa bursts of one node stay below 64).
REPLAY_WINDOW = 64
#: Longest log line a node may send.
MAX_LOG_BYTES = 200
#: Longest LoRa packet: its length is one octet (SX1261/2 datasheet rev. 2.1, section 6.1.3).
MAX_PACKET_BYTES = 255
#: Pieces of one packet: four bits of position; at 400 ms and SF10, the shortest packets the law leaves, they carry a frame of 240 octets.
MAX_PIECES = 16
