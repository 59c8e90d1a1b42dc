"""The steps of the adaptation loop in service: which are on, for which version, and why one is off.

A step that cannot be taken costs neither the feedback nor the answer: it is left out, and said."""

import hashlib
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace

from configs.home import Home
from configs.loading import load
from configs.registry import SettingError, fill
from kg.feedback import FeedbackError, FeedbackEvent, FeedbackLog
from models.adapted import Adapted
from models.adapter_bank import AdapterBank, AdapterBankError
from models.head_files import FittedHead, HeadError, load_head
from serve.counters import Counters
from serve.instant_tier import InstantTier, Learned, Sources
from serve.snapshot import Snapshot

SETTINGS = "serve/adaptation.yaml"
_LOOK_S = 5.0
_KEPT = 4  # versions that may answer in turn
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AdaptationConfig:
    """Which steps of the loop are on; how the instant tier learns stands in the head of each version."""

    live_history: bool = True
    """The model is told what was liked since it was fitted."""
    instant_tier: bool = True
    """Feedback moves its person's adapter, where `mg adapters fit` fitted a head for the version."""
    must_be_shown: bool = True
    """Only where that head was shown on validation to add something; off, wherever there is one."""
    base_tier: bool = True
    """A version with a shared adapter answers with it; off, its base answers."""

    def __post_init__(self) -> None:
        for name in ("live_history", "instant_tier", "must_be_shown", "base_tier"):
            if not isinstance(getattr(self, name), bool):
                raise SettingError(f"{name} is on or off, got {getattr(self, name)!r}: write true or false")

    @classmethod
    def named(cls, settings: str = SETTINGS) -> "AdaptationConfig":
        """As a file under ``configs/``, or a path, says."""
        return fill(cls, load(settings), settings)


@dataclass(frozen=True)
class _Looked:
    """The tier of a version, or why it has none, as it was when its head was last looked at."""

    tier: InstantTier | None
    why_not: str | None
    said: str
    """What its adapters were shown to add."""
    seen: tuple[int, int] | None
    """Of the file of the head: nanoseconds of its last change, and bytes."""
    looked_s: float


class Adaptation:
    """All tiers of one process; safe to use from many threads.

    Args:
        home: where heads and banks lie.
        graph: whose.
        config: which steps are on.
        feedback: the durable log.
        counters: of this process.
        now: UTC seconds.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        home: Home,
        graph: str,
        config: AdaptationConfig,
        feedback: FeedbackLog,
        counters: Counters,
        now: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self.config = config
        self._home, self._graph, self._feedback, self._counters = home, graph, feedback, counters
        self._now, self._clock = now, clock
        self._known: OrderedDict[str, _Looked] = OrderedDict()
        self._bases: OrderedDict[str, Snapshot] = OrderedDict()
        self._lock = threading.Lock()

    def answering(self, snapshot: Snapshot) -> Snapshot:
        """The version itself; with the base tier off and a version that has one, its base."""
        if self.config.base_tier or not isinstance(snapshot.model, Adapted):
            return snapshot
        with self._lock:
            ref = snapshot.version.ref
            if ref not in self._bases:
                self._bases[ref] = replace(snapshot, model=snapshot.model.bare(snapshot.graph))
                while len(self._bases) > _KEPT:
                    self._bases.popitem(last=False)
            return self._bases[ref]

    def tier(self, snapshot: Snapshot) -> InstantTier | None:
        """The instant tier of a version; None where it is off, see :meth:`why_off`."""
        return self._look(snapshot).tier if self.config.instant_tier else None

    def why_off(self, snapshot: Snapshot) -> str | None:
        """Why events move nothing; None where they do."""
        if not self.config.instant_tier:
            return "switched off"
        return self._look(snapshot).why_not

    def state(self, snapshot: Snapshot) -> str:
        """What is to be known of the instant tier, in a sentence."""
        why_off = self.why_off(snapshot)
        if why_off is not None:
            return f"off: {why_off}"
        looked = self._look(snapshot)
        why_not = None if looked.tier is None else looked.tier.shelf.why_not
        said = f"on: {looked.said}"
        return said if why_not is None else f"{said}; out of the log alone: {why_not}"

    def follow(self, snapshot: Snapshot) -> None:
        """Brings the adapters of a version up to the log beside, where no other process does."""
        tier = self.tier(snapshot)
        if tier is not None:
            tier.follow()

    def learn(self, event: FeedbackEvent, snapshots: Sequence[Snapshot]) -> None:
        """Moves adapters by an event that is in the log; what goes wrong is counted, never raised."""
        for snapshot in snapshots:
            try:
                tier = self.tier(snapshot)
                if tier is not None:
                    tier.learn(event)
            except (AdapterBankError, FeedbackError, OSError, ValueError) as error:
                self._counters.count_fault()
                log.warning("an event of the log waits to be learned by %s: %s", snapshot.version.ref, error)

    def record(self, tier: InstantTier, user_id: str, events: Sequence[FeedbackEvent]) -> Learned | None:
        """The adapter of somebody after all their events; None where it cannot be made."""
        try:
            return tier.record(user_id, events)
        except (AdapterBankError, FeedbackError, OSError, ValueError) as error:
            self._counters.count_fault()
            log.warning("an adapter cannot be read: %s", error)
            return None

    def forget(self, user_id: str) -> int:
        """Erases somebody's feedback and their adapters in every bank of the graph; the number of events.

        Raises:
            AdapterBankError: another process writes a bank, and nothing was erased; or one refused.
            FeedbackError: the log cannot be written, or is in use; nothing was erased.
        """
        with self._lock:
            tiers = [looked.tier for looked in self._known.values() if looked.tier is not None]
            for tier in tiers:
                tier.must_write()
            mine = {tier.shelf.folder for tier in tiers}
            root = self._home.adapters(self._graph)
            folders = {path.parent for path in root.glob("*/spec.json")} - mine
            with ExitStack() as held:
                others = [
                    held.enter_context(AdapterBank(folder, writable=True)) for folder in sorted(folders)
                ]
                events = self._feedback.forget(user_id)  # first, or an answer learns it again
                for bank in (*tiers, *others):
                    bank.forget(user_id)
            return events

    def close(self) -> None:
        """Commits what was learned, and lets other processes write."""
        with self._lock:
            for looked in self._known.values():
                if looked.tier is not None:
                    looked.tier.close()
            self._known.clear()

    def _look(self, snapshot: Snapshot) -> _Looked:
        """What is known of a version's head; a file that came or changed is noticed within seconds."""
        ref, now = snapshot.version.ref, self._clock()
        known = self._known.get(ref)
        if known is not None and now - known.looked_s < _LOOK_S:
            return known
        with self._lock:
            known = self._known.get(ref)
            if known is not None and now - known.looked_s < _LOOK_S:
                return known
            seen = self._signature(snapshot)
            if known is not None and known.seen == seen:
                known = replace(known, looked_s=now)
            else:
                known = self._opened(snapshot, seen, known)
            self._known[ref] = known
            while len(self._known) > _KEPT:
                _, old = self._known.popitem(last=False)
                if old.tier is not None:
                    old.tier.close()
            return known

    def _signature(self, snapshot: Snapshot) -> tuple[int, int] | None:
        try:
            found = self._home.head(snapshot.graph.name, snapshot.version.ref).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size

    def _opened(self, snapshot: Snapshot, seen: tuple[int, int] | None, before: _Looked | None) -> _Looked:
        if before is not None and before.tier is not None:
            before.tier.close()
        ref, now = snapshot.version.ref, self._clock()
        if seen is None:
            why_not = f"no head was fitted for {ref}: `mg adapters fit {ref}` makes one, and measures it"
            return _Looked(None, why_not, "", seen, now)
        try:
            fitted = load_head(self._home.head(snapshot.graph.name, ref), snapshot.version)
            said = "nobody measured what its adapters add" if fitted.shown is None else fitted.shown.said
            if self.config.must_be_shown and not (fitted.shown and fitted.shown.is_better):
                why_not = (
                    f"adapters of {ref} are not shown to add anything ({said}); must_be_shown: false has"
                )
                return _Looked(None, f"{why_not} them all the same", said, seen, now)
            return _Looked(self._made(snapshot, fitted), None, said, seen, now)
        except (HeadError, SettingError) as error:
            self._counters.count_fault()
            log.warning("no instant tier for %s: %s", ref, error)
            return _Looked(None, str(error), "", seen, now)

    def _made(self, snapshot: Snapshot, fitted: FittedHead) -> InstantTier:
        head, config, ref = fitted.head, fitted.instant, snapshot.version.ref
        if head.content_count != len(snapshot.content_ids):
            raise HeadError(
                f"the head of {ref} must know its {len(snapshot.content_ids)} contents, it knows "
                f"{head.content_count}: fit it again with `mg adapters fit {ref}`"
            )
        learned_by = json.dumps([head.hash, asdict(config)], sort_keys=True).encode()
        name = f"{ref.replace('/', '-')}-{hashlib.sha256(learned_by).hexdigest()[:12]}"
        folder, sources = (
            self._home.adapters(snapshot.graph.name) / name,
            Sources.of(snapshot, self._feedback),
        )
        return InstantTier(head, config, folder, sources, self._counters, self._now, self._clock)
