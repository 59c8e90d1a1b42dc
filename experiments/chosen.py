"""From a trial that a search found to a run: fitted on training and validation, measured once on test."""

from configs.home import Home
from configs.registry import fill
from experiments.audit import audit
from experiments.result import RunResult, plain
from experiments.run import Progress, run, seeded
from experiments.spaces import SearchConfig
from experiments.splits import Split, SplitConfig, split
from experiments.studies import SearchError, SearchResult
from experiments.tuning import Trial, Tuning, lay_over
from kg.arrays import GraphArrays


def cut_for(settings: SearchConfig, graph: GraphArrays) -> Split:
    """The split of a search's experiment, audited; trials look at its validation part alone."""
    cut = split(graph, fill(SplitConfig, settings.experiment.split, "split"))
    audit(cut, graph)
    return seeded(cut, settings.experiment.seed)


def measured(
    settings: SearchConfig,
    result: SearchResult,
    number: int,
    graph: GraphArrays,
    home: Home,
    progress: Progress | None = None,
) -> RunResult:
    """The run that a complete trial becomes; all complete trials are told in it.

    Raises:
        SearchError: no such trial, or it has no value.
    """
    chosen, experiment = result.trial(number), settings.experiment
    if chosen.state != "complete":
        there = ", ".join(str(one.number) for one in result.complete) or "none"
        raise SearchError(f"trial {number} must be complete, it {chosen.state}; choose one of {there}")
    model, train = lay_over(experiment.model, experiment.train, chosen.settings)
    place = result.objectives.index(settings.metric)
    tried = {
        one.number: Trial(one.settings, one.values[place], one.seconds, one.epochs, one.curve)
        for one in result.complete
    }
    tuned = Tuning(tried[number], tuple(tried.values()), settings.trials, model, train)
    told = plain({**vars(experiment), "model": model, "train": train})
    return run(told, graph, home, progress, tuned, result.folder.name)
