"""Which block holds which prefix: a tree whose edges are the exact tokens of one full block.

    namespace -> tokens of block 0 -> tokens of block 1 -> ...

A path is compared token by token, so two prefixes with the same hash are never taken for each other.
Several sequences may have computed the same prefix in blocks of their own: all of them stand at its
node, and the first is the one that is found.
"""

from __future__ import annotations

from collections.abc import Sequence as AnySequence
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class _Node:
    edge: tuple[int, ...]
    parent: _Node | None
    children: dict[tuple[int, ...], _Node] = field(default_factory=dict)
    blocks: list[int] = field(default_factory=list)


class PrefixTree:
    """Blocks by the tokens in them and before them, in one namespace for each version of the weights."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._root = _Node(edge=(), parent=None)
        self._node_of: dict[int, _Node] = {}

    def __contains__(self, block: int) -> bool:
        return block in self._node_of

    def __len__(self) -> int:
        return len(self._node_of)

    def finds(self, block: int) -> bool:
        """Whether `block` is the one that a look-up of its prefix finds."""
        node = self._node_of.get(block)
        return node is not None and node.blocks[0] == block

    def find(self, token_ids: AnySequence[int], namespace: int, max_blocks: int) -> list[int]:
        """The blocks of the longest known prefix of `token_ids`, at most `max_blocks`."""
        size = self._block_size
        blocks: list[int] = []
        node = self._root.children.get((namespace,))
        for start in range(0, max_blocks * size, size):
            if node is None:
                break
            node = node.children.get(tuple(token_ids[start : start + size]))
            if node is None or not node.blocks:
                break
            blocks.append(node.blocks[0])
        return blocks

    def insert(self, block: int, token_ids: AnySequence[int], *, behind: int | None, namespace: int) -> None:
        """Enter a full `block`; `behind` is the block before it in its sequence, None at the start.

        Nothing is entered if `behind` is not in the tree: what cannot be reached is never found.
        """
        assert len(token_ids) == self._block_size and block not in self._node_of
        if behind is None:
            parent = _child(self._root, (namespace,))
        elif behind in self._node_of:
            parent = self._node_of[behind]
        else:
            return
        node = _child(parent, tuple(token_ids))
        node.blocks.append(block)
        self._node_of[block] = node

    def remove(self, block: int) -> None:
        """Take `block` out; a block with the same prefix is found in its place, if there is one."""
        node = self._node_of.pop(block)
        node.blocks.remove(block)
        while node.parent is not None and not node.blocks and not node.children:
            del node.parent.children[node.edge]
            node = node.parent

    def clear(self) -> None:
        """Forget every block."""
        self._root.children.clear()
        self._node_of.clear()

    def check(self) -> None:
        """Assert that the tree and the map from block to node say the same, and that no branch is dead."""
        nodes = [self._root]
        found: dict[int, _Node] = {}
        for node in nodes:
            found.update(dict.fromkeys(node.blocks, node))
            for edge, child in node.children.items():
                assert child.edge == edge and child.parent is node
                assert child.children or child.blocks, "a branch without a block"
                nodes.append(child)
        assert found == self._node_of


def _child(parent: _Node, edge: tuple[int, ...]) -> _Node:
    if edge not in parent.children:
        parent.children[edge] = _Node(edge=edge, parent=parent)
    return parent.children[edge]
