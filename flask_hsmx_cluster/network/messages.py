"""pyroute2's netlink messages, without the rest of it.

``import pyroute2`` loads all its databases, IPVS, conntrack and asyncio: 22 MB (measured with 0.9), of an agent that
may have 70. Its message classes alone are 4 MB, so the package's start is passed over while they are imported.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any

_PACKAGE = "pyroute2"


def _import_messages() -> tuple[Any, ...]:
    spec = importlib.util.find_spec(_PACKAGE)
    if _PACKAGE not in sys.modules and spec is not None and spec.submodule_search_locations:
        bare = types.ModuleType(_PACKAGE)
        bare.__path__ = list(spec.submodule_search_locations)
        bare.__spec__ = spec
        sys.modules[_PACKAGE] = bare
        try:
            return _classes()
        finally:
            # Whoever imports pyroute2 later in this process gets the whole of it.
            del sys.modules[_PACKAGE]
    return _classes()


def _classes() -> tuple[Any, ...]:
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

    return ifaddrmsg, ifinfmsg, rtmsg


#: The classes of an address, of a link and of a route message.
AddressMessage, LinkMessage, RouteMessage = _import_messages()

# Of linux/netlink.h and linux/rtnetlink.h.
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE = 24, 25
