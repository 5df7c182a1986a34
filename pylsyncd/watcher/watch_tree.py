"""Watch descriptors as a tree of names. No I/O.

A watched directory is a node, found by its watch descriptor, that knows its parent and its name;
paths are derived. So renaming a directory moves one node, and the paths below it follow.

The descriptor identifies the directory: the kernel returns the same one for as long as the
directory is watched, under any name. A node that has left its place and has not appeared in another
one yet is *detached*: it keeps its descriptor and the nodes below it, but has no path.

The tree knows where each directory was at the *base*, the moment of the last :meth:`set_base`.
"""

from collections.abc import Iterator, Mapping

from pylsyncd.model import paths


class _Node:
    """One watched directory.

    ``_children`` is None, the only child, or a dict of them by name: most directories have none,
    and in deep trees most others have one, for which a dict would double the memory.
    """

    __slots__ = ("_children", "name", "parent", "wd")

    def __init__(self, wd: int) -> None:
        self.wd = wd
        self.parent: _Node | None = None
        self.name = b""
        self._children: _Node | dict[bytes, _Node] | None = None

    def child(self, name: bytes) -> "_Node | None":
        """Return the child of that name, or None."""
        children = self._children
        if isinstance(children, dict):
            return children.get(name)
        return children if children is not None and children.name == name else None

    def children(self) -> "list[_Node]":
        """Return all children."""
        if isinstance(self._children, dict):
            return list(self._children.values())
        return [] if self._children is None else [self._children]

    def attach_child(self, node: "_Node", name: bytes) -> None:
        """Make a node without a parent the child of that name, which must be free."""
        node.parent, node.name = self, name
        if self._children is None:
            self._children = node
        elif isinstance(self._children, dict):
            self._children[name] = node
        else:
            self._children = {self._children.name: self._children, name: node}

    def detach(self) -> None:
        """Remove the node from its parent, if it has one."""
        parent = self.parent
        if parent is None:
            return
        if isinstance(parent._children, dict):  # noqa: SLF001  # of its own class
            del parent._children[self.name]  # noqa: SLF001
        else:
            parent._children = None  # noqa: SLF001
        self.parent = None


class WatchTree:
    """The watched directories of one source, as of the last event that was processed."""

    def __init__(self, root_wd: int) -> None:
        self._root = _Node(root_wd)
        self._nodes = {root_wd: self._root}
        # The paths at the base of those that have left their places since; None if there was none.
        self._base_paths: dict[int, bytes | None] = {}
        # The kernel counts descriptors up: those above this one are newer than the base.
        self._newest_at_base = self._newest = root_wd
        self.left_ahead: set[tuple[int, bytes]] = set()
        """The places, by parent descriptor and name, that directories were found to have left.

        The events of that are still queued.
        """

    @property
    def root_wd(self) -> int:
        """The watch descriptor of the source itself."""
        return self._root.wd

    def __contains__(self, wd: int) -> bool:
        return wd in self._nodes

    def __len__(self) -> int:
        return len(self._nodes)

    def walk(self) -> list[int]:
        """Return all of them."""
        return list(self._nodes)

    def __iter__(self) -> Iterator[int]:
        return iter(self._nodes)

    def path(self, wd: int) -> bytes | None:
        """Return the path of a directory; None if it is unknown, or it or a parent is detached."""
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

    def place(self, wd: int) -> tuple[int, bytes] | None:
        """Return the parent of a directory and its name there; None if it has no parent."""
        node = self._nodes[wd]
        return None if node.parent is None else (node.parent.wd, node.name)

    def child(self, wd: int, name: bytes) -> int | None:
        """Return the descriptor of the directory ``name`` in the directory ``wd``, if watched."""
        node = self._nodes[wd].child(name)
        return node.wd if node else None

    def child_names(self, wd: int) -> list[bytes]:
        """Return the names of the directories in the directory ``wd`` that are watched."""
        return [node.name for node in self._nodes[wd].children()]

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
        """Put a directory, with all below it, in its place; return True if it was there already.

        A directory that had that place is detached.
        """
        new_parent = self._nodes[parent]
        node = self._nodes.get(wd)
        if node is None:
            node = self._add(wd)
        elif node.parent is new_parent and node.name == name:
            return True
        else:
            self._detach_ahead(node)
            self._break_cycle(node, new_parent)
        if (other := new_parent.child(name)) is not None:
            self._detach(other)
        new_parent.attach_child(node, name)
        return False

    def detach(self, parent: int, name: bytes) -> None:
        """Detach the directory ``name`` from the directory ``parent``, if it is there.

        There is an event of it.
        """
        self.left_ahead.discard((parent, name))
        node = self._nodes[parent].child(name)
        if node is not None:
            self._detach(node)

    def is_detached(self, wd: int) -> bool:
        """Return True if a directory has left its place and was not found in another one."""
        node = self._nodes[wd]
        return node.parent is None and node is not self._root

    def remove_subtree(self, wd: int) -> list[int]:
        """Remove a directory and all below it; return their descriptors."""
        top = self._nodes[wd]
        top.detach()
        stack, removed = [top], []
        while stack:
            node = stack.pop()
            removed.append(node.wd)
            del self._nodes[node.wd]
            for child in node.children():
                # Nodes refer to each other: without the cycle they are freed at once.
                child.detach()
                stack.append(child)
        return removed

    def remove(self, wd: int) -> None:
        """Remove a directory that the kernel no longer watches; its children are detached."""
        node = self._nodes[wd]
        for child in node.children():
            self._detach(child)
        node.detach()
        del self._nodes[wd]

    @property
    def left_since_base(self) -> Mapping[int, bytes | None]:
        """The directories that have left their places since the base, with their paths then.

        None stands for a directory that had none. Some may be in their places again.
        """
        return self._base_paths

    def base_path(self, wd: int) -> bytes | None:
        """Return the path that a directory had at the base; None if it had none."""
        node = self._nodes.get(wd)
        return None if node is None else self._base_path(node)

    def set_base(self) -> None:
        """Make this moment the base."""
        self._newest_at_base = self._newest
        if self._base_paths:
            known = (wd for wd in self._base_paths if wd in self._nodes)
            self._base_paths = {wd: None for wd in known if self.is_detached(wd)}

    def _base_path(self, node: _Node) -> bytes | None:
        above: _Node | None = node
        names = []
        while above is not None and above.wd not in self._base_paths:
            if above.wd > self._newest_at_base:
                return None
            if above is self._root:
                break
            names.append(above.name)
            above = above.parent
        top = None if above is None else self._base_paths.get(above.wd, paths.ROOT)
        if top is None:
            return None
        names.reverse()
        return paths.join(top, b"/".join(names))

    def _add(self, wd: int) -> _Node:
        node = self._nodes[wd] = _Node(wd)
        if wd > self._newest:
            self._newest = wd
        else:
            # The kernel starts again from 1 after 2**31 watches.
            self._base_paths[wd] = None
        return node

    def _detach(self, node: _Node) -> None:
        """Detach a node that stays in the tree."""
        if node.parent is not None and node.wd not in self._base_paths:
            self._base_paths[node.wd] = self._base_path(node)
        node.detach()

    def _detach_ahead(self, node: _Node) -> None:
        """Detach a node of which no event says yet that it has left its place."""
        if node.parent is not None:
            self.left_ahead.add((node.parent.wd, node.name))
        self._detach(node)

    def _break_cycle(self, node: _Node, parent: _Node | None) -> None:
        """Detach the branch of ``node`` that contains ``parent``, if any.

        There is one when both directories were moved and only the later move is known yet: the
        lower one is now the upper one. The event of the earlier move is still queued and attaches
        the branch.
        """
        branch = None
        while parent is not None:
            if parent is node:
                if branch is not None:
                    self._detach_ahead(branch)
                return
            branch, parent = parent, parent.parent


def child_path(tree: WatchTree, wd: int, name: bytes) -> bytes | None:
    """Return the path of ``name`` in a watched directory; None if the directory has no path."""
    directory = tree.path(wd)
    return None if directory is None else paths.join(directory, name)
