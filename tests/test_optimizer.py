"""AdamW with moments of 8 bits: close to torch's, a quarter of its memory, and only where it can stand in."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import LambdaLR

from zoo_core.accounting.ledger import bytes_of
from zoo_core.compute import adamw_8bit, optimizer
from zoo_core.compute.adamw_8bit import AdamW8bit, bytes_of_moments, decoded, encoded, table
from zoo_core.errors import ModelError, PluginError, StorageError
from zoo_core.run import Run
from zoo_core.schedule import set_learning_rate
from zoo_core.session.kept import restore
from zoo_core.testing.tiny import tiny_session

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_moments() -> Iterator[None]:
    optimizer.optimize_with("adamw-8bit")
    yield
    optimizer.optimize_with("adamw")


def made(weights: list[nn.Parameter], **settings: Any) -> AdamW8bit:
    """The optimizer that a run would keep."""
    found = optimizer.optimizer_of_the_bench(AdamW(weights, **{"lr": 0.01, "weight_decay": 0.0, **settings}))
    assert isinstance(found, AdamW8bit)
    return found


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def steps(made_by: Any, count: int, **settings: Any) -> tuple[Tensor, torch.optim.Optimizer]:
    """A weight after steps along gradients of different sizes."""
    draw = torch.Generator().manual_seed(1)
    weight = parameter(64, 128)
    found = made_by([weight], **settings)
    sizes = 0.05 + torch.rand(64, 1, generator=draw)
    for _ in range(count):
        weight.grad = sizes * torch.randn(64, 128, generator=draw)
        found.step()
    return weight.detach(), found


def test_the_table_is_that_of_dynamic_trees() -> None:
    # Powers of ten from 1e-6 on; 1, 2, 4 ... 64 parts of 0.1 to 1, of both signs. The first: (0.1 + 1) / 2 = 0.55.
    values = table(True, CPU)
    assert len(values) == 2 * (1 + 2 + 4 + 8 + 16 + 32 + 64) + 2 == 256
    assert values[127:131].tolist() == pytest.approx([0.0, 0.55e-6, 0.325e-5, 0.775e-5])  # 2 parts: 0.1 + 0.9 / 4, ...
    assert values[[0, -2, -1]].tolist() == pytest.approx([-0.99296875, 0.99296875, 1.0])  # 1 - 0.9 / 128
    # Without a sign there are twice as many: 0.1 + 0.9 / 4 and 0.1 + 3 * 0.9 / 4 at the first power.
    assert table(False, CPU)[:3].tolist() == pytest.approx([0.0, 0.325e-6, 0.775e-6])
    assert len(table(False, CPU)) == 256


def test_a_number_becomes_the_entry_nearest_to_its_share_of_the_largest_in_its_block() -> None:
    numbers = torch.randn(512, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 2, 512)
    values = table(True, CPU)
    codes, scale = encoded(numbers, values)
    shares = numbers.view(2, 256) / scale[:, None]
    nearest = (shares[..., None] - values).abs().min(-1).values
    assert scale.tolist() == [numbers[:256].abs().max(), numbers[256:].abs().max()]
    assert torch.equal((shares - values[codes.int()].view(2, 256)).abs(), nearest)
    assert torch.equal(decoded(codes, scale, values), (values[codes.int()].view(2, 256) * scale[:, None]).view(-1))


def test_a_block_of_zeros_stays_zero() -> None:
    codes, scale = encoded(torch.zeros(256), table(True, CPU))
    assert not decoded(codes, scale, table(True, CPU)).any()


@pytest.mark.parametrize("settings", [{}, {"betas": (0.9, 0.95), "weight_decay": 0.1}, {"eps": 1e-5}])
def test_the_first_step_is_that_of_torchs_adamw(settings: dict[str, Any]) -> None:
    ours, _ = steps(made, 1, **settings)
    torchs, _ = steps(AdamW, 1, **{"lr": 0.01, "weight_decay": 0.0, **settings})
    torch.testing.assert_close(ours, torchs)


def test_later_steps_differ_by_the_rounding_of_moments_only() -> None:
    start = parameter(64, 128).detach()
    ours, torchs = steps(made, 30)[0] - start, steps(AdamW, 30, lr=0.01, weight_decay=0.0)[0] - start
    assert not torch.equal(ours, torchs)
    assert (ours - torchs).norm() < 0.05 * torchs.norm()


def test_small_weights_and_those_that_blocks_do_not_divide_have_moments_in_float32() -> None:
    for shape in ((4095,), (63, 65), (17, 300)):
        one, other = parameter(*shape), parameter(*shape)
        ours, torchs = made([one]), AdamW([other], lr=0.01, weight_decay=0.0)
        for seed in range(5):
            one.grad = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
            other.grad = one.grad.clone()
            ours.step()
            torchs.step()
        torch.testing.assert_close(one, other)


def test_moments_take_two_bytes_a_weight_and_two_numbers_a_block() -> None:
    state = steps(made, 1)[1].state_dict()["state"][0]
    held = bytes_of(value for value in state.values() if isinstance(value, Tensor))
    assert held == bytes_of_moments(64 * 128) == 64 * 128 * 2 + 64 * 128 // 256 * 2 * 4


def test_the_size_of_a_piece_changes_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = steps(made, 3)
    monkeypatch.setattr(adamw_8bit, "PIECE", 768)  # does not divide the weight
    assert torch.equal(steps(made, 3)[0], whole)


def test_groups_keep_their_settings_and_a_schedule_sets_their_rate() -> None:
    weights = [parameter(4), parameter(5)]
    groups = [{"params": weights[:1], "lr": 0.5, "part": "body"}, {"params": weights[1:], "betas": (0.5, 0.6)}]
    found = optimizer.optimizer_of_the_bench(AdamW(groups, lr=0.1, eps=1e-3, weight_decay=0.2, fused=True))
    first, second = found.param_groups
    assert (first["lr"], first["part"], first["eps"], first["weight_decay"]) == (0.5, "body", 1e-3, 0.2)
    assert (second["lr"], second["betas"]) == (0.1, (0.5, 0.6))
    set_learning_rate(found, 0.4, 0.5)
    assert [group["lr"] for group in found.param_groups] == [0.4, 0.4]
    weights[0].grad = torch.ones(4)
    before = weights[0].detach().clone()
    found.step()
    torch.testing.assert_close(before * (1 - 0.4 * 0.2) - weights[0], torch.full((4,), 0.4), rtol=2e-3, atol=0.0)


def test_a_restored_optimizer_goes_on_to_the_same_bits() -> None:
    whole, _ = steps(made, 4)
    weight, found = steps(made, 2)
    again = nn.Parameter(weight.clone())
    other = made([again])
    restore("optimizer", other, found.state_dict())
    draw = torch.Generator().manual_seed(1)
    sizes = 0.05 + torch.rand(64, 1, generator=draw)
    gradients = [sizes * torch.randn(64, 128, generator=draw) for _ in range(4)]
    for gradient in gradients[2:]:
        again.grad = gradient
        other.step()
    assert torch.equal(again, whole)


def test_a_state_of_other_groups_is_refused() -> None:
    with pytest.raises(StorageError, match="does not fit what this run keeps under 'optimizer'"):
        restore("optimizer", made([parameter(4), parameter(5)]), made([parameter(4)]).state_dict())


def test_a_run_puts_it_in_the_place_of_adamw_and_counts_its_steps() -> None:
    session = tiny_session()
    run = Run(session)
    given = AdamW(run.policy.parameters(), lr=0.01)
    kept = run.keep("optimizer", given)
    assert type(kept) is AdamW8bit
    assert session.kept["optimizer"] is kept
    run.policy.get_parameter("lm_head.weight").grad = torch.ones(39, 32)
    kept.step()
    assert session.ledger.optimizer_steps == 1
    with pytest.raises(PluginError, match=r"train with the optimizer that run.keep returns"):
        given.step()


def test_what_it_cannot_stand_in_for_is_refused() -> None:
    weight = parameter(4)
    with pytest.raises(PluginError, match="AdamW only, not for SGD"):
        optimizer.optimizer_of_the_bench(SGD([weight]))
    with pytest.raises(PluginError, match="neither amsgrad nor maximize"):
        optimizer.optimizer_of_the_bench(AdamW([weight], amsgrad=True))
    scheduled = AdamW([weight])
    LambdaLR(scheduled, lambda _: 1.0)
    with pytest.raises(PluginError, match="make the schedule from"):
        optimizer.optimizer_of_the_bench(scheduled)
    stepped = AdamW([weight])
    weight.grad = torch.ones(4)
    stepped.step()
    with pytest.raises(PluginError, match="before its first step"):
        optimizer.optimizer_of_the_bench(stepped)


def test_a_second_moment_far_below_the_largest_of_its_block_becomes_zero() -> None:
    # Half of the first entry above 0, 0.325e-6: gradients below 4.03e-4 of the largest count as none in the second
    # moment, and as themselves in the first. That is of the format, and why epsilon matters with it.
    squares = torch.ones(256)
    squares[:2] = torch.tensor([0.162e-6, 0.163e-6])
    codes, _ = encoded(squares, table(False, CPU))
    assert codes[:2].tolist() == [0, 1]


def test_shards_of_fsdp_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "fsdp_plugin", object)
    with pytest.raises(ModelError, match=r"FSDP2: optimizer: adamw-8bit needs whole models.*DDP"):
        made([parameter(4)])


def test_without_the_word_an_optimizer_is_the_algorithms_own() -> None:
    optimizer.optimize_with("adamw")
    given = AdamW([parameter(4)])
    assert optimizer.optimizer_of_the_bench(given) is given


def test_a_toy_is_learnt_as_well_as_by_adamw() -> None:
    def loss_after(made_by: Any) -> float:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 64))
        inputs, wanted = torch.randn(32, 64), torch.randn(32, 64).tanh()
        found = made_by(list(net.parameters()), lr=3e-3, weight_decay=0.0)
        for _ in range(60):
            loss = (net(inputs) - wanted).square().mean()
            loss.backward()
            found.step()
            found.zero_grad()
        return loss.item()

    plain, small = loss_after(AdamW), loss_after(made)
    assert plain < 0.1
    assert small == pytest.approx(plain, rel=0.1)
