"""EWC++, drift and reservoir against autograd, per-example gradients of torch.func, and known answers."""

import numpy as np
import pytest
import torch
from torch import nn

from configs.registry import SettingError
from models.continual import Anchors, Drift, EWCConfig, Reservoir, gradients, held, look


@pytest.fixture
def net():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5)).double()


def examples_of(net, rows):
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 3, generator=rng, dtype=torch.float64)
    y = torch.randint(5, (rows,), generator=rng)
    return x, y


def test_fisher_is_that_of_single_examples_as_torch_func_takes_them(net):
    x, y = examples_of(net, 7)
    parameters = dict(net.named_parameters())
    anchors = Anchors(parameters, EWCConfig(strength=1, memory=0.9))
    loss = nn.functional.cross_entropy
    anchors.settle(parameters)
    look(anchors, [lambda i=i: loss(net(x[i : i + 1]), y[i : i + 1]) for i in range(7)], net, parameters)

    def one(parameters, x, y):
        return loss(torch.func.functional_call(net, parameters, (x[None],)), y[None])

    plain = {name: value.detach() for name, value in parameters.items()}
    each = torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0))(plain, x, y)
    for name in parameters:
        wanted = torch.zeros_like(plain[name])
        for gradient in each[name]:
            wanted = 0.9 * wanted + 0.1 * gradient**2
        torch.testing.assert_close(anchors.fisher(name), wanted)
        batch = 0.1 * torch.stack(list(each[name])).mean(0) ** 2
        assert not torch.allclose(anchors.fisher(name), batch)  # of a batch mean it would be another


def test_the_gradient_of_the_penalty_is_lambda_f_times_the_way_moved_and_is_added(net):
    x, y = examples_of(net, 5)
    parameters = dict(net.named_parameters())
    anchors = Anchors(parameters, EWCConfig(strength=7.0, memory=0.5))
    loss = nn.functional.cross_entropy
    anchors.settle(parameters)
    look(anchors, [lambda i=i: loss(net(x[i : i + 1]), y[i : i + 1]) for i in range(5)], net, parameters)
    with torch.no_grad():
        for value in parameters.values():
            value += torch.randn_like(value)
    alone = gradients(loss(net(x), y), parameters)
    (both,) = held([lambda: loss(net(x), y)], anchors, parameters)
    for name, gradient in gradients(both(), parameters).items():
        pull = 7.0 * anchors.fisher(name) * (parameters[name].detach() - anchors.star(name))
        torch.testing.assert_close(gradient, alone[name] + pull)


def test_a_step_with_the_penalty_goes_towards_where_the_task_ended(net):
    parameters = dict(net.named_parameters())
    anchors = Anchors(parameters, EWCConfig(strength=1.0, memory=0.0))
    anchors.observe({name: torch.ones_like(value) for name, value in parameters.items()})
    with torch.no_grad():
        for value in parameters.values():
            value += 1
    for name, gradient in gradients(anchors.penalty(parameters), parameters).items():
        torch.testing.assert_close(parameters[name] - gradient, anchors.star(name))


def test_no_strength_leaves_losses_alone_and_new_rows_are_free():
    losses = [lambda: torch.ones(())]
    parameters = {"w": torch.ones(2, 3)}
    anchors = Anchors(parameters, EWCConfig())
    assert list(held(losses, anchors, parameters)) == losses == list(held(losses, None, parameters))
    firm = Anchors(parameters, EWCConfig(strength=1.0, memory=0.0))
    firm.observe({"w": torch.ones(2, 3)})
    grown = {"w": torch.cat([torch.ones(2, 3), torch.full((1, 3), 9.0)])}
    assert firm.penalty(grown).item() == 0
    firm.settle(grown)
    assert firm.fisher("w").tolist() == [[1.0] * 3, [1.0] * 3, [0.0] * 3]


def test_drift_speaks_for_another_task_and_only_after_fifty_samples():
    rng = torch.Generator().manual_seed(0)
    drift = Drift()
    other = 6 + torch.randn(40, generator=rng)
    said = []
    for place in range(200):
        if place == 20:
            assert not Drift().add(other)  # too early to tell
        said.append(drift.add(torch.randn(40, generator=rng)))
    assert not any(said) and drift.z(torch.randn(40, generator=rng)) == pytest.approx(0.8, abs=0.2)
    assert drift.add(other) and drift.count == 200
    drift.restart()
    assert not drift.add(other) and drift.count == 1


def test_drift_leaves_out_what_never_moved():
    drift = Drift(least=2)
    for value in (1.0, -1.0, 1.0):
        drift.add(torch.tensor([value, 0.0]))
    assert drift.z(torch.tensor([1 / 3, 5.0])) == pytest.approx(0, abs=1e-6)


def test_a_reservoir_keeps_each_with_the_same_chance():
    kept = np.zeros(20)
    for seed in range(2_000):
        one = Reservoir(5, seed)
        one.add(np.arange(12))
        one.add(np.arange(12, 20))
        assert len(one.pairs) == 5 and one.seen == 20
        kept[one.pairs] += 1
    np.testing.assert_allclose(kept / 2_000, 0.25, atol=0.04)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: EWCConfig(strength=-1), "strength of 0 or more"),
        (lambda: EWCConfig(memory=1.0), "memory in"),
        (lambda: EWCConfig(strength=float("nan")), "strength of 0 or more"),
        (lambda: Drift(bar=0), "bar above 0"),
        (lambda: Reservoir(0), "capacity of 1"),
    ],
)
def test_what_cannot_be_is_refused(made, said):
    with pytest.raises(SettingError, match=said):
        made()
