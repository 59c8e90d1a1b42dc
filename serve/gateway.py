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
from kg.exposures import ExposureLog
from kg.feedback import POSITIVE_RATING, FeedbackLog
from models.aliases import Aliases, Holding
from models.store import ModelStore, ModelVersion
from serve.adaptation import Adaptation, AdaptationConfig
from serve.arms import Arms, Trial
from serve.counters import Counters
from serve.problems import Problem
from serve.snapshot import Snapshot, open_snapshot, warm_up

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
    adaptation: AdaptationConfig | None = None
    """Steps of the adaptation loop; None is as ``configs/serve/adaptation.yaml`` says."""


@dataclass
class _Watch:
    """What is known of the alias, guarded by one lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    looked_s: float = 0.0
    tried_s: float = 0.0
    seen: Holding | str | None = None
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
        self.exposures = ExposureLog(home.exposures(config.graph))
        self.arms = Arms(self.exposures, self.counters, self.now)
        steps = config.adaptation or AdaptationConfig.named()
        self.adaptation = Adaptation(home, config.graph, steps, self.feedback, self.counters, self.now, clock)
        self.why_not: str | None = None
        """Why no version, or not the newest one, answers; None while all is well."""
        self.trial: Trial | None = None
        """Who is tried out beside the version that answers."""
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

    def refresh(self) -> None:
        """Looks at the alias now, and loads what it means before this returns."""
        with self._watch.lock:
            self._watch.seen, self._watch.looked_s = self._signature(), self._clock()
        self._load()

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
            is_short = self.why_not is not None or self.trial is not None and self.trial.snapshot is None
            must_retry = is_short and now - watch.tried_s >= _RETRY_S
            if signature == watch.seen and not must_retry:
                return
            watch.seen, watch.tried_s, watch.is_loading = signature, now, True
        threading.Thread(target=self._load, name="load-version", daemon=True).start()

    def _load(self) -> None:
        """Loads what is asked for and swaps it in; whatever goes wrong leaves the present one answering."""
        try:
            self._load_champion()
            self._load_candidate()
        finally:
            self._watch.is_loading = False

    def _load_champion(self) -> None:
        try:
            version = self._wanted()
            if self._current is None or self._current.version.ref != version.ref:
                tried = self.trial
                if tried is not None and tried.snapshot and tried.snapshot.version.ref == version.ref:
                    self._current, self.trial = tried.snapshot, None  # promoted: it is warm already
                else:
                    self._current = self._opened(version)
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

    def _load_candidate(self) -> None:
        """Opens who is tried out; one that cannot be opened is told of, and never in the champion's way."""
        if self.config.version is not None:
            return
        try:
            held = self.aliases.holding(self.config.graph, self.config.alias)
        except (OSError, ValueError):
            return  # what the alias file says is told where the champion is loaded
        tried = None if held is None else held.candidate
        known = self.trial
        if tried is None:
            self.trial = None
        elif known is not None and known.snapshot is not None and known.candidate.version == tried.version:
            self.trial = Trial(tried, known.snapshot)
        else:
            try:
                self.trial = Trial(tried, self._opened(self.models.load(tried.version)))
                log.info("version %s is tried as %s", tried.version, tried.stage)
            except Exception as error:  # noqa: BLE001 - a candidate that breaks must leave the champion alone
                self.trial = Trial(tried, None, f"{type(error).__name__}: {error}")
                log.warning("candidate %s cannot be loaded: %s", tried.version, error)

    def _opened(self, version: ModelVersion) -> Snapshot:
        found = open_snapshot(self.home, self.models, version)
        warm_up(found)
        return found

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

    def close(self) -> None:
        """Writes what waits and lets go of the logs."""
        self.arms.drain()
        self.adaptation.close()
        self.feedback.close()
        self.exposures.close()

    def _signature(self) -> Holding | str | None:
        """Changes whenever the alias or its candidate does; reads one small file."""
        try:
            return self.aliases.holding(self.config.graph, self.config.alias)
        except (OSError, ValueError) as error:
            return str(error)
