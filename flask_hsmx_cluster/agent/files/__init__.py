"""The agent's part in what the process of files does: who pulls from whom, and what people are shown."""
