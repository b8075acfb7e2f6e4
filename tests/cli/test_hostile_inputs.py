"""Files that nobody writes by accident: each is answered with one line and exit code 2, in seconds.

All of them go through the real command line. The limits are in docs/limits.md.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import struct
import time
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers.workspaces import REPOSITORY
from typer.testing import CliRunner

from gru_optuna.cli import app
from gru_optuna.data.readers.limits import check_archive
from gru_optuna.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MANY_DIGITS = "9" * 5000
STUDY = 'name = "x"\n[data]\ntrain = "rows.csv"\ntext = "t"\nlabel = "k"\n'
BUNDLE = REPOSITORY / "tests" / "bundle" / "assets" / "sequences-labels" / "bundle"
SECONDS = 15.0
"""Some take two on a machine that does nothing else."""


def npz(values: bytes, **more: bytes) -> bytes:
    labels, file = io.BytesIO(), io.BytesIO()
    np.save(labels, np.array(["a", "b"]))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in ({"values": values, "labels": labels.getvalue()} | more).items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def npy(shape: object, kind: str = "<f8") -> bytes:
    """An array that declares more than it holds."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


TS = b"@classLabel true a b\n@data\n"
FILES: dict[str, Callable[[], bytes]] = {
    "a line of 80 MiB.csv": lambda: b"t,k\n" + b"x" * (80 << 20) + b",a\n",
    "a header of 80 MiB.csv": lambda: b"x" * (80 << 20) + b"\n1\n",
    "a quote that is never closed.csv": lambda: b't,k\n"' + (b"x" * 99 + b"\n") * 200_000,
    "a million columns.csv": lambda: ",".join(f"c{n}" for n in range(1_000_000)).encode() + b"\n1",
    "many digits.jsonl": lambda: f'{{"t": {MANY_DIGITS}, "k": "a"}}\n'.encode() * 2,
    "deep.jsonl": lambda: b'{"t": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    "many keys.jsonl": lambda: json.dumps(dict.fromkeys(map(str, range(100_000)), 1)).encode(),
    "other keys in every line.jsonl": lambda: b"".join(
        b'{"k%d": 1, "t": "a"}\n' % number for number in range(100_000)
    ),
    "a line of 80 MiB.jsonl": lambda: b'{"t": "' + b"x" * (80 << 20) + b'"}\n',
    "declares 60 GiB.npz": lambda: npz(npy((8_000_000_000, 1, 1))),
    "declares texts of 60 GiB.npz": lambda: npz(npy((2, 1, 1)), lengths=npy((8,), "<U2000000000")),
    "shape of many digits.npz": lambda: npz(npy(f"({MANY_DIGITS}, 1)")),
    "deep header.npz": lambda: npz(npy("(" * 4000 + ")" * 4000)),
    "no room.npz": lambda: npz(npy((2**62, 0, 1))),
    "a thousand arrays.npz": lambda: npz(b"", **{f"a{n}": b"" for n in range(1000)}),
    "a line of 80 MiB.ts": lambda: TS + b"1," * (40 << 20) + b"1:a\n",
    "a million channels.ts": lambda: TS + b"1:" * 1_000_000 + b"a\n",
    "two million steps.ts": lambda: TS + b"1," * 2_000_000 + b"1:a\n",
    "unknown among a million labels.ts": lambda: (
        b"@classLabel true " + b" ".join(b"%d" % n for n in range(1_000_000)) + b"\n@data\n1:x\n"
    ),
    "a number of many digits.ts": lambda: TS + MANY_DIGITS.encode() + b":a\n",
}


@pytest.mark.parametrize("name", FILES)
def test_data_beyond_all_measure_is_refused(here: Path, name: str) -> None:
    (here / name).write_bytes(FILES[name]())
    assert name.partition(".")[0] in refusal("inspect", name)


STUDIES = {
    "nested deeply": STUDY + f"x = {'[' * 5000}{']' * 5000}",
    "keys nested deeply": STUDY + f"[{'.'.join('a' * 5000)}]",
    "digits": STUDY + f"[budget]\ntrials = {MANY_DIGITS}",
    "fewer digits": STUDY + f"[budget]\ntrials = {MANY_DIGITS[:4000]}",
    "digits in a choice": STUDY + f"[search]\nbatch_size = [1, {MANY_DIGITS[:30]}]",
    "digits in a range": STUDY + f"[search]\nbatch_size = {{ low = 1, high = {'9' * 30} }}",
    "digits of a real number": STUDY + f"[search]\ndropout = {MANY_DIGITS}.0",
    "a whole number with an exponent": STUDY + "max_tokens = 1e300",
    "a word of half a MiB": STUDY + f'[model]\npooling = "{"a" * (1 << 19)}"',
    "two MiB": STUDY + "#" * (2 << 20),
    "choices": STUDY + f"[search]\nbatch_size = {list(range(1, 20_000))}",
}


@pytest.mark.parametrize("what", STUDIES)
def test_a_study_file_beyond_all_measure_is_refused(here: Path, what: str) -> None:
    (here / "x.toml").write_text(STUDIES[what])
    said = refusal("tune", "x.toml")
    assert said.startswith("x.toml")
    assert len(said) < 3000


LONG = "n" * 300


@pytest.mark.parametrize(
    "command",
    [
        f"init {LONG} --data rows.csv", f"inspect {LONG}.csv", f"tune {LONG}.toml",
        f"predict {LONG} rows.csv", f"predict bundle {LONG}.csv", f"storage adopt {LONG}",
        f"storage uploads {LONG}", f"studies --storage sqlite:///{LONG}.db",
        f"studies --storage file:{LONG}",
    ],
)  # fmt: skip
def test_a_path_that_is_too_long_is_refused(here: Path, command: str) -> None:
    shutil.copytree(BUNDLE, here / "bundle")
    (here / "rows.csv").write_text("t,k\n" + "good,a\nbad,b\n" * 50)
    assert "File name too long" in refusal(*command.split())


def test_a_folder_that_was_deleted_is_no_place_to_work_in(here: Path) -> None:
    (here / "gone").mkdir()
    os.chdir(here / "gone")
    (here / "gone").rmdir()
    assert refusal("studies").startswith("the current folder was deleted")


def test_files_that_never_end_are_no_study_files_and_hold_no_url(here: Path) -> None:
    os.mkfifo(here / "x.toml")  # nobody writes into it
    assert refusal("tune", "x.toml") == "x.toml is not a regular file. Name a study file.\n"
    assert "must hold a URL" in refusal("studies", "--storage", "file:/dev/zero")


def test_a_link_that_leads_nowhere_says_where_it_leads(here: Path) -> None:
    (here / "rows.csv").symlink_to("elsewhere.csv")
    assert "a link to elsewhere.csv, which doesn't exist" in refusal("inspect", "rows.csv")


@pytest.mark.parametrize("shape", [(10_000, 1, 1), (2_000, 60, 1)])
def test_an_npz_file_that_fits_only_until_it_is_read_is_refused(
    shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers are converted, and each row becomes an object."""
    monkeypatch.setenv("GRU_OPTUNA_MEMORY", "1MiB")
    path, values = tmp_path / "x.npz", np.zeros(shape, "float32")
    np.savez(path, values=values[::2])
    check_archive(path)
    np.savez(path, values=values)
    with pytest.raises(DataError, match=r'"values" has shape .* reading the arrays takes 0\.0 GiB'):
        check_archive(path)


@pytest.mark.parametrize("value", [f"{'[' * 5000}{']' * 5000}", MANY_DIGITS])
def test_an_override_beyond_all_measure_is_refused(here: Path, value: str) -> None:
    (here / "x.toml").write_text(STUDY)
    refusal("tune", "x.toml", "--set", f"budget.trials={value}")


def many_members(manifest: dict[str, Any]) -> None:
    manifest["members"] *= 20_000


def many_choices(specification: dict[str, Any]) -> None:
    specification["search"]["batch_size"] = list(range(1, 2_000_001))


def digits(specification: dict[str, Any]) -> None:
    specification["training"]["epochs"] = int("9" * 4000)


@pytest.mark.parametrize(
    ("file", "change"),
    [("bundle.json", many_members), ("specification.json", many_choices),
     ("specification.json", digits)],
)  # fmt: skip
def test_a_bundle_beyond_all_measure_is_refused(
    here: Path, file: str, change: Callable[[dict[str, Any]], None]
) -> None:
    def write(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    assert refused_bundle(here, file, write).startswith("bundle/")


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000 + b"]" * 100_000, b'{"a": ' + MANY_DIGITS.encode() + b"}", b" " * (65 << 20)],
)
@pytest.mark.parametrize("file", ["bundle.json", "preprocessing/0.json"])
def test_json_beyond_all_measure_is_refused(here: Path, file: str, content: bytes) -> None:
    refused_bundle(here, file, lambda path: path.write_bytes(content))


HEADERS = {
    "longer than the file": struct.pack("<Q", 2**62),
    "deep": struct.pack("<Q", 200_000) + b"[" * 100_000 + b"]" * 100_000,
    "offsets beyond the file": struct.pack("<Q", 64)
    + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999]}}'.ljust(64),
    "a shape beyond all numbers": struct.pack("<Q", 96)
    + b'{"w":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,4]}}'.ljust(96),
}


@pytest.mark.parametrize("what", HEADERS)
def test_weights_whose_header_lies_are_refused(here: Path, what: str) -> None:
    refused_bundle(here, "weights/0.safetensors", lambda path: path.write_bytes(HEADERS[what]))


def refused_bundle(folder: Path, file: str, change: Callable[[Path], Any]) -> str:
    """Changes a file of a bundle, with the right checksum, and returns what is said about it."""
    bundle = folder / "bundle"
    shutil.copytree(BUNDLE, bundle)
    change(bundle / file)
    names = [line.split("  ")[1] for line in (bundle / "SHA256SUMS").read_text().splitlines()]
    sums = {name: hashlib.sha256((bundle / name).read_bytes()).hexdigest() for name in names}
    (bundle / "SHA256SUMS").write_text("".join(f"{sums[name]}  {name}\n" for name in names))
    return refusal("predict", "bundle", "rows.ts")


def refusal(*arguments: str) -> str:
    """The one line with which a command refuses its input, within (processor) seconds."""
    began = time.process_time()
    done = CliRunner().invoke(app, arguments)
    took = time.process_time() - began
    assert done.exit_code == 2, (done.exit_code, done.exception, done.stderr[-500:])
    assert took < SECONDS
    assert done.stderr.count("\n") == 1, done.stderr[:2000]
    assert not done.stdout
    return done.stderr
