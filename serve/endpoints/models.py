"""GET /v1/models: versions of the graph, what each was measured at, and who holds which alias."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from models.store import ModelVersion
from serve.arms import Trial
from serve.endpoints import Endpoint, Reply, endpoints


class VersionReply(BaseModel):
    """One version."""

    ref: str
    model: str
    graph_hash: str
    aliases: list[str]
    is_serving: bool
    metrics: dict[str, Any]
    licence: str | None = Field(description="of the data it was trained on")
    created: str | None


class MoveReply(BaseModel):
    """An alias that went from one version to another."""

    alias: str
    version: str
    previous: str | None
    reason: str
    at_ts: float
    step: str = Field(description="promote, shadow, canary, champion, end, rollback or undone")
    candidate: str | None = Field(description="version tried out from then on")
    share: float | None = Field(description="of people, where one is tried out")


class TrialReply(BaseModel):
    """Who is tried out beside the version that answers."""

    version: str
    stage: str
    share: float
    is_loaded: bool
    why_not: str | None = Field(description="why it is not loaded; the champion answers for it")


class ModelsReply(Reply):
    """What answers, and what else there is."""

    graph: str
    serving: str | None
    aliases: dict[str, str]
    versions: list[VersionReply]
    trial: TrialReply | None
    history: list[MoveReply] = Field(description="moves of the aliases, oldest first")


@endpoints.register("models")
class Models(Endpoint):
    """Reads the ModelStore; a version that is served need not be the newest."""

    name = "models"
    method = "GET"
    path = "/v1/models"
    summary = "Versions behind each alias"
    Reply = ModelsReply

    def answer(self, request: object) -> ModelsReply:
        store, graph, current = self.gateway.models, self.gateway.config.graph, self.gateway.current
        held = store.aliases(graph)
        history = [move for alias in held for move in store.history(graph, alias)]
        serving = None if current is None else current.version.ref
        return ModelsReply(
            graph=graph,
            serving=serving,
            aliases=held,
            versions=[
                _version(version, held, serving) for version in store.versions() if version.graph == graph
            ],
            trial=_trial(self.gateway.trial),
            history=[
                MoveReply(
                    alias=move.alias,
                    version=move.version,
                    previous=move.previous,
                    reason=move.reason,
                    at_ts=move.at_ts,
                    step=move.step,
                    candidate=move.candidate,
                    share=move.share,
                )
                for move in history
            ],
        )


def _trial(trial: Trial | None) -> TrialReply | None:
    if trial is None:
        return None
    tried = trial.candidate
    return TrialReply(
        version=tried.version,
        stage=tried.stage,
        share=tried.share,
        is_loaded=trial.snapshot is not None,
        why_not=trial.why_not,
    )


def _version(version: ModelVersion, held: Mapping[str, str], serving: str | None) -> VersionReply:
    return VersionReply(
        ref=version.ref,
        model=version.model,
        graph_hash=version.graph_hash,
        aliases=sorted(alias for alias, ref in held.items() if ref == version.ref),
        is_serving=version.ref == serving,
        metrics=dict(version.metrics),
        licence=version.manifest.get("licence"),
        created=version.manifest.get("created"),
    )
