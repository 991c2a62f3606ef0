"""``python -m flask_hsmx_cluster.agent``: the agent."""

import sys

# Libraries load TLS if they find it, and it takes 1.4 MB. Nothing in this process speaks it.
sys.modules["ssl"] = None  # type: ignore[assignment]

from .process import main  # noqa: E402

main()
