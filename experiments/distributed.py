"""Trains one model in several processes of this machine through Ray Train, each in the one training loop."""

import hashlib
import importlib
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
import torch.distributed as processes
from ray.train.torch import TorchConfig, TorchTrainer
from torch import Tensor, nn

from configs.registry import SettingError
from experiments.splits import Part
from experiments.steps import Team, TrainingError
from experiments.training import FitConfig, FitResult, Progress, finished, fit
from kg.arrays import GraphArrays
from models.interface import Trainable, Training, recommenders

OBJECT_STORE_BYTES = 100 * 2**20
"""Besides room for the graphs that all workers read."""
LOG = "epochs.txt"
STARTS = 3
"""Attempts to start Ray: on a machine under load its helpers may be late."""


class TorchTeam(Team):
    """Processes of one torch process group, each with a copy of the model."""

    def __init__(self) -> None:
        self.rank, self.size = processes.get_rank(), processes.get_world_size()

    def average(self, module: nn.Module, loss: Tensor | None) -> float:
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        count = torch.tensor([0.0 if loss is None else 1.0, 0.0 if loss is None else float(loss.detach())])
        processes.all_reduce(count)
        batches, total = count.tolist()
        dense = [_gradient(parameter) for parameter in parameters if not _is_sparse(module, parameter)]
        if dense:
            together = torch.cat([gradient.flatten() for gradient in dense])
            processes.all_reduce(together)
            parts = (together / batches).split([gradient.numel() for gradient in dense])
            for gradient, part in zip(dense, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        for parameter in parameters:
            if _is_sparse(module, parameter):
                parameter.grad = self._sparse(parameter) / batches
        return total / batches

    def from_first(self, tensor: Tensor) -> Tensor:
        sent = tensor.clone()
        processes.broadcast(sent, 0)
        return sent

    def check(self, module: nn.Module) -> None:
        digest = hashlib.blake2b(digest_size=8)
        for parameter in module.parameters():
            digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
        own = torch.tensor([int.from_bytes(digest.digest(), signed=True)])
        found = [torch.empty_like(own) for _ in range(self.size)]
        processes.all_gather(found, own)
        if any(not torch.equal(one, found[0]) for one in found):
            raise TrainingError(
                f"all {self.size} workers must hold the same parameters, they differ after training: "
                "steps() must yield as many batches in each, and fit() must draw from the seed alone"
            )

    def _sparse(self, parameter: Tensor) -> Tensor:
        """(r, d) sum of the rows that any worker touched."""
        own = parameter.grad
        if own is None:
            own = torch.sparse_coo_tensor(
                torch.empty(1, 0, dtype=torch.long),
                parameter.new_empty(0, *parameter.shape[1:]),
                parameter.shape,
            )
        found: list[Any] = [None] * self.size
        own = own.coalesce()
        processes.all_gather_object(found, (own.indices(), own.values()))
        indices = torch.cat([part[0] for part in found], 1)
        values = torch.cat([part[1] for part in found])
        return torch.sparse_coo_tensor(indices, values, parameter.shape, check_invariants=True).coalesce()


@dataclass(frozen=True)
class Order:
    """What every worker is told."""

    model: Mapping[str, Any]
    module: str
    """Where the model is: a worker imports no other."""
    training: Training
    validation: Part | None
    config: FitConfig
    folder: str


def fit_distributed(
    model: Mapping[str, Any],
    training: Training,
    validation: Part | None,
    config: FitConfig,
    progress: Progress | None = None,
    folder: Path | None = None,
) -> tuple[Trainable, FitResult]:
    """Trains in ``config.workers`` processes: each takes its share of the batches, gradients are averaged.

    All workers draw the same order of positives, so that a positive is met once an epoch; the first worker
    measures and saves, and all hold the same parameters to the bit at the end, or it fails. Deterministic for
    the seed and the number of workers, also when taken up again.

    A step of W workers reads W batches. It equals, up to rounding, a step of one process whose batch is W
    times as large where the loss is a mean over the batch and negatives are drawn before batches are cut
    (``lightgcn`` with ``bpr``); the last step of an epoch may weight its batches otherwise. Ray runs on
    loopback and ends with the training.

    Args:
        model: ``name`` of a trainable recommender and its settings.
        training: what it learns from.
        validation: measured after each epoch; None trains all epochs and keeps the last.
        config: how; ``threads`` are those of each worker, None means one.
        progress: told after each epoch.
        folder: where a checkpoint is kept after each epoch, and taken up; None keeps none.

    Returns:
        The trained model in this process, and how training went.

    Raises:
        TrainingError: a worker failed, with what it said.
        SettingError: Ray runs already in this process, or the model is not trained by steps.
    """
    settings = dict(model)
    recommender = recommenders.build(settings.pop("name"), settings)
    if not isinstance(recommender, Trainable):
        raise SettingError(f"{model['name']} is fitted in closed form: leave train.workers out")
    with tempfile.TemporaryDirectory(prefix="mg-workers-", ignore_cleanup_errors=True) as scratch:
        kept = Path(scratch) / "checkpoint" if folder is None else folder
        kept.mkdir(parents=True, exist_ok=True)
        order = Order(
            dict(model), type(recommender).__module__, training, validation, config, str(kept.resolve())
        )
        with _ray(config.workers, training.graph, Path(scratch)), _told(Path(scratch) / LOG, progress):
            _train(order, Path(scratch))
        return recommender, finished(recommender, training, validation, config, kept)


def _train(order: Order, scratch: Path) -> None:
    trainer = TorchTrainer(
        _work,
        train_loop_config={"order": ray.put(order), "log": str(scratch / LOG)},
        scaling_config=ray.train.ScalingConfig(
            num_workers=order.config.workers, resources_per_worker={"CPU": 1}
        ),
        run_config=ray.train.RunConfig(name="training", storage_path=str(scratch / "ray")),
        torch_config=TorchConfig(backend="gloo"),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise TrainingError(_reason(error)) from None


def _reason(error: Any) -> str:
    """What the worker that failed first said, without Ray's traces."""
    failures = getattr(error, "worker_failures", {})  # where Ray itself failed there is none
    causes = [getattr(cause, "_base_exc", cause) for cause in failures.values()]
    own = [str(cause) for cause in causes if isinstance(cause, ValueError | RuntimeError)]
    known = [str(cause) for cause in causes if isinstance(cause, TrainingError)]
    return (known or own or [str(error)])[0]


def _work(given: dict[str, Any]) -> None:
    """One worker: the loop of one process, as a member of a team."""
    order: Order = ray.get(given["order"])
    importlib.import_module(order.module)
    torch.set_num_threads(order.config.threads or 1)
    settings = dict(order.model)
    model = recommenders.build(settings.pop("name"), settings)

    def tell(line: str) -> None:
        with Path(given["log"]).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    fit(model, order.training, order.validation, order.config, tell, Path(order.folder), team=TorchTeam())


@contextmanager
def _ray(workers: int, graph: GraphArrays, scratch: Path) -> Iterator[None]:
    """A Ray of our own with one processor a worker, on loopback; it ends here."""
    if ray.is_initialized():
        raise SettingError(
            "several workers need a Ray of their own, one runs in this process already (a search, or "
            "a server): set train.workers to 1 there"
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    tables = [*graph.nodes.values(), *graph.facts.values()]
    for attempt in range(1, STARTS + 1):
        try:
            ray.init(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES + 3 * sum(table.nbytes for table in tables),
                configure_logging=False,
                log_to_driver=False,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(scratch / "session"),
            )
            break
        except Exception as error:  # Ray raises nothing narrower where its helpers are late
            ray.shutdown()
            if attempt == STARTS:
                raise TrainingError(
                    f"Ray must start within 15 s, {STARTS} attempts ended with {error}: run it again on a "
                    "machine with less to do, or set train.workers to 1"
                ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _told(log: Path, progress: Progress | None) -> Iterator[None]:
    """Hands on the lines that the first worker writes, while it trains."""
    if progress is None:
        yield
        return
    over, done = threading.Event(), 0

    def hand_on() -> None:
        nonlocal done
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        for line in lines[done:]:
            progress(line)
        done = len(lines)

    def watch() -> None:
        while not over.wait(0.2):
            hand_on()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        hand_on()


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _is_sparse(module: nn.Module, parameter: Tensor) -> bool:
    tables = (part for part in module.modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag))
    return any(table.sparse and table.weight is parameter for table in tables)
