"""Files that both gateways have: what is declared, what is never sent, and how it is pulled, watched and compared."""
