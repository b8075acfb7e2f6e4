"""Files as they come: missing, empty, a folder, in some other encoding. Each in plain words.

Text is UTF-8, or UTF-16 with a byte-order mark. Other encodings can't be told apart reliably, so
nothing is guessed: the message names the byte, its line, and what the file looks like.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Literal, NoReturn

from gru_optuna.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

Encoding = Literal["utf-8-sig", "utf-16"]

_HEAD = 1 << 16  # bytes that tell what a file is
_SHOWN = 40  # characters of a line, in messages
_HIGH = re.compile(rb"[\x80-\xff]+")
_NOT_TEXT = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook. Unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook. Save the sheet as CSV",
    b"\x1f\x8b": "compressed with gzip. Unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd. Unpack it",
    b"PAR1": "a Parquet file. Name it .parquet",
}
_OTHER_ENDINGS = {
    ".xlsx": "Save the sheet as CSV.",
    ".xls": "Save the sheet as CSV.",
    ".json": "Write one JSON object a line and name the file .jsonl.",
    ".gz": "Unpack it first.",
    ".zip": "Unpack it first.",
    ".npy": "Save the values and labels together with numpy.savez.",
}


def check_file(path: Path, endings: Collection[str]) -> None:
    """Makes sure that a file is there, has a known ending, and isn't empty.

    Raises
    ------
    DataError
        Naming the nearest file where there is none of this name.
    """
    ending = path.suffix.lower()
    if ending not in endings and not path.is_dir():
        advice = _OTHER_ENDINGS.get(ending, f"Known: {', '.join(endings)}.")
        raise DataError(
            f'{path}: the ending "{path.suffix}" is not one that is read here. {advice}'
        )
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise DataError(_missing(path, endings)) from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.") from None
    if path.is_dir():
        raise DataError(f"{path}: is a folder. {_files_of(path, endings)}")
    if not path.is_file():
        raise DataError(f"{path}: is not a plain file. Name a file with rows.")
    if not size:
        raise DataError(f"{path}: the file is empty. Name a file with rows.")


def encoding_of(path: Path) -> Encoding:
    """How a text file is encoded, by its byte-order mark.

    Raises
    ------
    DataError
        If it can't be opened, or is no text at all.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.") from None
    for mark, what in _NOT_TEXT.items():
        if head.startswith(mark):
            raise DataError(f"{path}: is {what}.")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if head.count(0) > len(head) // 4:
        raise DataError(
            f"{path}: every other byte is zero, as in UTF-16 without a byte-order mark. "
            f"Save the file as UTF-8."
        )
    return "utf-8-sig"


def read_text(path: Path) -> str:
    """A whole text file, without its byte-order mark.

    Raises
    ------
    DataError
    """
    encoding = encoding_of(path)
    try:
        return path.read_bytes().decode(encoding)
    except UnicodeDecodeError:
        refuse_encoding(path, encoding)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.") from None


def refuse_encoding(path: Path, encoding: Encoding) -> NoReturn:
    """Says which byte of a file can't be decoded, in which line, and what it may be.

    Raises
    ------
    DataError
        Always.
    """
    raw = path.read_bytes()
    try:
        raw.decode(encoding)
    except UnicodeDecodeError as error:
        start = error.start
    else:
        raise DataError(f"{path}: the text can't be decoded. Save the file as UTF-8.")
    if encoding == "utf-16":
        line = raw[:start].decode(encoding, errors="ignore").count("\n") + 1
        raise DataError(
            f"{path}, line {line}: the bytes at {start} are not UTF-16, as its byte-order mark "
            f"says. Save the file as UTF-8."
        )
    if raw.startswith(codecs.BOM_UTF8):
        start += len(codecs.BOM_UTF8)  # utf-8-sig counts from behind the mark
    line_start = raw.rfind(b"\n", 0, start) + 1
    number = raw.count(b"\n", 0, start) + 1
    raise DataError(
        f"{path}, line {number}: byte {start} (0x{raw[start]:02X}) is not UTF-8. "
        f"{_likely_encoding(raw, line_start, path.name)}"
    )


def _likely_encoding(raw: bytes, line_start: int, name: str) -> str:
    line = raw[line_start:].split(b"\n", 1)[0].strip()
    # Chinese two-byte text comes in runs of even length; accented Latin letters stand alone.
    runs = [len(run) for run in _HIGH.findall(raw[:_HEAD] + line)]
    even = sum(length % 2 == 0 for length in runs)
    likely = "GB18030" if 2 * even > len(runs) else "Windows-1252"
    try:
        raw.decode(likely)
        shown = line.decode(likely)
    except UnicodeDecodeError:
        return "Save the file as UTF-8."
    return (
        f'Read as {likely}, the line begins "{shown[:_SHOWN]}"; if that is right, save the file '
        f"as UTF-8, in an editor or with: iconv -f {likely} -t UTF-8 {name} > NEW_FILE"
    )


def _missing(path: Path, endings: Collection[str]) -> str:
    if not path.parent.is_dir():
        return f"{path}: there is no folder {path.parent}."
    return f"{path}: no such file. {_files_of(path.parent, endings, path.name)}"


def _files_of(folder: Path, endings: Collection[str], near: str = "") -> str:
    names = [file.name for file in folder.iterdir() if file.suffix.lower() in endings]
    if not names:
        return f"No file to read in {folder}."
    return did_you_mean(near, names)
