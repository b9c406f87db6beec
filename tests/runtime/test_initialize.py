"""Initial weights: the same for any number of ranks, one module in memory at a time."""

import pytest
import torch
from torch import nn

from superscaler.runtime.failures import WeightsError
from superscaler.runtime.initialize import (
    initial_weights,
    load_state_file,
    materialize_weights,
)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("unused", None)


def on_meta(make):
    with torch.device("meta"):
        return make()


def test_weights_do_not_depend_on_what_is_asked_for():
    whole = dict(initial_weights(on_meta(Tied), seed=3))
    some = dict(initial_weights(on_meta(Tied), seed=3, wanted={"layers.0.bias", "layers.0.weight"}))
    assert list(some) == ["layers.0.weight", "layers.0.bias"]
    assert all(torch.equal(some[name], whole[name]) for name in some)
    other = dict(initial_weights(on_meta(Tied), seed=4))
    assert not torch.equal(other["embed.weight"], whole["embed.weight"])


def test_the_generator_and_the_model_stay_as_they_were():
    model = on_meta(Tied)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    dict(initial_weights(model))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.is_meta for p in model.parameters())
    assert model.head.weight is model.embed.weight


def test_a_whole_model_gets_the_same_weights_and_stays_tied():
    values = dict(initial_weights(on_meta(Tied), seed=1))
    model = materialize_weights(on_meta(Tied), seed=1)
    assert model.head.weight is model.embed.weight
    for name, x in [*model.named_parameters(), *model.named_buffers()]:
        assert torch.equal(x, values[name])
    assert torch.equal(model.layers[1].running_var, torch.ones(4))


def test_tied_weights_are_found_by_either_name():
    names = [n for n, _ in initial_weights(on_meta(Tied), wanted={"head.weight"})]
    assert names == ["embed.weight"]


def test_a_real_model_gives_what_it_has():
    model = Tied()
    values = dict(initial_weights(model))
    assert torch.equal(values["embed.weight"], model.embed.weight)


def test_own_code_for_the_whole_model_is_called_per_module():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(2, 2)
            self.scale = nn.Parameter(torch.empty(2))

        def _init_weights(self, module):
            if isinstance(module, nn.Linear):
                nn.init.constant_(module.weight, 7.0)
            if isinstance(module, Net):
                nn.init.ones_(module.scale)

    values = dict(initial_weights(on_meta(Net)))
    assert torch.equal(values["fc.weight"], torch.full((2, 2), 7.0))
    assert torch.equal(values["scale"], torch.ones(2))


def test_what_nothing_initialises_is_an_error():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.empty(2))

    with pytest.raises(WeightsError, match=r"scale is on the meta device and nothing initial"):
        dict(initial_weights(on_meta(Net)))


@pytest.mark.parametrize("family", ["GPT2", "Llama", "ViT", "Bert", "T5"])
def test_transformers_models_initialise_themselves(family):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{family}Config")()
    for name in ("n_layer", "num_hidden_layers", "num_layers", "num_decoder_layers"):
        if hasattr(config, name):
            setattr(config, name, 1)
    config.vocab_size = 97
    model = on_meta(lambda: getattr(transformers, f"{family}Model")(config))
    values = dict(initial_weights(model))
    missing = {n for n, _ in [*model.named_parameters(), *model.named_buffers()]} - set(values)
    assert not missing
    assert all(x.isfinite().all() for x in values.values())


def test_state_dict_files(tmp_path):
    state = {"w": torch.randn(3)}
    torch.save(state, tmp_path / "w.pt")
    torch.save({"model": state, "step": 3}, tmp_path / "nested.pt")
    assert torch.equal(load_state_file(tmp_path / "w.pt")["w"], state["w"])
    assert torch.equal(load_state_file(tmp_path / "nested.pt")["w"], state["w"])
    with pytest.raises(WeightsError, match="there is no file"):
        load_state_file(tmp_path / "none.pt")
