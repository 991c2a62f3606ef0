"""Python itself runs this at its start where its directory is on PYTHONPATH.

It sleeps by ``select`` from then on: Debian 12's libfaketime (0.9.10) lets ``clock_nanosleep`` fail with EINVAL where
the monotonic clock is to stay true (wolfcw/libfaketime issue 426), and that is what Python's ``time.sleep`` uses.

And asked by a signal it writes into its log where each of its threads is.
"""

import faulthandler
import select
import time
from typing import SupportsIndex

#: As in ``tests/chaos/stacks.py``.
_ASKS = 40


def _sleep(seconds: SupportsIndex | float, /) -> None:
    select.select([], [], [], float(seconds))


time.sleep = _sleep
faulthandler.register(_ASKS)
