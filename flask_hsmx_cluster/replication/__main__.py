"""``python -m flask_hsmx_cluster.replication``: the replicator."""

from .process import main

main()
