"""How this agent and the other gateway's find, trust, ask and leave each other."""
