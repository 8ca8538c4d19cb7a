from __future__ import annotations

from dataclasses import replace

import pytest

from openbook.economics.accelerators import find_accelerator
from openbook.economics.serving.choose import PUBLISHED, candidates, default_layout
from openbook.economics.serving.layout import Layout, Server, Unit
from openbook.economics.serving.network import with_network
from openbook.economics.serving.roofline import choose_batch, decode_step
from openbook.errors import UserError
from openbook.model.architecture import Architecture


def chosen(server: Server, context: int = 4989, speed: float | None = 21) -> Layout:
    return default_layout(server, context=context, prompt_tokens=4383, tokens_per_second_per_user=speed)


def test_the_layout_of_v3_on_h800_is_the_published_one(v3_on_h800: Server) -> None:
    assert chosen(v3_on_h800) == PUBLISHED


def test_where_memory_is_large_v3_gets_by_with_one_node(v3_on_h800: Server) -> None:
    b200 = replace(v3_on_h800, accelerator=with_network(find_accelerator("b200")))
    assert chosen(b200).decode == Unit(num_devices=8, num_redundant_experts=32)


def test_nothing_that_was_tried_is_much_better_than_what_was_chosen(v3_on_h800: Server) -> None:
    def speed(unit: Unit) -> float:
        batch = choose_batch(v3_on_h800, unit, 4989, 21)
        return decode_step(v3_on_h800, unit, batch, 4989).tokens_per_second_per_device

    found = speed(chosen(v3_on_h800).decode)
    tried = []
    for unit in candidates(v3_on_h800):
        try:
            tried.append(speed(unit))
        except UserError:
            continue
    assert len(tried) > 2
    assert found >= 0.85 * max(tried)


def test_a_small_model_gets_one_device_and_a_large_dense_one_several(
    dense_on_h100: Server, dense: Architecture
) -> None:
    large = chosen(dense_on_h100).decode
    assert large.num_devices == large.tensor_parallel > 2
    small = replace(dense, groups=(replace(dense.groups[0], num_layers=8),))
    assert chosen(replace(dense_on_h100, architecture=small)).decode == Unit()


def test_what_no_unit_can_is_refused_as_the_last_one_tried_refuses_it(v3_on_h800: Server) -> None:
    with pytest.raises(UserError, match="5000 tokens a second for each user are out of reach"):
        chosen(v3_on_h800, speed=5000)
    with pytest.raises(UserError, match="not one sequence of 10,000,000 tokens fits"):
        chosen(v3_on_h800, context=10_000_000)
