"""Write lengths as protobuf does."""


def varint(number: int) -> bytes:
    """Return a number that is not negative in seven bits a byte, the lowest first."""
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)
