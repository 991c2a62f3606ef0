"""Data of two gateways kept as one, by PostgreSQL's logical replication."""
