"""``python -m flask_hsmx_cluster.arbiter``: the agent, which has no TLS, starts it."""

from .process import main

main()
