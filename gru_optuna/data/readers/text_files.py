"""Opens text files, and says plainly why one can't be read: missing, empty, a folder, encoded.

Text is UTF-8, or UTF-16 with a byte-order mark. Other encodings can't be told apart reliably, so
none is guessed: the message names the byte, its line, and the encoding that the file looks like.
"""

from __future__ import annotations

import codecs
import itertools
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

from gru_optuna.data.readers.limits import LONGEST_LINE, check_lines
from gru_optuna.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

Encoding = Literal["utf-8-sig", "utf-16"]

LONGEST = LONGEST_LINE
"""The most bytes of a line, in files that are read part by part."""

_HEAD = 1 << 16  # bytes that show the kind of a file
_BLOCK = 1 << 20

_FEW_SYLLABLES = 16  # by chance, Chinese text may have this many
_SHOWN = 40  # characters of a line, in messages
_SYMBOL_IN_WORD = re.compile(r"[^\W\d_][^\x00-\x7f\w]")
_HIGH = re.compile(rb"[\x80-\xff]+")
_NOT_TEXT = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook. Unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook. Save the sheet as CSV",
    b"\x1f\x8b": "compressed with gzip. Unpack it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd. Unpack it",
    b"PAR1": "a Parquet file. Name it .parquet",
}
_OF_TEXT = (".txt", ".dat", ".data", ".asc")
_OTHER_ENDINGS = {
    ".xlsx": "Save the sheet as CSV.",
    ".xls": "Save the sheet as CSV.",
    ".json": "Write one JSON object a line and name the file .jsonl.",
    ".gz": "Unpack it first.",
    ".zip": "Unpack it first.",
    ".tsf": "It is the format of the Monash archive. Write a CSV file with one row for each time, "
    "and columns of the series, the times and the values.",
    ".arff": "It is Weka's format. Write its rows as CSV, with the names of the attributes in the "
    "first line; scipy.io.arff.loadarff reads it.",
    ".npy": "Save the values and labels together with numpy.savez.",
}


def check_file(path: Path, endings: Collection[str]) -> None:
    """Checks that a file exists, has a known ending, and isn't empty.

    Raises
    ------
    DataError
        If not; the message suggests the nearest name in the folder.
    """
    ending = path.suffix.lower()
    if ending not in endings and not path.is_dir():
        advice = _OTHER_ENDINGS.get(ending, f"Known: {', '.join(endings)}.")
        if ending in _OF_TEXT and ".csv" in endings:
            advice += " If commas, semicolons, tabs or bars separate its fields, name it .csv."
        raise DataError(
            f'{path}: files with the ending "{path.suffix}" are not read here. {advice}'
        )
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise DataError(_missing(path, endings)) from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.") from None
    if path.is_dir():
        raise DataError(f"{path} is a folder. {_files_of(path, endings)}")
    if not path.is_file():
        raise DataError(f"{path} is not a regular file. Name a file with rows.")
    if not size:
        raise DataError(f"{path}: the file is empty. Name a file with rows.")


def encoding_of(path: Path) -> Encoding:
    """The encoding of a text file, by its byte-order mark; checks that its lines end.

    Raises
    ------
    DataError
        If the file can't be opened, or isn't text.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
        check_lines(path)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.") from None
    for mark, what in _NOT_TEXT.items():
        if head.startswith(mark):
            raise DataError(f"{path} is {what}.")
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
        If the file can't be read, or isn't text in a known encoding.
    """
    encoding = encoding_of(path)
    try:
        return path.read_bytes().decode(encoding)
    except UnicodeDecodeError:
        refuse_encoding(path, encoding)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}.") from None


def blocks_of(path: Path, encoding: Encoding, size: int) -> Iterator[bytes]:
    """A text file in UTF-8, without its byte-order mark, about `size` bytes at a time.

    Raises
    ------
    UnicodeError
        If its mark says UTF-16 and it isn't. UTF-8 is passed on unchecked.
    """
    with path.open("rb") as file:
        if encoding == "utf-8-sig":
            head = file.read(len(codecs.BOM_UTF8))
            yield head.removeprefix(codecs.BOM_UTF8)
            yield from iter(lambda: file.read(size), b"")
            return
        decoder = codecs.getincrementaldecoder(encoding)()
        for block in iter(lambda: file.read(size), b""):
            yield decoder.decode(block).encode()
        yield decoder.decode(b"", final=True).encode()


def lines_of(path: Path, encoding: Encoding, size: int) -> Iterator[bytes]:
    """The blocks of `blocks_of`, cut at the ends of lines.

    Raises
    ------
    DataError
        If a line is longer than `LONGEST`.
    """
    rest, lines = b"", 0
    for block in blocks_of(path, encoding, size):
        rest += block
        if end := rest.rfind(b"\n") + 1:
            yield rest[:end]
            lines += rest.count(b"\n", 0, end)
            rest = rest[end:]
        elif len(rest) > LONGEST:
            refuse_line(path, lines + 1)
    if rest:
        yield rest


def refuse_line(path: Path, number: int) -> NoReturn:
    """Refuses a line that doesn't seem to end.

    Raises
    ------
    DataError
        Always.
    """
    raise DataError(
        f"{path}, line {number}: the line is longer than {LONGEST >> 20} MiB. "
        f"Write one row per line."
    )


def refuse_encoding(path: Path, encoding: Encoding) -> NoReturn:
    """Names the first byte that can't be decoded, its line, and the likely encoding.

    Raises
    ------
    DataError
        Always.
    """
    start, line_start, number = _undecodable(path, encoding)
    if encoding == "utf-16":
        raise DataError(
            f"{path}, line {number}: the bytes at {start} are not UTF-16, although the file's "
            f"byte-order mark says so. Save the file as UTF-8."
        )
    with path.open("rb") as file:
        file.seek(start)
        byte = file.read(1)[0]
    raise DataError(
        f"{path}, line {number}: byte {start} (0x{byte:02X}) is not UTF-8. "
        f"{_likely_encoding(path, line_start)}"
    )


def _undecodable(path: Path, encoding: Encoding) -> tuple[int, int, int]:
    """The first byte that can't be decoded, where its line begins, and the line's number."""
    plain = "utf-8"
    if encoding == "utf-16":
        with path.open("rb") as file:
            plain = "utf-16-le" if file.read(2) == codecs.BOM_UTF16_LE else "utf-16-be"
    decoder = codecs.getincrementaldecoder(plain)()
    read, line_start, number = 0, 0, 1
    with path.open("rb") as file:
        for block in itertools.chain(iter(lambda: file.read(_BLOCK), b""), [b""]):
            kept = len(decoder.getstate()[0])  # bytes of a character that was cut by the block
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                start = read - kept + error.start
                good = error.object[: error.start]
                text = good.decode(plain, "ignore")
                if plain == "utf-8" and "\n" in text:
                    line_start = read - kept + good.rfind(b"\n") + 1
                return start, line_start, number + text.count("\n")
            number += text.count("\n")
            if plain == "utf-8" and b"\n" in block:
                line_start = read + block.rfind(b"\n") + 1
            read += len(block)
    raise DataError(f"{path}: the text can't be decoded. Save the file as UTF-8.")


def _likely_encoding(path: Path, line_start: int) -> str:
    with path.open("rb") as file:
        head = file.read(_HEAD)
        file.seek(line_start)
        line = file.readline(_HEAD).strip()
    shown = None
    for likely in _candidates(head + line):
        with suppress(UnicodeDecodeError), path.open(encoding=likely, newline="") as text:
            for _ in iter(lambda: text.read(_BLOCK), ""):
                pass
            shown = line.decode(likely)
            break
    if shown is None:
        return "Save the file as UTF-8."
    return (
        f'Read as {likely}, the line begins "{shown[:_SHOWN]}"; if that is right, save the file '
        f"as UTF-8, in an editor or with: iconv -f {likely} -t UTF-8 {path.name} > NEW_FILE"
    )


def _candidates(text: bytes) -> list[str]:
    """The encodings that a text may have, the likeliest first."""
    runs = _HIGH.findall(text)
    high = b"".join(runs)
    even = sum(len(run) % 2 == 0 for run in runs)
    # Cyrillic letters follow one another, and all lie in the upper half of the high bytes.
    if len(high) >= 3 * len(runs) and sum(byte >= 0xC0 for byte in high) >= 0.95 * len(high):
        return ["Windows-1251"]
    # Japanese syllables begin with the same two bytes.
    if high.count(0x82) + high.count(0x83) > len(high) / 5:
        return ["Shift_JIS"]
    # Two bytes a character make runs of even length; accented Latin letters stand alone.
    if 2 * even > len(runs):
        leads = b"".join(run[::2] for run in runs if len(run) % 2 == 0)
        # All Korean syllables begin with these bytes, but only two thirds of Chinese characters.
        syllables = sum(0xB0 <= byte <= 0xC8 for byte in leads)
        if syllables > max(_FEW_SYLLABLES, 0.95 * len(leads)):
            return ["CP949", "GB18030"]
        if leads.count(0xA4) + leads.count(0xA5) > len(leads) / 5:
            return ["EUC-JP", "GB18030"]
        return ["GB18030", "Shift_JIS"]
    # In the wrong one of these, Central European letters read as symbols in the middle of words.
    symbols = {
        name: len(_SYMBOL_IN_WORD.findall(text.decode(name, "replace")))
        for name in ("Windows-1252", "Windows-1250")
    }
    latin = sorted(symbols, key=lambda name: symbols[name])
    letters = sum(map(str.isalpha, high.decode(latin[0], "replace")))
    # Accented letters are letters; the first bytes of Japanese characters look like symbols.
    return latin if 3 * letters > 2 * len(high) else ["Shift_JIS", *latin]


def _missing(path: Path, endings: Collection[str]) -> str:
    if not path.parent.is_dir():
        return f"{path}: there is no folder {path.parent}."
    if path.is_symlink():
        return f"{path}: a link to {path.readlink()}, which doesn't exist."
    return f"{path}: no such file. {_files_of(path.parent, endings, path.name)}"


def _files_of(folder: Path, endings: Collection[str], near: str = "") -> str:
    names = [file.name for file in folder.iterdir() if file.suffix.lower() in endings]
    if not names:
        place = "this folder" if folder == Path() else folder
        return f"There is no file of these types in {place}: {' '.join(sorted(endings))}."
    return did_you_mean(near, names)
