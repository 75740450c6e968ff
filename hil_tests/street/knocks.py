"""What somebody with an adapter tries at a line in the hope of a prompt, and what he would see if there were one."""

#: What a console, an interpreter or a boot loader might say to him.
PROMPTS = (b">>>", b"raw REPL", b"Traceback", b"KeyboardInterrupt", b"MicroPython", b"soft reboot", b"paste mode", b"mpremote")
#: Interrupt, raw REPL, friendly REPL, soft reset, paste mode, raw paste; what mpremote and esptool begin with; line ends and a help.
KNOCKS = (
    b"\x03" * 64, b"\r\x03\x03\r\x01", b"\x01" * 64, b"\x02" * 64, b"\x04" * 64, b"\x05" * 64, b"\x05A\x01", b"\x01\x03\x04\r\n" * 16,
    bytes(range(256)), b"\r\nhelp()\r\nimport machine; machine.reset()\r\n\x04", b"\xc0\x00\x08\x24\x00\x00\x00\x00\x00\x07\x07\x12\x20"
    + b"U" * 32 + b"\xc0",
)  # fmt: skip
