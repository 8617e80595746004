"""The pages of a catalogue, checked without LMDB.

LMDB trusts its file: a damaged page may stop the process, show an older page in place of the
present one, or let the next commit overwrite what is in use. So before LMDB is asked about a file
that may be damaged, this module reads it as plain bytes and checks that every page is what its
parent expects and is reached once, that pages in use and free pages together are all there are,
and that the two meta pages are of transactions that follow each other. What is in the values is
checked afterwards by `moma_store.scan`.

On-disk format 1 of LMDB (0.9), which `moma_store.environment` pins, 64-bit and little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from moma_store.errors import IntegrityError
from moma_store.files import reported

_MAGIC = 0xBEEFC0DE
_FORMAT = 1
_NONE = 0xFFFF_FFFF_FFFF_FFFF  # the root of an empty tree
_LARGEST_MAP = 1 << 46  # bytes of address space

_HEADER = struct.Struct("<QHHHH")  # number, padding, flags, lower, upper
_COUNT = struct.Struct("<Q")
_NODE = struct.Struct("<HHHH")  # low and high half of the size, flags, key size
_TREE = struct.Struct("<IHHQQQQQ")  # padding, flags, depth, branch, leaf, overflow, entries, root
_META = struct.Struct("<IIQQ")  # magic, version, address, size of the map
_TAIL = struct.Struct("<QQ")  # last page, transaction

_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 1, 2, 4, 8
_BIG_DATA, _SUB_TREE = 1, 2
_INTEGER_KEYS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """What the file says of one B+ tree."""

    padding: int
    flags: int
    depth: int
    branch_pages: int
    leaf_pages: int
    overflow_pages: int
    entries: int
    root: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What a meta page says: the roots of everything as one transaction left them."""

    transaction: int
    last_page: int
    free: Tree
    main: Tree

    @property
    def page_size(self) -> int:
        """Bytes in a page; kept where another tree has padding."""
        return self.free.padding


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCount:
    """What was found in a sound file.

    Attributes
    ----------
    transaction
        The newest transaction.
    page_size
        Bytes in a page.
    used
        Numbers of the pages that the newest transaction reaches, its meta page included.
    free
        How many are free.
    """

    transaction: int
    page_size: int
    used: frozenset[int]
    free: int


def check_pages(path: Path, *, databases: tuple[str, ...]) -> PageCount:
    """Check the structure of a catalogue that nobody is writing to.

    Parameters
    ----------
    path
        The LMDB data file.
    databases
        Names of the databases it should have.

    Returns
    -------
    PageCount
        Which pages are in use.

    Raises
    ------
    IntegrityError
        If anything is not as it should be.
    StorageError
        If the file cannot be read.
    """
    with reported("read", path):
        data = path.read_bytes()
    try:
        return _checked(data, databases)
    except (ValueError, struct.error, RecursionError) as error:
        raise IntegrityError(
            f"the catalogue {path} is damaged: {error}; run `moma-cl verify --repair`"
        ) from error


def check_metas(path: Path) -> None:
    """Check only that the two newest transactions follow each other.

    If they do not, LMDB would take the older for the newer and the last commit would be lost.

    Parameters
    ----------
    path
        The LMDB data file, which nobody is writing to.

    Raises
    ------
    IntegrityError
        If they do not.
    StorageError
        If the file cannot be read.
    """
    with reported("read", path), path.open("rb") as stream:
        head = stream.read(2 << 16)
    try:
        _newest_meta(head)
    except (ValueError, struct.error) as error:
        raise IntegrityError(
            f"the catalogue {path} is damaged: {error}; run `moma-cl verify --repair`"
        ) from error


def _checked(data: bytes, databases: tuple[str, ...]) -> PageCount:
    meta = _newest_meta(data)
    if (meta.last_page + 1) * meta.page_size > len(data):
        raise ValueError(f"it ends at byte {len(data)}, before page {meta.last_page}")
    if meta.free.flags != _INTEGER_KEYS or meta.main.flags != 0:
        raise ValueError("a tree has flags that moma-cl never sets")
    walk = _Walk(data=data, page_size=meta.page_size, last_page=meta.last_page)
    walk.reached.update((0, 1))
    named: dict[str, Tree] = {}
    walk.tree(meta.main, lambda key, value: _take_named(named, key, value))
    if tuple(sorted(named)) != tuple(sorted(databases)):
        raise ValueError(f"it has the databases {sorted(named)}, expected {sorted(databases)}")
    for tree in named.values():
        walk.tree(tree, None)
    free: list[int] = []
    walk.tree(meta.free, lambda key, value: _take_free(free, meta, key, value))
    _check_cover(walk.reached, free, meta.last_page)
    used = frozenset(walk.reached - {1 - meta.transaction % 2})
    return PageCount(
        transaction=meta.transaction, page_size=meta.page_size, used=used, free=len(free)
    )


@dataclass(slots=True, kw_only=True)
class _Walk:
    """Walks trees and notes each page it comes by."""

    data: bytes
    page_size: int
    last_page: int
    reached: set[int] = field(default_factory=set)

    def tree(self, tree: Tree, take: Callable[[bytes, bytes], None] | None) -> None:
        """Check a tree against what its parent says of it; hand its entries over in order."""
        counts = [0, 0, 0, 0]  # branch, leaf, overflow pages; entries
        if tree.root == _NONE:
            if tree.depth or tree.entries:
                raise ValueError("a tree without a root has entries")
            return
        previous: bytes | None = None
        integers = bool(tree.flags & _INTEGER_KEYS)
        for key, value in self._entries(tree.root, tree.depth, counts):
            order = key[::-1] if integers else key
            if previous is not None and order <= previous:
                raise ValueError(f"the key {key!r} is out of order")
            previous = order
            if take is not None:
                take(key, value)
        expected = [tree.branch_pages, tree.leaf_pages, tree.overflow_pages, tree.entries]
        if counts != expected:
            raise ValueError(f"a tree has {counts} pages and entries, expected {expected}")

    def _entries(self, number: int, depth: int, counts: list[int]) -> Iterator[tuple[bytes, bytes]]:
        kind = _LEAF if depth == 1 else _BRANCH
        start = self._page(number, kind)
        counts[0 if kind == _BRANCH else 1] += 1
        for place, (low, high, flags, key, at) in enumerate(self._nodes(start)):
            if kind == _LEAF:
                counts[3] += 1
                yield key, self._value(low | high << 16, flags, at, start, counts)
                continue
            child = low | high << 16 | flags << 32
            first = True
            for entry in self._entries(child, depth - 1, counts):
                # The key beside a pointer is where its subtree begins; lookups go by it.
                if first and place and entry[0] < key:
                    raise ValueError(f"page {child} begins before {key!r}")
                first = False
                yield entry
            if first:
                raise ValueError(f"page {child} is empty")

    def _page(self, number: int, kind: int) -> int:
        """Check a page's header; give the offset of the page."""
        if number > self.last_page or number in self.reached:
            raise ValueError(f"page {number} is referred to twice, or is beyond the end")
        self.reached.add(number)
        start = number * self.page_size
        found, _, flags, lower, upper = _HEADER.unpack_from(self.data, start)
        if (found, flags) != (number, kind):
            raise ValueError(f"page {number} says it is page {found} with flags {flags:#x}")
        if kind != _OVERFLOW and not (
            _HEADER.size < lower <= upper <= self.page_size and lower % 2 == 0
        ):
            raise ValueError(f"page {number} has no sound list of nodes")
        return start

    def _nodes(self, start: int) -> Iterator[tuple[int, int, int, bytes, int]]:
        _, _, _, lower, upper = _HEADER.unpack_from(self.data, start)
        for position in range(start + _HEADER.size, start + lower, 2):
            offset = int.from_bytes(self.data[position : position + 2], "little")
            at = start + offset
            if not upper <= offset <= self.page_size - _NODE.size:
                raise ValueError(f"a node of page {start // self.page_size} is outside of it")
            low, high, flags, key_size = _NODE.unpack_from(self.data, at)
            at += _NODE.size
            if at + key_size > start + self.page_size:
                raise ValueError(f"a key of page {start // self.page_size} leaves it")
            yield low, high, flags, self.data[at : at + key_size], at + key_size

    def _value(self, size: int, flags: int, at: int, start: int, counts: list[int]) -> bytes:
        if flags == _BIG_DATA:
            (number,) = _COUNT.unpack_from(self.data, at)
            pages = (_HEADER.size - 1 + size) // self.page_size + 1
            first = self._page(number, _OVERFLOW)
            (count,) = struct.unpack_from("<I", self.data, first + 12)
            if count != pages or number + pages - 1 > self.last_page:
                raise ValueError(f"page {number} says it has {count} pages, expected {pages}")
            rest = range(number + 1, number + pages)
            if not self.reached.isdisjoint(rest):
                raise ValueError(f"a page after {number} is referred to twice")
            self.reached.update(rest)
            counts[2] += pages
            return self.data[first + _HEADER.size : first + _HEADER.size + size]
        if flags not in (0, _SUB_TREE) or at + size > start + self.page_size:
            raise ValueError(f"a value of page {start // self.page_size} leaves it")
        return self.data[at : at + size]


def _newest_meta(data: bytes) -> Meta:
    """Read both meta pages and give the newer, which must follow the older at once."""
    first = _meta(data, 0, 0)
    second = _meta(data, first.page_size, 1)
    if first.page_size != second.page_size:
        raise ValueError("its two meta pages differ about the size of a page")
    newer = max(first, second, key=lambda meta: meta.transaction)
    older = min(first, second, key=lambda meta: meta.transaction)
    fresh = newer.transaction == 0
    follows = newer.transaction - older.transaction == 1
    if not fresh and not (follows and second.transaction % 2 == 1):
        raise ValueError(
            f"its meta pages are of transactions {first.transaction} and {second.transaction},"
            " which do not follow each other"
        )
    return newer


def _meta(data: bytes, start: int, number: int) -> Meta:
    found, _, flags, _, _ = _HEADER.unpack_from(data, start)
    at = start + _HEADER.size
    magic, version, _, map_size = _META.unpack_from(data, at)
    at += _META.size
    trees = [_tree(data[at + i * _TREE.size : at + (i + 1) * _TREE.size]) for i in (0, 1)]
    last_page, transaction = _TAIL.unpack_from(data, at + 2 * _TREE.size)
    if (found, flags, magic, version) != (number, _META_PAGE, _MAGIC, _FORMAT):
        raise ValueError(f"meta page {number} is none")
    page_size = trees[0].padding
    if page_size & (page_size - 1) or not 512 <= page_size <= 1 << 16 or map_size > _LARGEST_MAP:
        raise ValueError(f"meta page {number} gives impossible sizes")
    return Meta(transaction=transaction, last_page=last_page, free=trees[0], main=trees[1])


def _tree(raw: bytes) -> Tree:
    padding, flags, depth, branch, leaf, overflow, entries, root = _TREE.unpack(raw)
    return Tree(
        padding=padding,
        flags=flags,
        depth=depth,
        branch_pages=branch,
        leaf_pages=leaf,
        overflow_pages=overflow,
        entries=entries,
        root=root,
    )


def _take_named(named: dict[str, Tree], key: bytes, value: bytes) -> None:
    tree = _tree(value)
    if tree.flags or tree.padding:
        raise ValueError(f"database {key!r} has flags that moma-cl never sets")
    named[key.decode(errors="replace")] = tree


def _take_free(free: list[int], meta: Meta, key: bytes, value: bytes) -> None:
    (count,) = _COUNT.unpack_from(value)
    if len(value) < (count + 1) * _COUNT.size or int.from_bytes(key, "little") > meta.transaction:
        raise ValueError("a list of free pages is damaged")
    listed = struct.unpack_from(f"<{count}Q", value, _COUNT.size)
    if any(one <= other for one, other in pairwise(listed)):
        raise ValueError("a list of free pages is out of order")
    free.extend(listed)


def _check_cover(used: set[int], free: list[int], last_page: int) -> None:
    if len(set(free)) != len(free) or not used.isdisjoint(free):
        raise ValueError("a page is free twice, or both free and in use")
    if used.union(free) != set(range(last_page + 1)):
        lost = set(range(last_page + 1)) - used - set(free)
        raise ValueError(f"{len(lost)} pages are neither free nor in use")
