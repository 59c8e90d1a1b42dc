"""Run by an interpreter that has RecBole: trains its LightGCN, one epoch for each line it reads.

Answers each line of standard input with the seconds of one epoch; needs nothing of this repository.
Arguments: the folder that holds ``likes/likes.inter``, and the settings as JSON."""

import json
import sys
import time

import torch
from recbole.config import Config
from recbole.data import create_dataset
from recbole.data.dataloader import TrainDataLoader
from recbole.data.utils import create_samplers
from recbole.trainer import Trainer
from recbole.utils import get_model, init_seed


def main(folder: str, settings: dict[str, float]) -> None:
    """Makes the model ready, says so with one line, then serves epochs until standard input ends."""
    threads = int(settings["threads"])
    torch.set_num_threads(threads)
    config = Config(
        model="LightGCN",
        dataset="likes",
        config_dict={
            "data_path": folder,
            "load_col": {"inter": ["user_id", "item_id"]},
            "embedding_size": settings["width"],
            "n_layers": settings["layers"],
            "reg_weight": settings["regularization"],
            "train_batch_size": settings["batch"],
            "learning_rate": settings["learning_rate"],
            "torch_num_threads": threads,
            "eval_args": {"split": {"RS": [1.0, 0.0, 0.0]}, "order": "RO", "group_by": None, "mode": "full"},
            "use_gpu": False,
            "show_progress": False,
            "seed": 0,
        },
    )
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    parts = dataset.build()
    sampler = create_samplers(config, dataset, parts)[0]
    batches = TrainDataLoader(config, parts[0], sampler, shuffle=True)
    model = get_model("LightGCN")(config, batches.dataset)
    trainer = Trainer(config, model)
    torch.set_num_threads(threads)
    answer({"interactions": len(parts[0]), "batches": len(batches), "threads": torch.get_num_threads()})
    for number, _ in enumerate(sys.stdin):
        started = time.perf_counter()
        loss = trainer._train_epoch(batches, number)
        answer({"seconds": time.perf_counter() - started, "loss": float(loss)})


def answer(found: dict[str, float]) -> None:
    """One line of JSON on standard output."""
    sys.__stdout__.write(json.dumps(found) + "\n")
    sys.__stdout__.flush()


if __name__ == "__main__":
    sys.stdout = sys.stderr  # what the library prints is no answer
    main(sys.argv[1], json.loads(sys.argv[2]))
