"""The agent's part in keeping the shared data as one; its hands on PostgreSQL are the replicator's."""
