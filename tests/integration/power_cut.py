# SPDX-License-Identifier: Apache-2.0
"""The states that a disk may be left in when the power goes.

From a trace of the calls that programs made (libfault.c describes it) this builds a model of what
is surely on disk and what is on its way, and at any point of the trace draws states out of all
that are possible then. What POSIX promises is all that counts, not what today's file systems do:

- A write that has returned is on its way. It may be kept, lost, or torn at sectors of 512 bytes,
  independently of all others, until an fsync or fdatasync of the file that began after the write
  returned has itself returned. A write through an O_DSYNC or O_SYNC descriptor is on disk when it
  returns. A call that has not returned may have happened or not, the sync among them.
- The length: each of the lengths that the file had on the way. Bytes that the length covers and no
  kept write has filled are zeros, or garbage where something was written and lost (the blocks were
  taken and not yet filled).
- A truncation is kept or lost as a whole, a punched hole also in parts (4096 bytes).
- Names: a creation, link, rename, unlink or mkdir is kept or lost as a whole, each by itself, until
  the directory is synced with fsync (both directories of a rename). Syncing a file does not make
  its name durable.

The extremes and a few shapes that real file systems leave are always among the states: nothing
unsynced survived; everything did; names and lengths without data; data without names; a prefix of
all that happened. The rest are seeded random choices.
"""

import collections
import dataclasses
import os
import pathlib
import struct

SECTOR = 512
PAGE = 4096

RECORD = struct.Struct("<IHHQqQQQQQIiIIQ")
MAGIC = 0x544C4146
(OUTPUT, CREATE, WRITE, SYNC, SYNC_ALL, TRUNCATE, ALLOCATE, PUNCH, RENAME, LINK, UNLINK, MKDIR,
 RMDIR, OTHER) = range(1, 15)  # fmt: skip
MARK = 100  # written by the test between two programs
BEGIN, DONE, WHOLE = range(3)
DURABLE, DATA, KEEP_SIZE, EXCHANGE, NO_NAME = 1, 2, 4, 8, 16


@dataclasses.dataclass
class Record:
    kind: int
    phase: int
    key: tuple  # process and sequence: the same in BEGIN and DONE
    result: int
    inode: int
    offset: int
    size: int
    flags: int
    path: str
    path2: str
    data: bytes


def read_trace(path):
    """All records of a trace, in order."""
    raw = memoryview(pathlib.Path(path).read_bytes())
    at = 0
    records = []
    while at < len(raw):
        (magic, kind, phase, sequence, result, inode, _, offset, size, flags, process, _,
         path_size, path2_size, data_size) = RECORD.unpack_from(raw, at)  # fmt: skip
        if magic != MAGIC:
            raise ValueError(f"no record at byte {at} of the trace")
        at += RECORD.size
        parts = []
        for length in (path_size, path2_size, data_size):
            parts.append(bytes(raw[at : at + length]))
            at += length
        records.append(
            Record(kind, phase, (process, sequence), result, inode, offset, size, flags,
                   os.fsdecode(parts[0]), os.fsdecode(parts[1]), parts[2])  # fmt: skip
        )
    return records


def write_mark(path, text):
    """Puts a mark of the test itself at the end of a trace."""
    data = text.encode()
    head = RECORD.pack(MAGIC, MARK, WHOLE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, len(data))
    with open(path, "ab") as trace:
        trace.write(head + data)


class Pages:
    """The bytes of a file, sparse: only pages that were written are here."""

    def __init__(self, other=None):
        self.pages = dict(other.pages) if other else {}
        self.size = other.size if other else 0

    def write(self, offset, data):
        end = offset + len(data)
        done = 0
        while done < len(data):
            number, start = divmod(offset + done, PAGE)
            count = min(PAGE - start, len(data) - done)
            piece = data[done : done + count]
            if count < PAGE:
                page = bytearray(self.pages.get(number, bytes(PAGE)))
                page[start : start + count] = piece
                piece = bytes(page)
            self.pages[number] = piece
            done += count
        self.size = max(self.size, end)

    def clear(self, offset, size):
        """Zeros, without a change of length."""
        end = min(offset + size, self.size)
        while offset < end:
            number, start = divmod(offset, PAGE)
            count = min(PAGE - start, end - offset)
            if count == PAGE:
                self.pages.pop(number, None)
            elif number in self.pages:
                page = bytearray(self.pages[number])
                page[start : start + count] = bytes(count)
                self.pages[number] = bytes(page)
            offset += count

    def resize(self, size):
        if size < self.size:
            self.clear(size, self.size - size)
            for number in [each for each in self.pages if each * PAGE >= size]:
                del self.pages[number]
        self.size = size

    def store(self, path):
        with open(path, "wb") as file:
            run, at = [], None  # neighbours go out in one write
            for number in sorted(self.pages):
                if at is None or number != at + len(run):
                    if run:
                        os.pwrite(file.fileno(), b"".join(run), at * PAGE)
                    run, at = [], number
                run.append(self.pages[number])
            if run:
                os.pwrite(file.fileno(), b"".join(run), at * PAGE)
            os.ftruncate(file.fileno(), self.size)

    def digest_parts(self):
        yield self.size
        for number in sorted(self.pages):
            yield number, hash(self.pages[number])


@dataclasses.dataclass(eq=False)
class Change:
    """One change of a file or of names, on its way to disk."""

    record: Record
    order: int
    done: bool = False
    durable: bool = False


class File:
    def __init__(self):
        self.base = Pages()  # on disk
        self.changes = []  # on their way, in order

    def settle(self):
        """What is durable up to the first change that is not goes into the base."""
        count = 0
        for change in self.changes:
            if not change.durable:
                break
            apply(self.base, change.record)
            count += 1
        del self.changes[:count]

    def draw(self, choice):
        pages = Pages(self.base)
        for change in self.changes:
            if change.durable or choice.keeps(change):
                apply(pages, change.record)
            else:
                choice.half_apply(pages, change.record)
        return pages


class Directory:
    def __init__(self):
        self.now = {}  # what programs see: name -> File or Directory
        self.base = {}  # what is on disk


def apply(pages, record):
    if record.kind == WRITE:
        pages.write(record.offset, record.data)
    elif record.kind == TRUNCATE:
        pages.resize(record.size)
    elif record.kind == ALLOCATE:
        if not record.flags & KEEP_SIZE:
            pages.size = max(pages.size, record.offset + record.size)
    elif record.kind == PUNCH:
        pages.clear(record.offset, record.size)


# ---- choices: one way for the disk to be left ----------------------------------------------------


class Nothing:
    """Nothing that was not synced survived."""

    name = "nothing"

    def keeps(self, change):
        return False

    def half_apply(self, pages, record):
        pass


class Everything(Nothing):
    """Everything that had begun survived."""

    name = "everything"

    def keeps(self, change):
        return True


class Returned(Nothing):
    """Everything that had returned survived: what a kill leaves."""

    name = "returned"

    def keeps(self, change):
        return change.done


class NamesOnly(Nothing):
    """Names and lengths, but no data: delayed allocation."""

    name = "names-and-lengths"

    def keeps(self, change):
        return change.record.kind not in (WRITE, PUNCH)

    def half_apply(self, pages, record):
        if record.kind == WRITE:
            pages.size = max(pages.size, record.offset + len(record.data))


class DataOnly(Nothing):
    """All data, but no change of names."""

    name = "data"

    def keeps(self, change):
        return change.record.kind in (WRITE, PUNCH, TRUNCATE, ALLOCATE)


class Prefix(Nothing):
    """In the order of the calls, up to a random one."""

    name = "prefix"

    def __init__(self, rng, changes):
        kept = rng.randrange(len(changes) + 1)
        self.kept = set(map(id, changes[:kept]))

    def keeps(self, change):
        return id(change) in self.kept


class Random:
    """Each change by itself: kept, lost or torn."""

    name = "random"

    def __init__(self, rng):
        self.rng = rng
        self.keep = rng.choice([0.1, 0.5, 0.5, 0.9])
        self.tear = rng.choice([0, 0.1, 0.5])
        self.lengths = rng.choice([0, 0.5, 1])
        self.garbage = rng.random() < 0.3

    def keeps(self, change):
        return self.rng.random() < self.keep

    def half_apply(self, pages, record):
        if record.kind == WRITE:
            self.tear_write(pages, record)
        elif record.kind == PUNCH and self.rng.random() < self.tear:
            for offset in range(record.offset, record.offset + record.size, PAGE):
                if self.rng.random() < 0.5:
                    pages.clear(offset, min(PAGE, record.offset + record.size - offset))

    def tear_write(self, pages, record):
        end = record.offset + len(record.data)
        old_size = pages.size
        torn = self.rng.random() < self.tear
        at = record.offset
        while torn and at < end:
            stop = min(end, (at // SECTOR + 1) * SECTOR)
            if self.rng.random() < 0.5:
                pages.write(at, record.data[at - record.offset : stop - record.offset])
            elif self.garbage and at >= old_size:
                pages.write(at, self.rng.randbytes(stop - at))
            at = stop
        if self.rng.random() < self.lengths:
            pages.size = max(pages.size, end)
            if not torn and self.garbage and record.offset >= old_size:
                pages.write(record.offset, self.rng.randbytes(len(record.data)))


# ---- the disk ------------------------------------------------------------------------------------


class Disk:
    """The model: feed it the records of a trace in order, draw states in between."""

    def __init__(self, root_inode):
        self.root = Directory()
        self.objects = {root_inode: self.root}
        self.names = []  # changes of names on their way, in order
        self.open_calls = {}  # key -> (File, Change), or what a sync will cover
        self.fed = 0

    # -- what happens

    def feed(self, record):
        self.fed += 1
        if record.kind in (OUTPUT, OTHER, MARK):
            return
        if record.phase == WHOLE and record.kind != TRUNCATE:
            self.change_names(record)
        elif record.kind in (SYNC, SYNC_ALL):
            self.sync(record)
        else:
            self.change_data(record)

    def change_data(self, record):
        file = self.objects.get(record.inode)
        if record.phase == WHOLE:  # O_TRUNC
            file.changes.append(Change(record, self.fed, done=True))
        elif record.phase == BEGIN:
            change = Change(record, self.fed)
            self.open_calls[record.key] = (file, change)
            if file:
                file.changes.append(change)
        else:
            file, change = self.open_calls.pop(record.key)
            if not file:
                return  # a file that was there before the trace, or has no name
            if record.result < 0:
                file.changes.remove(change)
                return
            if change.record.kind == WRITE:
                change.record.data = change.record.data[: record.result]
            change.done = True
            change.durable = bool(change.record.flags & DURABLE)
            file.settle()

    def sync(self, record):
        """What had returned when the sync began is durable when it has returned."""
        if record.phase == BEGIN:
            target = self.objects.get(record.inode)
            if record.kind == SYNC_ALL:
                data = [each for each in self.data_changes() if each.done]
                names = [(each, None) for each in self.names]
            else:
                data = [each for each in getattr(target, "changes", ()) if each.done]
                names = [(each, target) for each in self.names if target in each.directories]
            self.open_calls[record.key] = data, names
            return
        data, names = self.open_calls.pop(record.key)
        if record.result < 0:
            return
        for change in data:
            change.durable = True
        for change, directory in names:
            change.directories.discard(directory)
            change.durable = directory is None or not change.directories
        for each in self.objects.values():
            if isinstance(each, File):
                each.settle()
        self.settle_names()

    def data_changes(self):
        for each in self.objects.values():
            if isinstance(each, File):
                yield from each.changes

    # -- names

    def walk(self, path):
        """The directory that holds `path`, and the last part of it."""
        *parents, name = path.split("/")
        directory = self.root
        for each in parents:
            directory = directory.now[each]
        return directory, name

    def change_names(self, record):
        change = Change(record, self.fed, done=True)
        source = target = self.walk(record.path) if record.path else (self.root, "")
        if record.path2:
            target = self.walk(record.path2)
        change.source, change.target = source, target
        change.directories = {source[0], target[0]}
        if record.kind in (CREATE, MKDIR):
            change.object = File() if record.kind == CREATE else Directory()
            self.objects[record.inode] = change.object
            if record.flags & NO_NAME:
                return
        elif record.kind == LINK:
            # A file without a name is linked by way of /proc: its inode says which.
            change.object = self.objects.get(record.inode)
            change.directories = {target[0]}
        else:
            change.object = source[0].now.get(source[1])
        if record.kind == RENAME:
            change.replaced = target[0].now.get(target[1])
        move_names(change, lambda directory: directory.now)
        self.names.append(change)

    def settle_names(self):
        count = 0
        for change in self.names:
            if not change.durable:
                break
            move_names(change, lambda directory: directory.base)
            count += 1
        del self.names[:count]

    # -- what may be left

    def pending(self):
        changes = [*self.names, *self.data_changes()]
        return [each for each in changes if not each.durable]

    def shapes(self):
        """The extremes, and what real file systems leave."""
        return [Nothing(), Everything(), Returned(), NamesOnly(), DataOnly()]

    def random_choices(self, rng, count):
        pending = sorted(self.pending(), key=lambda each: each.order)
        return [
            Prefix(rng, pending) if rng.random() < 0.15 else Random(rng) for _ in range(count)
        ]

    def draw(self, choice):
        """One state: {path: Pages or None for a directory}."""
        tables = collections.defaultdict(dict)
        for each in self.objects.values():
            if isinstance(each, Directory):
                tables[each] = dict(each.base)
        for change in self.names:
            if change.durable or choice.keeps(change):
                move_names(change, lambda directory: tables[directory])
        state, drawn = {}, {}

        def visit(directory, path):
            for name, each in sorted(tables[directory].items()):
                below = f"{path}/{name}" if path else name
                if isinstance(each, Directory):
                    state[below] = None
                    visit(each, below)
                elif isinstance(each, File):
                    if each not in drawn:
                        drawn[each] = each.draw(choice)
                    state[below] = drawn[each]

        visit(self.root, "")
        return state


def move_names(change, table_of):
    """Carries out a change of names on the tables that `table_of` gives."""
    record = change.record
    (source, source_name), (target, target_name) = change.source, change.target
    if record.kind in (CREATE, MKDIR):
        table_of(source)[source_name] = change.object
    elif record.kind == LINK:
        table_of(target)[target_name] = change.object
    elif record.kind in (UNLINK, RMDIR):
        table_of(source).pop(source_name, None)
    elif record.kind == RENAME:
        if table_of(source).get(source_name) is change.object:
            del table_of(source)[source_name]
        table_of(target)[target_name] = change.object
        if record.flags & EXCHANGE:
            table_of(source)[source_name] = change.replaced


def digest(state):
    """Equal for equal states."""
    return hash(
        tuple(
            (path, tuple(pages.digest_parts()) if pages else None)
            for path, pages in sorted(state.items())
        )
    )


def materialise(state, target, skip=()):
    """Writes a state into the empty directory `target`."""
    for path, pages in sorted(state.items()):
        if path in skip:
            continue
        if pages is None:
            os.mkdir(os.path.join(target, path))
        else:
            pages.store(os.path.join(target, path))


def differences(state, root, skip=()):
    """Where a state and a real directory differ: paths."""
    real = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(directory, name)
            real[os.path.relpath(path, root)] = path
    different = sorted(set(real) ^ set(state))
    for path, pages in state.items():
        if path not in real or pages is None:
            continue
        with open(real[path], "rb") as file:
            size = os.fstat(file.fileno()).st_size
            same = size == pages.size
            for number in range((size + PAGE - 1) // PAGE):
                expected = pages.pages.get(number, bytes(PAGE))
                same = same and file.read(PAGE) == expected[: size - number * PAGE]
        if not same:
            different.append(path)
    return [each for each in different if each not in skip]
