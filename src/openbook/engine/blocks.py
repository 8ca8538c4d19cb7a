"""The blocks of the paged cache as numbers: who holds which, what is free, what can be found again.

A block is a place for the keys and values of `block_size` tokens; this module knows only its number.
Each block is in exactly one of three states:

    free --allocate--> held --release--> free
                        | ^
                release | | match       (full blocks that were registered)
                        v |
                     evictable --allocate, when nothing is free: least recently used first--> held

Prefix caching follows vLLM's automatic prefix caching (Kwon et al. 2023, 4.4): only full blocks are
shared, so a shared block is never written again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as AnySequence

from openbook.engine.prefix import PrefixTree


class BlockPool:
    """Reference-counted blocks `0 .. num_blocks - 1` of `block_size` tokens each."""

    def __init__(self, num_blocks: int, block_size: int, *, prefix_caching: bool = True) -> None:
        assert num_blocks > 0 and block_size > 0
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self._num_holders = [0] * num_blocks
        self._free = list(reversed(range(num_blocks)))
        self._evictable: OrderedDict[int, None] = OrderedDict()
        self._prefixes = PrefixTree(block_size)

    @property
    def num_free(self) -> int:
        """Blocks that `allocate` can give out, those with a prefix that would be forgotten included."""
        return len(self._free) + len(self._evictable)

    @property
    def num_held(self) -> int:
        """Blocks with at least one holder."""
        return self.num_blocks - self.num_free

    def num_holders(self, block: int) -> int:
        """How many sequences hold `block`."""
        return self._num_holders[block]

    def is_writable(self, block: int) -> bool:
        """Whether its one holder may write into `block`: it is neither shared nor registered."""
        return self._num_holders[block] == 1 and block not in self._prefixes

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that `num_tokens` tokens fill, the last one perhaps in part."""
        return -(-num_tokens // self.block_size)

    def can_allocate(self, count: int) -> bool:
        """Whether `allocate(count)` can be served."""
        return count <= self.num_free

    def allocate(self, count: int) -> list[int]:
        """`count` blocks with one holder each; what they held before is forgotten."""
        assert self.can_allocate(count), f"{count} blocks wanted, {self.num_free} free"
        blocks = [self._free.pop() if self._free else self._evict() for _ in range(count)]
        for block in blocks:
            self._num_holders[block] = 1
        return blocks

    def _evict(self) -> int:
        block, _ = self._evictable.popitem(last=False)
        self._prefixes.remove(block)
        return block

    def share(self, blocks: AnySequence[int]) -> None:
        """One more holder for each of `blocks`, which are held or evictable."""
        for block in blocks:
            if self._num_holders[block] == 0:
                del self._evictable[block]
            self._num_holders[block] += 1

    def release(self, blocks: AnySequence[int]) -> None:
        """One holder fewer for each of `blocks`, given in the order of their sequence.

        Of one sequence the last block is evicted first: without the blocks before it, it could not
        be found.
        """
        for block in reversed(blocks):
            assert self._num_holders[block] > 0, f"block {block} is released more often than held"
            self._num_holders[block] -= 1
            if self._num_holders[block] > 0:
                continue
            if self._prefixes.finds(block):
                self._evictable[block] = None
                continue
            if block in self._prefixes:
                self._prefixes.remove(block)
            self._free.append(block)

    def match(self, token_ids: AnySequence[int], namespace: int) -> list[int]:
        """The registered blocks of the longest known prefix of `token_ids`, with one more holder each.

        At least one token is left over: its logits are what the caller is after.
        """
        blocks = self._prefixes.find(token_ids, namespace, (len(token_ids) - 1) // self.block_size)
        self.share(blocks)
        return blocks

    def register(
        self, block: int, token_ids: AnySequence[int], *, behind: int | None, namespace: int
    ) -> None:
        """Make a held and fully computed `block` findable by its `token_ids` and those before them.

        `behind` is the block before it in its sequence, None for the first. If another block with the
        same prefix is registered already, that one stays the one that is found.
        """
        assert self._num_holders[block] > 0
        if self.prefix_caching:
            self._prefixes.insert(block, token_ids, behind=behind, namespace=namespace)

    def forget_prefixes(self) -> None:
        """Nothing that was computed before this call is found any more; held blocks stay held."""
        self._prefixes.clear()
        self._free.extend(self._evictable)
        self._evictable.clear()

    def check(self) -> None:
        """Assert that each block is free, evictable or held, exactly one of them."""
        held = [block for block, count in enumerate(self._num_holders) if count > 0]
        assert all(count >= 0 for count in self._num_holders)
        assert sorted([*self._free, *self._evictable, *held]) == list(range(self.num_blocks))
        assert all(self._prefixes.finds(block) for block in self._evictable)
        assert not any(block in self._prefixes for block in self._free)
        assert self.prefix_caching or not self._prefixes
        self._prefixes.check()
