"""Watch descriptors as a tree of names. No I/O.

A watched directory is a node, found by its watch descriptor, that knows its parent and its name;
paths are derived. So renaming a directory moves one node, and everything below follows.

The descriptor is the directory's identity: the kernel returns the same one for as long as it is
watched, whatever it is called. A node that was taken from its place and has not been found in
another one yet is *adrift*: it keeps its descriptor and what is below it, but has no path.
"""

from collections.abc import Iterator

from pylsyncd.model import paths


class _Node:
    """One watched directory.

    ``_children`` is None, the only child, or a dict of them by name: most directories have none,
    and in deep trees most of the others have one, for which a dict would double the memory.
    """

    __slots__ = ("_children", "name", "parent", "wd")

    def __init__(self, wd: int) -> None:
        self.wd = wd
        self.parent: _Node | None = None
        self.name = b""
        self._children: _Node | dict[bytes, _Node] | None = None

    def child(self, name: bytes) -> "_Node | None":
        """Return the child of that name, if there is one."""
        children = self._children
        if isinstance(children, dict):
            return children.get(name)
        return children if children is not None and children.name == name else None

    def children(self) -> "list[_Node]":
        """Return all children."""
        if isinstance(self._children, dict):
            return list(self._children.values())
        return [] if self._children is None else [self._children]

    def adopt(self, node: "_Node", name: bytes) -> None:
        """Take a node that has no parent as the child of that name, of which there is none."""
        node.parent, node.name = self, name
        if self._children is None:
            self._children = node
        elif isinstance(self._children, dict):
            self._children[name] = node
        else:
            self._children = {self._children.name: self._children, name: node}

    def leave(self) -> None:
        """Leave the parent, if there is one."""
        above = self.parent
        if above is None:
            return
        if isinstance(above._children, dict):  # noqa: SLF001  # of its own class
            del above._children[self.name]  # noqa: SLF001
        else:
            above._children = None  # noqa: SLF001
        self.parent = None


class WatchTree:
    """The watched directories of one source, as they stood at the last event that was followed."""

    def __init__(self, root: int) -> None:
        self._root = _Node(root)
        self._nodes = {root: self._root}

    @property
    def root_wd(self) -> int:
        """The source's own watch descriptor."""
        return self._root.wd

    def __contains__(self, wd: int) -> bool:
        return wd in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[int]:
        return iter(self._nodes)

    def path(self, wd: int) -> bytes | None:
        """Return the path of a directory; None when it is unknown, or adrift with what is above."""
        node = self._nodes.get(wd)
        if node is None:
            return None
        names = []
        while node is not self._root:
            names.append(node.name)
            node = node.parent
            if node is None:
                return None
        names.reverse()
        return b"/".join(names)

    def child(self, wd: int, name: bytes) -> int | None:
        """Return the descriptor of the directory ``name`` in the directory ``wd``, if watched."""
        node = self._nodes[wd].child(name)
        return node.wd if node else None

    def descendants(self, wd: int) -> Iterator[int]:
        """Yield the descriptors of all directories below one."""
        stack = self._nodes[wd].children()
        while stack:
            node = stack.pop()
            yield node.wd
            stack += node.children()

    def find(self, path: bytes) -> int | None:
        """Return the descriptor of the directory at a path, if it is watched."""
        node: _Node | None = self._root
        for name in path.split(b"/") if path else []:
            node = node.child(name) if node else None
        return node.wd if node else None

    def attach(self, wd: int, parent: int, name: bytes) -> bool:
        """Put a directory in its place, with all that is below it; tell whether it was there.

        Whatever stood in that place is adrift from now on.
        """
        above = self._nodes[parent]
        node = self._nodes.get(wd)
        if node is None:
            node = self._nodes[wd] = _Node(wd)
        elif node.parent is above and node.name == name:
            return True
        else:
            node.leave()
            _break_cycle(node, above)
        if (other := above.child(name)) is not None:
            other.leave()
        above.adopt(node, name)
        return False

    def detach(self, parent: int, name: bytes) -> None:
        """Set adrift what stands at ``name`` in the directory ``parent``, if anything does."""
        node = self._nodes[parent].child(name)
        if node is not None:
            node.leave()

    def is_detached(self, wd: int) -> bool:
        """Tell whether a directory was taken from its place and not found in another one."""
        node = self._nodes[wd]
        return node.parent is None and node is not self._root

    def remove_subtree(self, wd: int) -> list[int]:
        """Forget a directory and all that is below it; return their descriptors."""
        top = self._nodes[wd]
        top.leave()
        stack, dropped = [top], []
        while stack:
            node = stack.pop()
            dropped.append(node.wd)
            del self._nodes[node.wd]
            for child in node.children():
                # Nodes point at each other: cut, so that they go now and not with a collection.
                child.leave()
                stack.append(child)
        return dropped

    def remove(self, wd: int) -> None:
        """Forget a directory that the kernel has stopped watching; what is below it is adrift."""
        node = self._nodes.pop(wd)
        node.leave()
        for child in node.children():
            child.leave()


def _break_cycle(node: _Node, above: _Node | None) -> None:
    """Set adrift the branch of ``node`` that ``above`` stands on, if it does.

    It does when both were moved and only the later move is known yet: the directory that was
    below is now above. The event of the earlier move is still to come and links the branch.
    """
    branch = None
    while above is not None:
        if above is node:
            if branch is not None:
                branch.leave()
            return
        branch, above = above, above.parent


def child_path(tree: WatchTree, wd: int, name: bytes) -> bytes | None:
    """Return the path of ``name`` in a watched directory; None when the directory has no path."""
    directory = tree.path(wd)
    return None if directory is None else paths.join(directory, name)
