"""GET /v1/catalogue: the countries, platforms, genres and kinds that requests may name."""

from pydantic import BaseModel, Field

from kg import schema
from serve.endpoints import Endpoint, Reply, endpoints


class Named(BaseModel):
    """An id and what people call it."""

    id: str
    name: str


class CatalogueReply(Reply):
    """What there is to choose from."""

    graph: str
    graph_hash: str
    contents: int
    users: int
    regions: list[str] = Field(description="countries with at least one window")
    platforms: list[Named]
    genres: list[Named]
    kinds: list[str]
    simulated: list[str] = Field(description="types of fact of which some are made up")


@endpoints.register("catalogue")
class Catalogue(Endpoint):
    """Reads the graph of the version that answers."""

    name = "catalogue"
    method = "GET"
    path = "/v1/catalogue"
    summary = "Countries, platforms, genres and kinds of the graph"
    Reply = CatalogueReply

    def answer(self, request: object) -> CatalogueReply:
        snapshot = self.gateway.snapshot()
        graph = snapshot.graph
        return CatalogueReply(
            graph=graph.name,
            graph_hash=graph.hash,
            contents=len(snapshot.content_ids),
            users=graph.size("User"),
            regions=snapshot.regions,
            platforms=[
                Named(id=id, name=name or id.partition(":")[2])
                for id, name in zip(graph.ids("Platform"), snapshot.names("Platform"), strict=True)
            ],
            genres=[
                Named(id=id, name=name)
                for id, name in zip(graph.ids("Genre"), snapshot.genre_names, strict=True)
                if name
            ],
            kinds=sorted({str(kind) for kind in snapshot.kinds.tolist()} - {""}),
            simulated=sorted(graph.simulated_types & set(schema.FACTS)),
        )
