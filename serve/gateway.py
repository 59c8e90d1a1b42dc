"""What all endpoints of one process share: the version that answers, the log of feedback, the counters.

The version is one immutable snapshot; when the alias names another, that is loaded aside and swapped in."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from configs.home import Home
from kg.feedback import FeedbackLog
from models.aliases import Aliases
from models.store import ModelStore, ModelVersion
from serve.counters import Counters
from serve.problems import Problem
from serve.snapshot import Snapshot, open_snapshot, warm_up

POSITIVE_RATING = 8.0  # 0 to 10
_POLL_S = 1.0
_RETRY_S = 10.0
_HOUR_S = 3600
_MASKS = 256  # availability masks kept, one byte a content each
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GatewayConfig:
    """Which version of which graph answers."""

    graph: str
    version: str | None = None
    """A version such as ``ease/3`` that answers for good; None follows the alias."""
    alias: str = "champion"


@dataclass
class _Watch:
    """What is known of the alias, guarded by one lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    looked_s: float = 0.0
    tried_s: float = 0.0
    seen: str | None = None
    is_loading: bool = False


class Gateway:
    """Holds what endpoints read; safe to use from many threads.

    Args:
        home: where models, arrays and the log lie.
        config: which graph and version.
        clock: seconds that never go back; tests hand in their own.
    """

    def __init__(
        self, home: Home, config: GatewayConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.home, self.config = home, config
        self.models, self.aliases = ModelStore(home.models), Aliases(home.models)
        self.feedback = FeedbackLog(home.feedback(config.graph))
        self.counters = Counters()
        self.why_not: str | None = None
        """Why no version, or not the newest one, answers; None while all is well."""
        self._clock = clock
        self._current: Snapshot | None = None
        self._masks: OrderedDict[tuple[object, ...], np.ndarray] = OrderedDict()
        self._watch = _Watch(looked_s=clock(), tried_s=clock(), seen=self._signature())
        self._load()

    def now(self) -> int:
        """UTC seconds."""
        return int(time.time())

    @property
    def positive_rating(self) -> float:
        """Ratings from here on, 0 to 10, count as liked."""
        return POSITIVE_RATING

    @property
    def current(self) -> Snapshot | None:
        """The version that answers now; looks at the alias once a second, never waits for a load."""
        self._look()
        return self._current

    def snapshot(self) -> Snapshot:
        """The version that answers now.

        Raises:
            Problem: 503 with the reason; there is none that could be verified and loaded.
        """
        found = self.current
        if found is None:
            raise Problem(503, "not-ready", f"{self.why_not}")
        return found

    def available(
        self, snapshot: Snapshot, region: str, subscriptions: tuple[str, ...] | None, at: int
    ) -> np.ndarray:
        """(i,) bool, what can be watched; kept for the hour that ``at`` lies in: exact to the hour."""
        at -= at % _HOUR_S
        key = (snapshot.graph.hash, region, subscriptions, at)
        mask = self._masks.get(key)
        if mask is None:
            mask = snapshot.availability.mask(region, at, subscriptions)
            mask.flags.writeable = False
            with self._watch.lock:
                self._masks[key] = mask
                while len(self._masks) > _MASKS:
                    self._masks.popitem(last=False)
        return mask

    def _look(self) -> None:
        now, watch = self._clock(), self._watch
        if self.config.version is not None and self._current is not None or now - watch.looked_s < _POLL_S:
            return
        with watch.lock:
            if watch.is_loading or now - watch.looked_s < _POLL_S:
                return
            watch.looked_s = now
            signature = self._signature()
            must_retry = self.why_not is not None and now - watch.tried_s >= _RETRY_S
            if signature == watch.seen and not must_retry:
                return
            watch.seen, watch.tried_s, watch.is_loading = signature, now, True
        threading.Thread(target=self._load, name="load-version", daemon=True).start()

    def _load(self) -> None:
        """Loads what is asked for and swaps it in; whatever goes wrong leaves the present one answering."""
        try:
            version = self._wanted()
            if self._current is None or self._current.version.ref != version.ref:
                found = open_snapshot(self.home, self.models, version)
                warm_up(found)
                self._current = found
                self.counters.count_swap()
                log.info("version %s answers for graph %s", version.ref, self.config.graph)
            self.why_not = None
        except Problem as problem:
            self.why_not = problem.detail
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            self.why_not = (
                f"the version must load as it was written, {type(error).__name__} came: {error}. "
                "Restore its folder, or promote another version; this one is tried again every few seconds"
            )
            log.warning("no new version for graph %s: %s", self.config.graph, error)
        finally:
            self._watch.is_loading = False

    def _wanted(self) -> ModelVersion:
        if self.config.version is not None:
            return self.models.load(self.config.version)
        version = self.models.alias(self.config.graph, self.config.alias)
        if version is None:
            raise Problem(
                503,
                "not-ready",
                f"graph {self.config.graph!r} must have a version behind the alias {self.config.alias!r}, "
                "there is none: "
                "train and promote one (`mg demo`, or `mg run` and `mg promote`), no restart is needed",
            )
        return version

    def _signature(self) -> str | None:
        """Changes whenever the alias moves; reads one small file."""
        try:
            return self.aliases.holder(self.config.graph, self.config.alias)
        except (OSError, ValueError) as error:
            return str(error)
