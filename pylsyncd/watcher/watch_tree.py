"""Watch descriptors as a tree of names. No I/O.

A watched directory is a node, found by its watch descriptor, that has a parent and a name there;
paths are derived. So renaming a directory moves one node, and the paths below it follow.

The descriptor identifies the directory: the kernel returns the same one for as long as the
directory is watched, under any name. A node that has left its place and has not appeared in another
one yet is *detached*: it keeps its descriptor and the nodes below it, but has no path.

The tree knows where each directory was at the *base*, the moment of the last :meth:`set_base`.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping

from pylsyncd.model import paths

# A node is a number: the index of its parts in the arrays of the tree, about 160 bytes a directory.
_NO_NODE = -1
_ROOT = 0

# The nodes of so many watch descriptors in sequence are in one array. The kernel counts descriptors
# up, and sources may share an instance: so most arrays are nearly full, or they are few.
_PAGE_BITS = 6
_PAGE_MASK = (1 << _PAGE_BITS) - 1
_EMPTY_PAGE = array("i", [_NO_NODE]) * (1 << _PAGE_BITS)

# With more children a directory has a dict of them, which takes twice the memory.
_MAX_LISTED_CHILDREN = 8


class WatchTree:
    """The watched directories of one source, as of the last event that was processed."""

    def __init__(self, root_wd: int) -> None:
        # By descriptor, in pages.
        self._nodes: dict[int, array[int]] = {}
        self._count = 0
        # By node: its descriptor, 0 if the node is free, its parent, and its name there.
        self._wds = array("i")
        self._parents = array("i")
        self._names: list[bytes] = []
        # By node: none, one, some, or many by name. Most directories have none, and in deep trees
        # most others have one.
        self._children: list[int | array[int] | dict[bytes, int] | None] = []
        self._free: list[int] = []
        # By node: whether it was marked since start_marking(). None if nothing is marked.
        self._marks: bytearray | None = None
        # The paths at the base of those that have left their places since; None if there was none.
        self._base_paths: dict[int, bytes | None] = {}
        # The kernel counts descriptors up: those above this one are newer than the base.
        self._newest_at_base = self._newest = root_wd
        self.left_ahead: set[tuple[int, bytes]] = set()
        """The places, by parent descriptor and name, that directories were found to have left.

        The events of that are still queued.
        """
        self.detached: set[int] = set()
        """The directories that were detached and are in no place yet."""
        self._add(root_wd)

    @property
    def root_wd(self) -> int:
        """The watch descriptor of the source itself."""
        return self._wds[_ROOT]

    def __contains__(self, wd: int) -> bool:
        page = self._nodes.get(wd >> _PAGE_BITS)
        return page is not None and page[wd & _PAGE_MASK] >= 0

    def __len__(self) -> int:
        return self._count

    def walk(self) -> Iterable[int]:
        """Return all of them, as of now."""
        return filter(None, self._wds[:])

    def __iter__(self) -> Iterator[int]:
        return iter(self.walk())

    def path(self, wd: int) -> bytes | None:
        """Return the path of a directory; None if it is unknown, or it or a parent is detached."""
        node = self._find(wd)
        if node < 0:
            return None
        parents, names = self._parents, []
        while node != _ROOT:
            names.append(self._names[node])
            node = parents[node]
            if node < 0:
                return None
        names.reverse()
        return b"/".join(names)

    def place(self, wd: int) -> tuple[int, bytes] | None:
        """Return the parent of a directory and its name there; None if it has no parent."""
        node = self._node(wd)
        parent = self._parents[node]
        return None if parent < 0 else (self._wds[parent], self._names[node])

    def child(self, wd: int, name: bytes) -> int | None:
        """Return the descriptor of the directory ``name`` in the directory ``wd``, if watched."""
        node = self._child(self._node(wd), name)
        return None if node < 0 else self._wds[node]

    def child_names(self, wd: int) -> list[bytes]:
        """Return the names of the directories in the directory ``wd`` that are watched."""
        return [self._names[node] for node in self._children_of(self._node(wd))]

    def descendants(self, wd: int) -> Iterator[int]:
        """Yield the descriptors of all directories below one."""
        stack = [*self._children_of(self._node(wd))]
        while stack:
            node = stack.pop()
            yield self._wds[node]
            stack += self._children_of(node)

    def find(self, path: bytes) -> int | None:
        """Return the descriptor of the directory at a path, if it is watched."""
        node = _ROOT
        for name in path.split(b"/") if path else []:
            node = self._child(node, name)
            if node < 0:
                return None
        return self._wds[node]

    def attach(self, wd: int, parent: int, name: bytes) -> bool:
        """Put a directory, with all below it, in its place; return True if it was there already.

        A directory that had that place is detached.
        """
        new_parent = self._node(parent)
        node = self._find(wd)
        if node < 0:
            node = self._add(wd)
        elif self._marks is not None:
            self._marks[node] = True
        if self._parents[node] == new_parent and self._names[node] == name:
            return True
        if self._parents[node] >= 0 or self._children[node] is not None:
            self._detach_ahead(node)
            self._break_cycle(node, new_parent)
        if (other := self._child(new_parent, name)) >= 0:
            self._detach(other)
        self._attach_child(new_parent, node, name)
        return False

    def detach(self, parent: int, name: bytes) -> None:
        """Detach the directory ``name`` from the directory ``parent``, if it is there.

        There is an event of it.
        """
        self.left_ahead.discard((parent, name))
        node = self._child(self._node(parent), name)
        if node >= 0:
            self._detach(node)

    def is_detached(self, wd: int) -> bool:
        """Return True if a directory has left its place and was not found in another one."""
        node = self._node(wd)
        return self._parents[node] < 0 and node != _ROOT

    def remove_subtree(self, wd: int) -> list[int]:
        """Remove a directory and all below it; return their descriptors."""
        top = self._node(wd)
        self._unlink(top)
        stack, removed = [top], []
        while stack:
            node = stack.pop()
            stack += self._children_of(node)
            removed.append(self._free_node(node))
        return removed

    def remove(self, wd: int) -> None:
        """Remove a directory that the kernel no longer watches; its children are detached."""
        node = self._node(wd)
        for child in [*self._children_of(node)]:
            self._detach(child)
        self._unlink(node)
        self._free_node(node)

    def start_marking(self, top: int) -> None:
        """Mark a directory, and from now on each one that is attached, also in its own place."""
        self._marks = bytearray(len(self._wds))
        self._marks[self._node(top)] = True

    def stop_marking(self) -> None:
        """Forget which directories are marked."""
        self._marks = None

    def is_marked(self, wd: int) -> bool:
        """Return True if a directory was marked since :meth:`start_marking`."""
        return self._marks is not None and bool(self._marks[self._node(wd)])

    @property
    def left_since_base(self) -> Mapping[int, bytes | None]:
        """The directories that have left their places since the base, with their paths then.

        None stands for a directory that had none. Some may be in their places again.
        """
        return self._base_paths

    def base_path(self, wd: int) -> bytes | None:
        """Return the path that a directory had at the base; None if it had none."""
        node = self._find(wd)
        return None if node < 0 else self._base_path(node)

    def set_base(self) -> None:
        """Make this moment the base."""
        self._newest_at_base = self._newest
        if self._base_paths:
            known = (wd for wd in self._base_paths if wd in self)
            self._base_paths = {wd: None for wd in known if self.is_detached(wd)}

    def _base_path(self, node: int) -> bytes | None:
        names = []
        while node >= 0 and (wd := self._wds[node]) not in self._base_paths:
            if wd > self._newest_at_base:
                return None
            if node == _ROOT:
                break
            names.append(self._names[node])
            node = self._parents[node]
        top = None if node < 0 else self._base_paths.get(self._wds[node], paths.ROOT)
        if top is None:
            return None
        names.reverse()
        return paths.join(top, b"/".join(names))

    def _find(self, wd: int) -> int:
        """Return the node of a descriptor; _NO_NODE if it is unknown."""
        page = self._nodes.get(wd >> _PAGE_BITS)
        return _NO_NODE if page is None else page[wd & _PAGE_MASK]

    def _node(self, wd: int) -> int:
        """Return the node of a descriptor that is known. Raises KeyError."""
        node = self._nodes[wd >> _PAGE_BITS][wd & _PAGE_MASK]
        if node < 0:
            raise KeyError(wd)
        return node

    def _add(self, wd: int) -> int:
        """Return a new node, which has no parent."""
        if self._free:
            node = self._free.pop()
            self._wds[node] = wd
            if self._marks is not None:
                self._marks[node] = True
        else:
            node = len(self._wds)
            self._wds.append(wd)
            self._parents.append(_NO_NODE)
            self._names.append(b"")
            self._children.append(None)
            if self._marks is not None:
                self._marks.append(True)
        page = self._nodes.get(wd >> _PAGE_BITS)
        if page is None:
            page = self._nodes[wd >> _PAGE_BITS] = _EMPTY_PAGE[:]
        page[wd & _PAGE_MASK] = node
        self._count += 1
        if wd > self._newest:
            self._newest = wd
        elif node != _ROOT:
            # The kernel starts again from 1 after 2**31 watches.
            self._base_paths[wd] = None
        return node

    def _free_node(self, node: int) -> int:
        """Forget a node; return its descriptor."""
        wd = self._wds[node]
        self._wds[node], self._parents[node] = 0, _NO_NODE
        self._names[node], self._children[node] = b"", None
        self.detached.discard(wd)
        if self._marks is not None:
            self._marks[node] = False
        self._free.append(node)
        page = self._nodes[wd >> _PAGE_BITS]
        page[wd & _PAGE_MASK] = _NO_NODE
        if page == _EMPTY_PAGE:
            del self._nodes[wd >> _PAGE_BITS]
        self._count -= 1
        return wd

    def _child(self, parent: int, name: bytes) -> int:
        """Return the child of that name, or _NO_NODE."""
        children = self._children[parent]
        if children is None:
            return _NO_NODE
        if isinstance(children, dict):
            return children.get(name, _NO_NODE)
        names = self._names
        for node in (children,) if isinstance(children, int) else children:
            if names[node] == name:
                return node
        return _NO_NODE

    def _children_of(self, node: int) -> Iterable[int]:
        children = self._children[node]
        if children is None:
            return ()
        if isinstance(children, int):
            return (children,)
        return children.values() if isinstance(children, dict) else children

    def _attach_child(self, parent: int, node: int, name: bytes) -> None:
        """Make a node without a parent the child of that name, which must be free."""
        self._parents[node], self._names[node] = parent, name
        self.detached.discard(self._wds[node])
        children = self._children[parent]
        if isinstance(children, dict):
            children[name] = node
        elif children is None:
            self._children[parent] = node
        elif isinstance(children, int):
            self._children[parent] = array("i", (children, node))
        elif len(children) < _MAX_LISTED_CHILDREN:
            children.append(node)
        else:
            many = {self._names[each]: each for each in children}
            many[name] = node
            self._children[parent] = many

    def _unlink(self, node: int) -> None:
        """Remove a node from its parent, if it has one."""
        parent = self._parents[node]
        if parent < 0:
            return
        self._parents[node] = _NO_NODE
        children = self._children[parent]
        if isinstance(children, dict):
            del children[self._names[node]]
        elif isinstance(children, array):
            children.remove(node)
        if isinstance(children, int) or not children:
            self._children[parent] = None

    def _detach(self, node: int) -> None:
        """Detach a node that stays in the tree."""
        wd = self._wds[node]
        if self._parents[node] >= 0 and wd not in self._base_paths:
            self._base_paths[wd] = self._base_path(node)
        self._unlink(node)
        self.detached.add(wd)

    def _detach_ahead(self, node: int) -> None:
        """Detach a node of which no event says yet that it has left its place."""
        parent = self._parents[node]
        if parent >= 0:
            self.left_ahead.add((self._wds[parent], self._names[node]))
        self._detach(node)

    def _break_cycle(self, node: int, parent: int) -> None:
        """Detach the branch of ``node`` that contains ``parent``, if any.

        There is one when both directories were moved and only the later move is known yet: the
        lower one is now the upper one. The event of the earlier move is still queued and attaches
        the branch.
        """
        branch = _NO_NODE
        while parent >= 0:
            if parent == node:
                if branch >= 0:
                    self._detach_ahead(branch)
                return
            branch, parent = parent, self._parents[parent]


def child_path(tree: WatchTree, wd: int, name: bytes) -> bytes | None:
    """Return the path of ``name`` in a watched directory; None if the directory has no path."""
    directory = tree.path(wd)
    return None if directory is None else paths.join(directory, name)
