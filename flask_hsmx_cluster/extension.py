"""The extension object: joins a Flask app to this gateway's agent."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Literal

from flask import Blueprint, Flask, Response, current_app, url_for
from sqlalchemy import Engine, MetaData
from sqlalchemy.engine import make_url

from . import signals
from .config import Config, ConfigVars, FirmwareVersion
from .control import ControlClient
from .errors import ConfigError
from .firewall.check import check, stated
from .firewall.rules import Peer, Service, Use
from .hooks import CheckFunction, HookFunction, Registered, Step
from .replication.coverage import Coverage, cover
from .replication.declare import Declared, read
from .replication.rules import Declaration, rules_where
from .services.declare import Check, Hook, Statement

if TYPE_CHECKING:
    from .agent.config import AgentConfig

#: What somebody wants to do: look at the cluster, or change it.
Action = Literal["view", "administer"]
#: The host's decision whether the present user may. Only ``True`` lets somebody in.
Permission = Callable[[Action], bool]

log = logging.getLogger(__name__)
_EXTENSION = "hsmx_cluster"
#: Returns the rules of the host's own firewall.
FirewallRules = Callable[[], Iterable[Mapping[str, Any]]]
#: Events that are asked for at once.
EVENTS_AT_ONCE = 100

#: By verb: the signal sent after it, and which entries of the agent's result go with it.
_SIGNALS = {
    "create": (signals.settings_saved, ("revision",)),
    "propose": (signals.settings_saved, ("revision",)),
    "resolve_conflict": (signals.settings_saved, ("revision",)),
    "failover": (signals.failover_requested, ("to", "took_ms")),
    "join": (signals.joined, ("peer",)),
    "leave": (signals.left, ("peer_informed",)),
    "replace": (signals.replaced, ("replaced",)),
    "reapply": (signals.quarantine_reapplied, ("row_id", "node")),
    "discard": (signals.quarantine_discarded, ("discarded", "node")),
}


@dataclass(frozen=True)
class _State:
    """What the extension keeps for one app.

    :param database: a Flask-SQLAlchemy object, an SQLAlchemy engine, or None.
    :param metadata: the host's tables, or None.
    :param declarations: what the host has declared by :meth:`HSMXCluster.scope`, by table.
    :param firewall_rules: what returns the rules of the host's own firewall: none or one.
    :param hooks: what the host has registered by :meth:`HSMXCluster.hook` and :meth:`HSMXCluster.health_check`.
    """

    config: Config
    client: ControlClient
    permission: Permission | None
    database: Any
    metadata: MetaData | None
    declarations: Mapping[str, Declaration]
    hooks: Sequence[Registered]
    blueprint: Blueprint
    firewall_rules: Sequence[FirewallRules]

    def allows(self, action: Action) -> bool:
        """Tell whether the present user may do this. Anything but a plain ``True`` of the host means no."""
        return self.permission is None or self.permission(action) is True

    def database_url(self) -> str | None:
        """Return the URL of the host's database, or None."""
        return self.config.database_url or _database_url(self.database)

    def declared(self) -> Declared:
        """Return what is shared, as it is declared at this moment.

        :raises ConfigError: a declaration cannot work; names table and field.
        """
        return read(self.metadata, self.declarations, rules_where(self.config.local_interfaces))

    def coverage(self) -> Coverage:
        """Return what is shared of each table and field, and why.

        :raises ConfigError: a declaration cannot work; names table and field.
        """
        return cover(self.metadata, self.declared(), replicable=_is_postgresql(self.database_url()))

    def call(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Call the agent, and tell the host's listeners what was done."""
        result = self.client.call(verb, **arguments)
        if verb in _SIGNALS:
            signal, names = _SIGNALS[verb]
            app = current_app._get_current_object()  # type: ignore[attr-defined]
            known = {**arguments, **result}
            signal.send(app, **{name: known.get(name) for name in names})
        return result

    def send_events(self, after: int | None) -> int:
        """Send the signals of the events after one; see :meth:`HSMXCluster.send_events`."""
        if after is None:
            newest = self.client.call("events", limit=1)["events"]
            return int(newest[0]["id"]) if newest else 0
        found: list[dict[str, Any]] = []
        before = None
        while page := self.client.call("events", limit=EVENTS_AT_ONCE, before=before)["events"]:
            found += [event for event in page if event["id"] > after]
            before = page[-1]["id"]
            if before <= after + 1:
                break
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        for event in reversed(found):
            signals.send_event(app, event)
        return int(found[0]["id"]) if found else after


class HSMXCluster:
    """Give a Flask-based gateway a second, standing-by gateway.

    One object may serve several apps; per-app state is kept in ``app.extensions``.

    :param app: call :meth:`init_app` on this app at once.
    :param db: a Flask-SQLAlchemy object, an SQLAlchemy engine, or None: the host has no database. The
        agent learns its URL from it; the web app does not use it.
    :param permission: called with ``"view"`` or ``"administer"`` for every page and API request; returns
        True if the present user may. It may also ``abort()``, for example with a redirect to a login page.
    :param allow_unprotected: state in so many words that anybody who reaches the pages may use them.
    :param firmware_version: text or callable; instead of the key ``HSMX_CLUSTER_FIRMWARE_VERSION``.
    :param register_blueprint: False if the host registers :attr:`blueprint` itself, under its own prefix.
    :param metadata: SQLAlchemy's description of the host's tables; that of a Flask-SQLAlchemy ``db`` is found.
    :param scope: by ``table`` or ``schema.table`` what is shared, for tables whose ``info`` cannot say it.
    """

    def __init__(
        self,
        app: Flask | None = None,
        db: Any = None,
        *,
        permission: Permission | None = None,
        allow_unprotected: bool = False,
        firmware_version: FirmwareVersion | None = None,
        register_blueprint: bool = True,
        metadata: MetaData | None = None,
        scope: Mapping[str, Declaration] | None = None,
    ) -> None:
        from .web.blueprint import create_blueprint

        self._db = db
        self._permission = permission
        self._allow_unprotected = allow_unprotected
        self._firmware_version = firmware_version
        self._register_blueprint = register_blueprint
        self._metadata = metadata
        self._declarations = dict(scope or {})
        self._hooks: list[Registered] = []
        self._firewall_rules: list[FirewallRules] = []
        #: The pages, the REST API and the other gateway's endpoints.
        self.blueprint: Blueprint = create_blueprint()
        if app is not None:
            self.init_app(app)

    def init_app(
        self, app: Flask, db: Any = None, *, permission: Permission | None = None, metadata: MetaData | None = None
    ) -> None:
        """Set up an app. ``db``, ``permission`` and ``metadata`` beat those given to the constructor.

        :raises ConfigError: a configuration key is wrong, or nobody was said to guard the pages.
        """
        from .cli import cluster
        from .web import refusal

        if _EXTENSION in app.extensions:
            raise ConfigError("HSMXCluster.init_app was called twice for this app.", "Call it once.")
        permission = permission or self._permission
        if permission is None and not self._allow_unprotected:
            raise ConfigError(
                "HSMXCluster has no permission callable: anybody could fail over this gateway.",
                "Give permission=..., or state allow_unprotected=True.",
            )
        if permission is not None and not callable(permission):
            raise ConfigError("permission must be a callable.", "It is called with 'view' or 'administer'.")
        config = Config.load(
            app.config, firmware_version=self._firmware_version, register_blueprint=self._register_blueprint
        )
        database = _checked_database(self._db if db is None else db)
        app.extensions[_EXTENSION] = _State(
            config, ControlClient(config.control_socket), permission, database,
            _checked_metadata(self._metadata if metadata is None else metadata, database), self._declarations,
            self._hooks, self.blueprint, self._firewall_rules,
        )
        app.cli.add_command(cluster)
        if self._register_blueprint:
            app.register_blueprint(self.blueprint, url_prefix=config.url_prefix)
        refusal.register(app)

    def scope(self, table: str, declaration: Declaration) -> None:
        """Declare what of a table is shared, instead of ``info={"cluster": ...}`` on the table itself.

        :param table: ``table`` or ``schema.table``, as in the database.
        :param declaration: ``"shared"``, ``"bulk"``, ``"local"``, ``Shared(...)`` or ``Local(...)``.
        :raises ConfigError: the table was declared here before.
        """
        if table in self._declarations:
            raise ConfigError(f"Table {table!s:.80} is declared twice by scope().", "Declare it once.")
        self._declarations[table] = declaration

    def hook(
        self, step: Step, *, order: int = 0, limit_s: float = 1.0, name: str = ""
    ) -> Callable[[HookFunction], HookFunction]:
        """Let a function be called at each change of role; a decorator.

        It is called in a process of its own, in an app context, with a :class:`.RoleChange`. Addresses wait for
        ``before_active``, and a hand-over for ``before_passive``: a second at most.

        :param step: ``before_active``, ``after_active``, ``before_passive`` or ``after_passive``.
        :param order: lower ones are called first.
        :param limit_s: it is ended after this time, s.
        :param name: what people call it; the function's name if empty.
        :raises ConfigError: step, limit or name cannot be used.
        """

        def register(function: HookFunction) -> HookFunction:
            word = name or getattr(function, "__name__", "")
            self._hooks.append(Registered(function, Hook(word, step, order, limit_s, number=len(self._hooks))))
            return function

        return register

    def health_check(
        self, name: str, check: CheckFunction | Sequence[str], *, every_s: float = 5.0, limit_s: float = 2.0,
        moves_role: bool = False,
    ) -> None:  # fmt: skip
        """Have this gateway's health looked at now and then, whatever its role.

        :param check: a function, which fails by returning False or raising; or a command, which ends with 0 if all is
            well.
        :param every_s: from the end of one to the next, s.
        :param limit_s: it is ended after this time, s, and has failed.
        :param moves_role: a gateway where it fails hands over to one where it does not. Only for what an active and a
            passive gateway would find alike: a disk, a card; not what only the active one can do.
        :raises ConfigError: it cannot work.
        """
        function, command = (check, ()) if callable(check) else (None, tuple(check))
        number = -1 if command else len(self._hooks)
        self._hooks.append(Registered(function, Check(name, every_s, limit_s, moves_role, command, number)))

    def firewall_rules(self, function: FirewallRules) -> FirewallRules:
        """Let a function return the rules of the host's own firewall, to be checked with those of the kernel; a
        decorator. It is called in an app context whenever somebody looks.

        Each rule that lets somebody in is a mapping: ``protocol`` (``tcp`` or ``udp``), ``port``, ``source`` (an
        address, a network, or empty: anybody), ``note``, and ``for_others`` (True: it is meant for guests or
        administrators).
        """
        self._firewall_rules[:] = [function]
        return function

    def firewall(self, peers: Sequence[str] = ()) -> dict[str, Any]:
        """Return the rules that let the other gateway in, and what lets in more; see docs/firewall.md.

        :param peers: its addresses; none: those of the settings in force.
        :raises AgentUnavailable: the agent does not run.
        """
        return firewall(peers)

    def status(self) -> dict[str, Any]:
        """Return the agent's status of this gateway, for example for a badge in the host's own pages.

        :raises AgentUnavailable: the agent does not run.
        """
        return state().call("status")

    def send_events(self, after: int | None = None) -> int:
        """Send the host's signals for what the agent has recorded since; see :mod:`.signals`.

        :param after: what the last call returned; None sends nothing, and says where to begin.
        :raises AgentUnavailable: the agent does not run.
        """
        return state().send_events(after)

    def refused_write(self, error: BaseException) -> Response | None:
        """Return the page that says that this gateway stands by, for the host's own handler of database errors.

        :param error: SQLAlchemy's, or the driver's; None is returned if it is not a write refused for that reason.
        """
        from .web import refusal

        return refusal.refused_write(error)

    def agent_config(self) -> AgentConfig:
        """Return what ``flask cluster agent`` hands to the agent of the current app."""
        return agent_config()


def state() -> _State:
    """Return the current app's state.

    :raises ConfigError: there is no current app, or ``init_app`` was not called for it.
    """
    if not current_app:
        raise ConfigError("HSMXCluster needs a Flask app context.", "Use `with app.app_context():`.")
    found = current_app.extensions.get(_EXTENSION)
    if not isinstance(found, _State):
        raise ConfigError(
            f"HSMXCluster is not set up for the app {current_app.name!r}.", "Call cluster.init_app(app) first."
        )
    return found


def firewall(peers: Sequence[str] = ()) -> dict[str, Any]:
    """Return what the agent says of the firewall, with the findings about the host's own rules first.

    :raises ConfigError: the host's function fails, or returns what is no rule.
    """
    found = state()
    told = found.call("firewall", peers=list(peers))
    services = [Service(Use(one["use"]), one["protocol"], one["port"]) for one in told["services"]]
    sources = {one["source"]: Peer(ip_address(one["source"])) for one in told["rules"]}
    findings = [finding.as_dict() for function in found.firewall_rules
                for finding in check(stated(_host_rules(function)), services, list(sources.values()))]
    return {**told, "findings": [*findings, *told["findings"]]}


def _host_rules(function: FirewallRules) -> list[Any]:
    try:
        return list(function())
    except Exception as error:
        log.exception("The rules of the host's firewall cannot be had")
        raise ConfigError(
            f"The host's firewall rules cannot be had: {type(error).__name__}.", "See the web app's log."
        ) from error


def agent_config(hook_runner: Sequence[str] = ()) -> AgentConfig:
    """Return the agent's configuration for the current app.

    :param hook_runner: the command that loads this app and calls its hooks.
    """
    from .agent.config import AgentConfig

    found = state()
    config = found.config
    return AgentConfig(
        state_dir=str(config.state_dir),
        control_socket=str(config.control_socket),
        firmware_version=config.firmware(),
        peer_path=_path_of("peer"),
        pair_path=_path_of("pair"),
        http_port=config.http_port,
        heartbeat_port=config.heartbeat_port,
        allowed_uids=config.allowed_uids,
        database_url=found.database_url(),
        node_name=config.node_name,
        log_level=config.log_level,
        scope=_scope(found),
        synchronous=config.synchronous,
        conntrack=config.conntrack,
        passive_internet=config.passive_internet,
        services=_services(found, hook_runner),
        pppd=str(config.pppd),
        own_addresses=config.own_addresses,
        firewall=config.firewall,
        files=config.files.to_json() if config.files.trees else "",
        https=config.https,
        arbiter=config.arbiter.to_json() if config.arbiter else "",
    )


def _services(found: _State, hook_runner: Sequence[str]) -> str:
    """Return what follows the role, as JSON; empty if nothing does."""
    registered = [one.stated for one in found.hooks]
    if not hook_runner and any(one.number >= 0 for one in registered):
        log.warning("Functions are not called: the agent was not started by `flask cluster agent`")
        registered = [one for one in registered if one.number < 0]
    hooks = [one for one in registered if isinstance(one, Hook)]
    checks = [one for one in registered if isinstance(one, Check)]
    stated = Statement(found.config.services, (*found.config.hooks, *hooks), tuple(checks), tuple(hook_runner))
    return stated.to_json() if stated else ""


def _scope(found: _State) -> str:
    """Return what is shared, as JSON; empty where nothing can be replicated."""
    known = found.metadata is not None or found.declarations
    return found.declared().scope.to_json() if known and _is_postgresql(found.database_url()) else ""


def _path_of(view: str) -> str:
    """Return the URL path of a peer endpoint, wherever the host has put the blueprint."""
    for endpoint, function in current_app.view_functions.items():
        if getattr(function, "hsmx_relay", None) == view:
            with current_app.test_request_context():
                return url_for(endpoint)
    raise ConfigError(
        "The blueprint is not registered, so that the other gateway could not reach this one.",
        "Register it: app.register_blueprint(cluster.blueprint, url_prefix=...).",
    )


def _checked_database(db: Any) -> Any:
    if db is None or isinstance(db, Engine) or hasattr(type(db), "engine"):
        return db
    raise ConfigError(
        f"db is neither a Flask-SQLAlchemy object nor an SQLAlchemy engine, but {type(db).__name__}.",
        f"Give db=None and set {ConfigVars.DATABASE_URL} if the database is reached otherwise.",
    )


def _checked_metadata(metadata: Any, database: Any) -> MetaData | None:
    if metadata is None:
        metadata = getattr(database, "metadata", None)
        return metadata if isinstance(metadata, MetaData) else None
    if isinstance(metadata, MetaData):
        return metadata
    raise ConfigError(
        f"metadata is no SQLAlchemy MetaData, but {type(metadata).__name__}.",
        "Give the metadata of your models: Base.metadata.",
    )


def _is_postgresql(url: str | None) -> bool:
    return url is not None and make_url(url).get_backend_name() == "postgresql"


def _database_url(db: Any) -> str | None:
    if db is None:
        return None
    engine = db if isinstance(db, Engine) else db.engine
    return str(engine.url.render_as_string(hide_password=False))
