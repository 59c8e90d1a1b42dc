"""GET /v1/models: versions of the graph, what each was measured at, and who holds which alias."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from models.store import ModelVersion
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


class ModelsReply(Reply):
    """What answers, and what else there is."""

    graph: str
    serving: str | None
    aliases: dict[str, str]
    versions: list[VersionReply]
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
            history=[
                MoveReply(
                    alias=move.alias,
                    version=move.version,
                    previous=move.previous,
                    reason=move.reason,
                    at_ts=move.at_ts,
                )
                for move in history
            ],
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
