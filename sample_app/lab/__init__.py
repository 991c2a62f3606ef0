"""The lab: two gateways, a client and a router as network namespaces of one machine, and their faults.

Everything in it is real (kernel addresses, ARP, processes with their own users); only the cables are virtual::

    with Lab(sync="switch") as lab:
        lab.start()
        form(lab, heartbeat_ms=100)
        with Pinger(lab.client, lab.virtual_ip) as pinger:
            at = lab.faults.power_off(lab.a)
            ...
        print(pinger.outage_ms(at))
"""

from .conversation import Conversation
from .faults import Faults
from .forming import form, roles, wait_for_roles
from .gateway import CommandFailed, Gateway
from .measure import AddressWatch, ArpWatch, Pinger, Seller, Sweeper, neighbour
from .namespace import LabError, Namespace
from .topology import Lab

__all__ = [
    "AddressWatch",
    "ArpWatch",
    "CommandFailed",
    "Conversation",
    "Faults",
    "Gateway",
    "Lab",
    "LabError",
    "Namespace",
    "Pinger",
    "Seller",
    "Sweeper",
    "form",
    "neighbour",
    "roles",
    "wait_for_roles",
]
