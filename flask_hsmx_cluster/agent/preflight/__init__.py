"""What is looked at before a cluster is formed or changed, so that it is refused with nothing changed."""
