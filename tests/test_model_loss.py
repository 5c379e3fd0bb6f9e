"""The training loss: its gradient, what it is blind to, and draws that share one encoding."""

import pytest
import torch

from rdt_data.errors import RdtError
from rdt_model import RDT, NoiseConfig, config_of_size, diffusion_loss
from rdt_model.diffusion import repeat_real_steps

BATCH = 3


@pytest.fixture(scope="module", params=["sample", "epsilon"])
def net(request):
    sizes = {"depth": 2, "hidden_size": 16, "pred_horizon": 6, "lang_token_dim": 5, "img_token_dim": 7}
    noise = NoiseConfig(prediction_type=request.param)
    config = config_of_size("tiny", **sizes, max_lang_cond_len=8, frames=1, cameras=2, patches=3, noise=noise)
    torch.manual_seed(0)
    net = RDT(config).double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net


@pytest.fixture(scope="module")
def batch(net):
    torch.manual_seed(1)
    config = net.config
    seen = {
        "lang_tokens": torch.randn(BATCH, 4, config.lang_token_dim),
        "lang_mask": torch.arange(4) < torch.tensor([[4], [2], [1]]),
        "img_tokens": torch.randn(BATCH, config.img_cond_len, config.img_token_dim),
        "state": torch.randn(BATCH, 1, config.action_dim),
        "action_mask": (torch.rand(BATCH, 1, config.action_dim) < 0.5).float(),
        "ctrl_hz": torch.tensor([5.0, 0.0, 50.0]),
    }
    actions = torch.randn(BATCH, config.pred_horizon, config.action_dim, dtype=torch.float64)
    valid = torch.arange(config.pred_horizon) < torch.tensor([[6], [4], [1]])
    return seen, actions, valid


def drawn(net, rows, seed=2):
    made = torch.Generator().manual_seed(seed)
    shape = (rows, net.config.pred_horizon, net.config.action_dim)
    noise = torch.randn(shape, generator=made, dtype=torch.float64)
    return {"noise": noise, "timesteps": torch.randint(1000, (rows,), generator=made)}


def loss_and_gradients(net, seen, *args, **options):
    net.zero_grad()
    loss = diffusion_loss(net, net.encode_conditions(**seen), *args, **options)
    loss.backward()
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in net.named_parameters()}


def test_the_gradient_of_every_weight_is_the_finite_difference(net, batch):
    seen, actions, valid = batch
    options = {**drawn(net, 2 * BATCH), "draws": 2}
    _, gradients = loss_and_gradients(net, seen, actions, valid, **options)
    torch.manual_seed(3)
    for name, parameter in net.named_parameters():
        direction, values = torch.randn_like(parameter), []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameter.add_(step * direction)
                values.append(diffusion_loss(net, net.encode_conditions(**seen), actions, valid, **options))
                parameter.sub_(step * direction)
        difference = (values[0] - values[1]) / 2e-6
        torch.testing.assert_close((gradients[name] * direction).sum(), difference, atol=1e-7, rtol=1e-5, msg=name)


def test_the_masked_loss_is_blind_to_unused_slots_and_padded_steps(net, batch):
    seen, actions, valid = batch
    real = (seen["action_mask"] > 0) & valid[:, :, None]
    changed = torch.where(real, actions, 100.0)
    first, second = (loss_and_gradients(net, seen, a, valid, **drawn(net, BATCH)) for a in (actions, changed))
    assert first[0].equal(second[0])
    assert all(first[1][name].equal(second[1][name]) for name in first[1])
    third = loss_and_gradients(net, seen, torch.where(real, actions + 1e-3, actions), valid, **drawn(net, BATCH))
    assert not first[0].equal(third[0])


def test_the_masked_loss_is_the_mean_over_real_slots_of_real_steps(net, batch):
    seen, actions, valid = batch
    cond, given = net.encode_conditions(**seen), drawn(net, BATCH)
    seen_by_net = []
    hook = net.model.register_forward_hook(lambda *call: seen_by_net.append(call[2]))
    loss = diffusion_loss(net, cond, actions, valid, **given)
    hook.remove()
    target = given["noise"] if net.config.noise.prediction_type == "epsilon" else actions
    squares = [
        (seen_by_net[0][row, step, slot] - target[row, step, slot]).square()
        for row in range(BATCH)
        for step in range(int(valid[row].sum()))
        for slot in seen["action_mask"][row, 0].nonzero()[:, 0]
    ]
    torch.testing.assert_close(loss, torch.stack(squares).mean())


def test_the_published_loss_sees_everything(net, batch):
    seen, actions, valid = batch
    given = {**drawn(net, BATCH), "mode": "rdt"}
    first, _ = loss_and_gradients(net, seen, actions, valid, **given)
    assert first.equal(loss_and_gradients(net, seen, actions, **given)[0])
    changed = actions.clone()
    changed[2, -1, -1] += 1
    assert not first.equal(loss_and_gradients(net, seen, changed, **given)[0])


@pytest.mark.parametrize("mode", ["masked", "rdt"])
def test_draws_from_one_encoding_are_the_mean_of_single_draws(net, batch, mode):
    seen, actions, valid = batch
    draws = [drawn(net, BATCH, seed) for seed in (5, 6, 7)]
    stacked = {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]}
    calls = []
    hook = net.img_adaptor.register_forward_hook(lambda *_: calls.append(1))
    loss, gradients = loss_and_gradients(net, seen, actions, valid, **stacked, mode=mode, draws=3)
    hook.remove()
    assert len(calls) == 1
    singles = [loss_and_gradients(net, seen, actions, valid, **draw, mode=mode) for draw in draws]
    torch.testing.assert_close(loss, torch.stack([single[0] for single in singles]).mean())
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, torch.stack([single[1][name] for single in singles]).mean(0))


def test_what_is_not_given_is_drawn_from_the_generator(net, batch):
    seen, actions, valid = batch
    cond = net.encode_conditions(**seen)
    first, second, other = (
        diffusion_loss(net, cond, actions, valid, draws=2, generator=torch.Generator().manual_seed(seed)).detach()
        for seed in (1, 1, 2)
    )
    assert first.equal(second)
    assert not first.equal(other)


def test_a_chunk_without_a_real_step_costs_nothing(net, batch):
    seen, actions, valid = batch
    loss, gradients = loss_and_gradients(net, seen, actions, torch.zeros_like(valid), **drawn(net, BATCH))
    assert loss == 0
    assert all(gradient.eq(0).all() for gradient in gradients.values())


def test_padded_steps_repeat_the_nearest_real_one():
    actions = torch.arange(4.0)[None, :, None].expand(3, 4, 2)
    valid = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1]]).bool()
    found = repeat_real_steps(actions, valid)[..., 0].tolist()
    assert found == [[0, 1, 1, 1], [2, 2, 2, 3], [1, 1, 1, 3]]
    assert repeat_real_steps(actions, None) is actions


def test_unknown_modes_and_other_shapes_are_refused(net, batch):
    seen, actions, valid = batch
    cond = net.encode_conditions(**seen)
    with pytest.raises(RdtError, match="no loss mode is called 'mask'\n  fix: did you mean 'masked'"):
        diffusion_loss(net, cond, actions, valid, mode="mask")
    with pytest.raises(RdtError, match=r"actions of shape \(3, 5, 128\); .* need \(3, 6, 128\)"):
        diffusion_loss(net, cond, actions[:, :5], valid)
