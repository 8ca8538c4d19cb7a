from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from openbook.engine.graphs import DecodeGraphs
from openbook.model.cache import Cache, allocate_pool
from openbook.model.transformer import Transformer


@pytest.mark.parametrize("gqa", [False, True])
@torch.no_grad()
def test_padded_shapes_give_what_the_plain_path_gives(
    make_tiny: Callable[..., Transformer], gqa: bool
) -> None:
    model = make_tiny(seed=3, gqa=gqa, init_std=0.3).eval()
    drawn = torch.Generator().manual_seed(0)
    tables, lengths = torch.tensor([[5, 1, 2], [0, 3, 4], [8, 9, 7]]), torch.tensor([0, 33, 16])
    tokens = torch.randint(0, 320, (3, 1), generator=drawn)
    states, pools = [], []
    for run_padded in (False, True):
        pool = allocate_pool(model.config, 10, device=torch.device("cpu"), dtype=torch.float32)
        prompt = torch.randint(0, 320, (3, 33), generator=torch.Generator().manual_seed(1))
        model.trunk_cached(prompt, Cache(pool=pool, tables_Bn=tables), torch.zeros(3, dtype=torch.int64))
        if run_padded:
            states.append(DecodeGraphs(model, pool).run(tokens, tables, lengths))
        else:
            states.append(model.trunk_cached(tokens, Cache(pool=pool, tables_Bn=tables), lengths))
        pools.append(pool)
    torch.testing.assert_close(states[1], states[0], atol=1e-5, rtol=1e-5)
    for ours, plain in zip(pools[1].layers, pools[0].layers, strict=True):
        for one, other in zip(ours, plain, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_size_is_captured_once_and_filled_anew(make_tiny: Callable[..., Transformer]) -> None:
    model = make_tiny(seed=3).eval()
    pool = allocate_pool(model.config, 10, device=torch.device("cpu"), dtype=torch.float32)
    graphs, zeros = DecodeGraphs(model, pool), torch.zeros(4, dtype=torch.int64)
    tables = torch.arange(4)[:, None]
    first = graphs.run(torch.tensor([[4], [5], [6], [7]]), tables, zeros).clone()
    second = graphs.run(torch.tensor([[6], [4], [5]]), tables[:3], zeros[:3])
    torch.testing.assert_close(second, first[[2, 0, 1]], atol=1e-6, rtol=1e-6)
    assert len(graphs._captured) == 1
    graphs.run(torch.tensor([[4]]), tables[:1], zeros[:1])
    assert len(graphs._captured) == 2


@pytest.mark.gpu
@torch.no_grad()
def test_a_captured_graph_equals_the_plain_path(make_tiny: Callable[..., Transformer]) -> None:
    model = make_tiny(seed=3, init_std=0.3).cuda().eval()
    pool = allocate_pool(model.config, 10, device=torch.device("cuda"), dtype=torch.float32)
    tables, lengths = torch.tensor([[5, 1], [0, 3], [8, 9]]).cuda(), torch.tensor([0, 0, 0]).cuda()
    graphs = DecodeGraphs(model, pool)
    for token in (4, 9):
        tokens = torch.tensor([[token], [5], [6]]).cuda()
        plain = model.trunk_cached(tokens, Cache(pool=pool, tables_Bn=tables), lengths)
        torch.testing.assert_close(graphs.run(tokens, tables, lengths), plain, atol=1e-4, rtol=1e-4)
