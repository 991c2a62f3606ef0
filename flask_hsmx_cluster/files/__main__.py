"""``python -m flask_hsmx_cluster.files``: the process of files."""

from .process import main

main()
