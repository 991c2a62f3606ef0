"""The sidebar, as data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """A page in the sidebar.

    :param path: where it is; paths rather than endpoints, because one page belongs to the extension.
    :param icon: name of a symbol in ``templates/firmware/icons.svg``.
    """

    title: str
    path: str
    icon: str

    def is_current(self, path: str) -> bool:
        """Tell whether a request path belongs to this page."""
        return path == self.path or (self.path != "/" and path.startswith(self.path.rstrip("/") + "/"))


NAVIGATION: tuple[tuple[str, tuple[Item, ...]], ...] = (
    (
        "Hotel",
        (
            Item("Dashboard", "/", "home"),
            Item("Guests", "/guests", "people"),
            Item("Vouchers", "/vouchers", "ticket"),
            Item("Portal text", "/portal", "text"),
        ),
    ),
    (
        "Network",
        (
            Item("Network settings", "/network/settings", "port"),
            Item("Cluster settings", "/network/cluster/", "pair"),
            Item("Address plan", "/network/interfaces", "text"),
            Item("Access points", "/network/access-points", "radio"),
        ),
    ),
    (
        "This gateway",
        (
            Item("Firewall", "/system/firewall", "shield"),
            Item("Certificates", "/system/certificates", "seal"),
            Item("Performance", "/system/performance", "gauge"),
            Item("Language", "/system/language", "globe"),
            Item("Licence", "/system/licence", "key"),
            Item("Backup", "/system/backup", "box"),
        ),
    ),
)
