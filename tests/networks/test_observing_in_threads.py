"""One network in several threads: the same bits as alone, nothing left changed, and its owner's passes undisturbed."""

from __future__ import annotations

import gc
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import diffeo
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from diffeo.networks import model_state  # noqa: E402


class Slow(torch.nn.Module):
    """Gives other threads the time to come in between."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 5).double()

    def forward(self, x):
        time.sleep(1e-3)
        return torch.tanh(self.layer(x))


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(Slow(), torch.nn.Dropout(0.5), torch.nn.Linear(5, 4).double()).train()


INPUTS = np.random.default_rng(0).random((8, 40, 2))
USES = {
    "observe": lambda net, x: diffeo.observe(net, x, layer="0").whitening,
    "capture": lambda net, x: diffeo.capture(net, x, "0")["0"],
}


def hooks_of(net):
    return [hook for module in net.modules() for hook in module._forward_hooks.values()]


@pytest.mark.parametrize("use", USES)
def test_eight_threads_on_one_network_give_the_bits_of_one(use):
    net = network()
    alone = [USES[use](net, x) for x in INPUTS]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda x: USES[use](net, x), INPUTS))
    assert all(np.array_equal(*pair) for pair in zip(alone, together, strict=True))
    assert all(module.training for module in net.modules())
    assert torch.backends.mha.get_fastpath_enabled()
    assert not hooks_of(net)


def test_passes_of_the_owner_are_neither_heard_nor_disturbed():
    net, stop, failures, served = network(), threading.Event(), [], []
    x = torch.tensor(INPUTS[0])
    with torch.no_grad():
        expected = net[0](x)

    def serve():
        while not stop.is_set():
            try:
                with torch.no_grad():
                    net(x)
                    served.append(bool(torch.equal(net[0](x), expected)))
            except BaseException as failure:
                failures.append(failure)

    alone = USES["observe"](net, INPUTS[1])
    owner = threading.Thread(target=serve)
    owner.start()
    try:
        for _ in range(3):
            assert np.array_equal(USES["observe"](net, INPUTS[1]), alone)
    finally:
        stop.set()
        owner.join()
    assert not failures
    assert served
    assert all(served)


def test_a_hook_that_an_interrupt_left_behind_is_removed_and_those_of_the_user_stay():
    net = network()
    mine = net[0].register_forward_hook(lambda *_: None)

    def hear(*_):
        pass

    hear.__module__ = "diffeo.networks.hooks"
    with model_state.prepared(net, None):
        net[0].register_forward_hook(hear)
    assert len(hooks_of(net)) == 1
    mine.remove()


def test_what_was_changed_is_undone_where_the_end_never_ran():
    net = network()
    block = model_state.prepared(net, None)
    block.__enter__()
    assert not net.training
    del block
    gc.collect()
    assert all(module.training for module in net.modules())
    assert torch.backends.mha.get_fastpath_enabled()
    # The turn of other threads has come, too.
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(model_state._one_at_a_time.acquire, timeout=5).result()
        pool.submit(model_state._one_at_a_time.release).result()


def test_warnings_as_errors_end_no_pass():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert diffeo.observe(network(), INPUTS[0], layer="0").dim == 2
        assert len(diffeo.suggest_neurons(network(), INPUTS[0], layer="0").neurons)
