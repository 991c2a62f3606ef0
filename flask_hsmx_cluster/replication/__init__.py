"""The data of two gateways kept as one: everything that talks to PostgreSQL, in a process of its own."""
