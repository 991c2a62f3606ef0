"""A renewal as rows of typed columns, and back."""

from __future__ import annotations

from sqlalchemy import delete

from ... import models as m
from ...renewal.guide import Guide
from ..store_file import StoreFile, damaged

_GUIDE = ("number", "kind", "began_at", "by", "ended_at")
_GATEWAY = ("node_id", "name", "boot", "fingerprint", "not_after", "firmware", "version")


class GuideStore(StoreFile):
    """The part of the node store that remembers the renewal begun last."""

    def guide(self) -> Guide | None:
        """Return it, or None if there has been none in this cluster."""
        with self._session() as session:
            row = session.get(m.Guide, 1)
            if row is None:
                return None
            before = [
                {**{key: getattr(one, key) for key in _GATEWAY}, "names": one.names.splitlines()}
                for one in row.gateways
            ]
            try:
                return Guide.from_dict({**{key: getattr(row, key) for key in _GUIDE}, "before": before})
            except ValueError:
                raise damaged(self.path, "a renewal cannot be read") from None

    def set_guide(self, guide: Guide) -> None:
        """Store it in the place of the former one."""
        with self._session() as session:
            session.execute(delete(m.Guide))
            gateways = [
                m.GuideGateway(position=at, **{**vars(one), "names": "\n".join(one.names)})
                for at, one in enumerate(guide.before)
            ]
            row = {key: value for key, value in vars(guide).items() if key != "before"}
            session.add(m.Guide(id=1, gateways=gateways, **row))
