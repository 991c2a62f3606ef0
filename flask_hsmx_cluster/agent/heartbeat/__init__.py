"""The agent's fast half: one loop with every socket, the addresses and the decision core; nothing in it waits."""
