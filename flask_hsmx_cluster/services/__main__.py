"""``python -m flask_hsmx_cluster.services``: the process of what follows the role."""

from .process import main

main()
