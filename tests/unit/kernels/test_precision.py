from __future__ import annotations

import torch

from openbook.kernels.precision import autocast


def test_a_processor_computes_in_full_precision() -> None:
    with autocast(torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == torch.float32
