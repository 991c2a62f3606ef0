"""The body of an HTTP answer, of bounded size."""

from __future__ import annotations

from http.client import HTTPResponse


def read_body(response: HTTPResponse, most: int) -> bytes:
    """Return a body, or the first ``most`` bytes of a longer one; ``response.length`` is then what is missing.

    ``HTTPResponse.read`` believes a chunk of size -1 and reads on until the end, however far that is. It never fills
    more than the buffer that it is given.

    :raises http.client.HTTPException: the body is not as it says.
    """
    buffer = bytearray(most)
    return bytes(memoryview(buffer)[: response.readinto(buffer)])
