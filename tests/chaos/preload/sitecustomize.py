"""Python itself runs this at its start where its directory is on PYTHONPATH: it sleeps by ``select`` from then on.

Debian 12's libfaketime (0.9.10) lets ``clock_nanosleep`` fail with EINVAL where the monotonic clock is to stay true
(wolfcw/libfaketime issue 426), and that is what Python's ``time.sleep`` uses.
"""

import select
import time
from typing import SupportsIndex


def _sleep(seconds: SupportsIndex | float, /) -> None:
    select.select([], [], [], float(seconds))


time.sleep = _sleep
