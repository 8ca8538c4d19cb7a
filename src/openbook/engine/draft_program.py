"""The MTP module as native operations (DeepSeek-V3 2.2): its block behind the join, and the shared head.

Shape letters: R row, D model width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from openbook.engine.builder import Program, ProgramBuilder
from openbook.engine.matrices import matrix_of
from openbook.engine.program import Surroundings, add_block, add_head
from openbook.kernels import operations as ops
from openbook.kernels.packed import PackedMatrix
from openbook.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True, slots=True)
class DraftProgram:
    """`body`: embedded and state [R, D] -> ahead [R, D]; `head`: last [R, D] -> the executor's logits."""

    body: Program
    head: Program
    embedded: Tensor
    state: Tensor
    ahead: Tensor
    last: Tensor

    @classmethod
    def build(
        cls, builder: ProgramBuilder, around: Surroundings, model: Transformer, head: PackedMatrix
    ) -> Self:
        """The first MTP module of `model`, whose keys stand in the layer behind the main ones."""
        width, module = model.config.hidden_size, next(iter(model.mtp_modules()))
        embedded, state, ahead = (
            builder.buffer(f"draft {name}", width) for name in ("token", "state", "ahead")
        )
        joined = builder.buffer("joined", 2 * width)
        builder.norm(module.enorm, ops.Rows.of(embedded), ops.Rows.of(joined))
        builder.norm(module.hnorm, ops.Rows.of(state), ops.Rows.of(joined, width))
        builder.linear([matrix_of(module.eh_proj)], ops.Rows.of(joined), ops.Rows.of(ahead))
        add_block(builder, around, module, model.config.num_hidden_layers, ahead)
        body = builder.build()
        last, logits = builder.buffer("draft last", width), builder.buffer("logits", model.config.vocab_size)
        add_head(builder, module.norm, head, last, logits)
        return cls(body=body, head=builder.build(), embedded=embedded, state=state, ahead=ahead, last=last)
