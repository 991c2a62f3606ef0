"""One database for two gateways, over PostgreSQL's logical replication: what is shared, and how it is kept as one."""
