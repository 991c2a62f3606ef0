"""The agent's part in what follows the role: it knows the settings; the process of services carries them out."""
