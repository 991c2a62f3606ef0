"""The agent's part in notifications: what there is to tell, which gateway tells it, and the processes that send."""
