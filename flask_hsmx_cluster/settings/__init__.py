"""What the two gateways agree on: its form, and the rules that it must keep. No room of ours below it but errors."""
