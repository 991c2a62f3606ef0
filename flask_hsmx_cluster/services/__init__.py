"""What follows the role beside addresses and data: a process of its own, child of the agent."""
