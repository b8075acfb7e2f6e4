"""Frames whose columns lie in a file: written part by part, then mapped into memory.

The kernel reads pages of a mapped file when they are looked at and drops them when memory is
short, so such a frame takes as good as none. Polars reads its columns where they lie, through
the Arrow C data interface (https://arrow.apache.org/docs/format/CDataInterface.html): a column
is a few buffers and what they mean.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import polars as pl

from gru_optuna.data.memory import scratch_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_INLINE = 12  # bytes of a text that stand in its view; longer ones are in a buffer of data
_VIEW = 16  # bytes: length, then the text, or its first four, the buffer, and where it begins there
_ALIGNMENT = 64
_COPIED = 1 << 24  # bytes at a time
_KEPT_AS_TEXTS = (pl.Categorical, pl.Enum)
_WIDTHS = {"c": 1, "C": 1, "s": 2, "S": 2, "e": 2, "i": 4, "I": 4, "f": 4, "tdD": 4, "d": 16}
"""Bytes of a value, by its format in the interface; 8 of those that aren't here."""


class _Schema(ctypes.Structure):
    pass


class _Array(ctypes.Structure):
    pass


class _Stream(ctypes.Structure):
    pass


_ReleaseSchema = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Schema))
_ReleaseArray = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Array))
_Schema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.c_void_p),
    ("dictionary", ctypes.c_void_p),
    ("release", _ReleaseSchema),
    ("private_data", ctypes.c_void_p),
]
_Array._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.c_void_p),
    ("dictionary", ctypes.c_void_p),
    ("release", _ReleaseArray),
    ("private_data", ctypes.c_void_p),
]
_GetSchema = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Stream), ctypes.POINTER(_Schema))
_GetNext = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Stream), ctypes.POINTER(_Array))
_Stream._fields_ = [
    ("get_schema", _GetSchema),
    ("get_next", _GetNext),
    ("get_last_error", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]
_NULLABLE = 2  # a flag of schemas

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype = ctypes.c_void_p
_pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]


@dataclass
class _Column:
    """Where the buffers of one column lie in the file of parts."""

    dtype: pl.DataType
    format: str = ""
    values: list[tuple[int, int]] = field(default_factory=list)  # offset, bytes; of each part
    valid: list[tuple[int, int]] = field(default_factory=list)  # the same, a byte a row
    data: list[tuple[int, int]] = field(default_factory=list)  # of long texts
    nulls: int = 0


class Spool:
    """Rows that are written to a file part by part, and read back as one frame.

    The file has no name: nothing of it stays, however the process ends.
    """

    def __init__(self) -> None:
        self._file = _Buffers()
        self._columns: dict[str, _Column] = {}
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    def add(self, part: pl.DataFrame) -> None:
        """Some rows more. A column that is new was null before, and one that is missing is null."""
        for column in part:
            if column.name not in self._columns:
                new = self._columns[column.name] = _Column(column.dtype)
                self._append(new, pl.repeat(None, self._rows, dtype=new.dtype, eager=True))
        for name, known in self._columns.items():
            if name in part.columns:
                self._append(known, part[name])
            else:
                self._append(known, pl.repeat(None, part.height, dtype=known.dtype, eager=True))
        self._rows += part.height

    def frame(self) -> pl.DataFrame:
        """All rows, where they lie."""
        parts, whole = self._file.mapped(), _Buffers()
        places = {
            name: (
                whole.join(parts, column.values, bits=column.format == "b"),
                whole.join(parts, column.valid, bits=True) if column.nulls else None,
            )
            for name, column in self._columns.items()
        }
        joined = whole.mapped()
        columns: list[pl.Series] = []
        for name, column in self._columns.items():
            values, valid = places[name]
            if not column.format:  # nothing of its kind can be used, so nothing was kept
                nothing = pl.repeat(None, self._rows, dtype=column.dtype, eager=True)
                columns.append(nothing.alias(name))
                continue
            buffers = [None if valid is None else joined.ctypes.data + valid]
            buffers.append(joined.ctypes.data + values)
            sizes: NDArray[np.int64] | None = None
            if column.format == "vu":
                buffers += [parts.ctypes.data + offset for offset, _ in column.data]
                sizes = np.array([size for _, size in column.data], dtype=np.int64)
                buffers.append(sizes.ctypes.data)
            shown = _Shown(column.format, self._rows, column.nulls, buffers, (parts, joined, sizes))
            columns.append(pl.Series(shown).cast(column.dtype).alias(name))
        return pl.DataFrame(columns)

    def _append(self, to: _Column, part: pl.Series) -> None:
        if not len(part):
            return
        if part.dtype in _KEPT_AS_TEXTS:
            part, to.dtype = part.cast(pl.String), pl.String()
        if part.dtype.is_nested() or part.dtype in (pl.Binary, pl.Object, pl.Null):
            return
        for array, kind in _arrays_of(part):
            to.format = kind
            self._keep(to, array, kind)

    def _keep(self, to: _Column, array: _Array, kind: str) -> None:
        rows, start = array.length, array.offset
        buffers = [array.buffers[index] for index in range(array.n_buffers)]
        valid = _bits(buffers[0], start, rows)
        to.nulls += rows - int(valid.sum())
        to.valid.append(self._file.append(valid.view(np.uint8)))
        if kind == "b":
            to.values.append(self._file.append(_bits(buffers[1], start, rows).view(np.uint8)))
        elif kind == "vu":
            views = _bytes(buffers[1], start * _VIEW, rows * _VIEW).view(np.uint32).reshape(-1, 4)
            views = views.copy()
            views[~valid] = 0
            views[views[:, 0] > _INLINE, 2] += len(to.data)
            to.values.append(self._file.append(views))
            sizes = _bytes(buffers[-1], 0, 8 * (len(buffers) - 3)).view(np.int64)
            to.data += [
                self._file.append(_bytes(pointer, 0, int(size)))
                for pointer, size in zip(buffers[2:-1], sizes, strict=True)
            ]
        else:
            width = _WIDTHS.get(kind, _WIDTHS.get(kind.partition(":")[0], 8))
            to.values.append(self._file.append(_bytes(buffers[1], start * width, rows * width)))


class _Buffers:
    """A file of buffers, one behind the other."""

    def __init__(self) -> None:
        self._file: IO[bytes] = scratch_file()
        self._end = 0

    def append(self, array: NDArray[Any]) -> tuple[int, int]:
        """Where the bytes of an array lie then, and how many they are."""
        offset = self._start()
        self._write(array)
        return offset, array.nbytes

    def join(self, source: NDArray[np.uint8], places: list[tuple[int, int]], *, bits: bool) -> int:
        """Where pieces of another file lie then, each behind the one before; bytes as bits."""
        offset = self._start()
        rest = np.zeros(0, np.uint8)
        for start, size in places:
            for begin in range(start, start + size, _COPIED):
                piece = source[begin : min(begin + _COPIED, start + size)]
                if bits:
                    piece = np.concatenate([rest, piece])
                    whole = len(piece) - len(piece) % 8
                    piece, rest = np.packbits(piece[:whole], bitorder="little"), piece[whole:]
                self._write(piece)
        self._write(np.packbits(rest, bitorder="little"))
        return offset

    def mapped(self) -> NDArray[np.uint8]:
        """All bytes, mapped; the file is there as long as they are."""
        self._file.write(b"\0")  # an empty file can't be mapped
        self._file.flush()
        # Shared, so that the pages are the file's own: the kernel may drop them at any time.
        return np.frombuffer(mmap.mmap(self._file.fileno(), 0), np.uint8)

    def _start(self) -> int:
        self._end += self._file.write(b"\0" * (-self._end % _ALIGNMENT))
        return self._end

    def _write(self, array: NDArray[Any]) -> None:
        self._end += self._file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _arrays_of(column: pl.Series) -> Iterator[tuple[_Array, str]]:
    """The arrays that a column is made of, and their format."""
    capsule = column.__arrow_c_stream__(None)
    stream = ctypes.cast(_pointer_of(capsule, b"arrow_array_stream"), ctypes.POINTER(_Stream))
    schema = _Schema()
    if stream.contents.get_schema(stream, ctypes.byref(schema)):
        raise MemoryError
    kind = schema.format.decode()
    schema.release(ctypes.byref(schema))
    while True:
        array = _Array()
        if stream.contents.get_next(stream, ctypes.byref(array)):
            raise MemoryError
        if not array.release:
            return
        try:
            yield array, kind
        finally:
            array.release(ctypes.byref(array))


def _bytes(pointer: int | None, start: int, size: int) -> NDArray[np.uint8]:
    if not size or pointer is None:
        return np.zeros(0, np.uint8)
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(pointer + start))


def _bits(pointer: int | None, start: int, rows: int) -> NDArray[np.bool_]:
    """Bits as booleans; all of them true where there is no buffer."""
    if pointer is None:
        return np.ones(rows, np.bool_)
    packed = _bytes(pointer, start // 8, (start % 8 + rows + 7) // 8)
    return np.unpackbits(packed, bitorder="little")[start % 8 :][:rows].view(np.bool_)


_shown: dict[int, _Shown] = {}
_keys = itertools.count(1)


class _Shown:
    """One column in buffers that others may look at; kept as long as somebody does."""

    def __init__(
        self, kind: str, rows: int, nulls: int, buffers: list[int | None], owners: object
    ) -> None:
        self._owners = owners
        self._buffers = (ctypes.c_void_p * len(buffers))(*buffers)
        self._format = kind.encode()
        key = next(_keys)
        self._schema = _Schema(
            format=self._format, name=b"", flags=_NULLABLE, release=_release_schema
        )
        self._array = _Array(
            length=rows,
            null_count=nulls,
            n_buffers=len(buffers),
            buffers=self._buffers,
            release=_release_array,
            private_data=key,
        )
        _shown[key] = self

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        return (
            _new_capsule(ctypes.addressof(self._schema), b"arrow_schema", None),
            _new_capsule(ctypes.addressof(self._array), b"arrow_array", None),
        )


def _forget_schema(schema: Any) -> None:
    schema.contents.release = _ReleaseSchema()


def _forget_array(array: Any) -> None:
    _shown.pop(array.contents.private_data, None)
    array.contents.release = _ReleaseArray()


_release_schema, _release_array = _ReleaseSchema(_forget_schema), _ReleaseArray(_forget_array)
