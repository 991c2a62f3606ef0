"""What the two gateways need of each other's firewall, as rules and as text, and whether rules let in more than that.

Pure: nothing here touches a kernel.
"""
