"""Checkpoints as bytes, and the places that keep them; ``test_pool_checkpoints`` has the rest."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from optuna.artifacts import FileSystemArtifactStore
from safetensors.torch import save

from gru_optuna.checkpoints.checkpoint import Checkpoint, DamagedCheckpoint, digest
from gru_optuna.checkpoints.marker import MARKER, Owner
from gru_optuna.checkpoints.stores import (
    PIECE_BYTES,
    Artifacts,
    ContentStore,
    Folder,
    StoredFile,
    open_store,
)
from gru_optuna.errors import StorageError

# --- as bytes ---

finite = st.floats(allow_nan=False, allow_infinity=False)
states = st.dictionaries(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | finite | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    ),
    max_size=4,
)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Of any shape, and of any bits: NaN, infinities, denormals and both zeros among them."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    bits = torch.randint(
        -(2**63),
        2**63 - 1,
        shape,
        generator=torch.Generator().manual_seed(draw(st.integers(0, 99))),
    )
    return bits.view(draw(st.sampled_from([torch.int64, torch.float64]))) if bits.dim() else bits


MADE = st.builds(Checkpoint, st.dictionaries(st.text(min_size=1), tensors(), max_size=4), states)


@given(checkpoint=MADE)
def test_bytes_bring_back_every_bit(checkpoint: Checkpoint) -> None:
    content = checkpoint.to_bytes()
    again = Checkpoint.from_bytes(content)
    assert again.state == checkpoint.state
    assert again.tensors.keys() == checkpoint.tensors.keys()
    for name, tensor in checkpoint.tensors.items():
        got = again.tensors[name]
        assert (got.dtype, got.shape) == (tensor.dtype, tensor.shape)
        assert got.numpy().tobytes() == tensor.numpy().tobytes()
    # Equal checkpoints have equal digests.
    assert again.to_bytes() == content


@given(curve=st.lists(finite))
def test_numbers_of_a_curve_come_back_exactly(curve: list[float]) -> None:
    state = Checkpoint.from_bytes(Checkpoint({}, {"curve": curve}).to_bytes()).state
    assert [x.hex() for x in state["curve"]] == [x.hex() for x in curve]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_neither_written_nor_read(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        Checkpoint({}, {"loss": number}).to_bytes()
    record = json.dumps({"format": 1, "state": {"loss": number}})
    with pytest.raises(DamagedCheckpoint, match="among its numbers"):
        Checkpoint.from_bytes(save({}, {"gru_optuna": record}))


SOME = Checkpoint(
    {"weights/head.bias": torch.arange(6.0), "updates": torch.tensor(7)},
    {"seed": 1, "curve": [[0.1, 0.2, 0.3]]},
)
CONTENT = SOME.to_bytes()


@given(end=st.integers(0, len(CONTENT) - 1))
def test_a_truncation_anywhere_is_noticed(end: int) -> None:
    assert digest(CONTENT[:end]) != digest(CONTENT)
    with pytest.raises(DamagedCheckpoint):
        Checkpoint.from_bytes(CONTENT[:end])


@settings(max_examples=300)
@given(place=st.integers(0, len(CONTENT) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_noticed(place: int, bit: int) -> None:
    """By the digest. Reading it, one may see nothing, but nothing worse than damage happens."""
    flipped = bytearray(CONTENT)
    flipped[place] ^= 1 << bit
    assert digest(bytes(flipped)) != digest(CONTENT)
    assert only_damage(bytes(flipped))


def only_damage(content: bytes) -> bool:
    """Whether reading raises nothing or `DamagedCheckpoint`."""
    try:
        Checkpoint.from_bytes(content)
    except DamagedCheckpoint as damaged:
        return "\n" not in str(damaged)
    return True


def with_header(header: bytes, data: bytes = b"") -> bytes:
    """A safetensors file of any header."""
    return len(header).to_bytes(8, "little") + header + data


def described(dtype: str, shape: list[int], size: int) -> bytes:
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}
    return with_header(json.dumps({"a": entry}).encode(), bytes(size))


@settings(max_examples=300)
@given(content=st.binary(max_size=64) | st.binary(max_size=200).map(with_header))
@example(b"\xff" * 8)
@example(with_header(b"{}"))
@example(with_header(b"[" * 100_000))
@example(with_header(b'{"__metadata__":{"gru_optuna":"' + b"[" * 100_000 + b'"}}'))
@example(with_header(b'{"__metadata__":{"gru_optuna":1}}'))
@example(with_header(b'{"__metadata__":{"gru_optuna":"\\ud800"}}'))
@example(described("F32", [0, 2**63], 0))
@example(described("F32", [0, 2**62, 2**62], 0))
@example(described("F32", [2**62, 4], 0))
@example(described("F4", [2], 1))
@example(described("F8_E8M0", [1], 1))
@example(described("BOOL", [1], 1))
def test_bytes_of_anything_are_damage_and_nothing_worse(content: bytes) -> None:
    assert only_damage(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a checkpoint: "),
        (save({"a": torch.zeros(2)}), "tensors without the state of a trial"),
        (save({}, {"gru_optuna": "[]"}), "tensors without the state of a trial"),
        (save({}, {"gru_optuna": '{"format": 1}'}), "tensors without the state of a trial"),
        (save({}, {"gru_optuna": '{"form'}), "not a checkpoint: JSONDecodeError"),
        (
            save({}, {"gru_optuna": '{"format": 2, "state": {}}'}),
            "written in format 2; this version reads format 1",
        ),
    ],
)
def test_damage_is_reported_plainly(content: bytes, reason: str) -> None:
    with pytest.raises(DamagedCheckpoint, match=reason):
        Checkpoint.from_bytes(content)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    check = (
        "import sys, gru_optuna.checkpoints.stores as c; c.open_store('folder').names();"
        "assert not {'torch', 'optuna', 'safetensors', 'boto3'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


# --- every store ---


@dataclass(frozen=True)
class Kind:
    """A store, and what is particular about it."""

    store: ContentStore
    lists: bool = True


@pytest.fixture(params=["folder", "artifacts", "s3", "s3 with prefix"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    match request.param:
        case "folder":
            kind = Kind(open_store(str(tmp_path / "made" / "when needed")))
        case "artifacts":
            for folder in ("1", "20", "uploads"):
                (tmp_path / "artifacts" / folder).mkdir(parents=True)
            kind = Kind(Artifacts(FileSystemArtifactStore(tmp_path / "artifacts")), lists=False)
        case _:
            bucket = request.getfixturevalue("bucket")
            prefix = "/a/b/" if "prefix" in request.param else ""
            kind = Kind(open_store(f"s3://{bucket}{prefix}"))
    kind.store.mark()
    return kind


ONE, TWO = "1/0-1-1.safetensors", "1/0-2-1.safetensors"
UPLOAD = f"uploads/{64 * 'a'}-1f0c22ab"
EVERY = (ONE, TWO, "1/11-2-3.safetensors", "20/0-1-1.safetensors", "20/0-1-2.safetensors", UPLOAD)
NAMES = st.sampled_from(EVERY)
STEPS = st.tuples(st.just("write"), NAMES, st.binary(max_size=20)) | st.tuples(
    st.just("remove"), NAMES
)


@settings(max_examples=20)
@given(
    steps=st.lists(STEPS, max_size=12),
    prefix=st.sampled_from(["", "1/", "2", "1/1", "3/", "uploads/"]),
)
def test_a_store_is_a_dictionary(
    kind: Kind, steps: list[tuple[str, str] | tuple[str, str, bytes]], prefix: str
) -> None:
    store = kind.store
    for name in EVERY:
        store.remove(name)
    expected: dict[str, bytes] = {}
    for step in steps:
        if len(step) == 3:
            store.write(step[1], step[2])
            expected[step[1]] = step[2]
        else:
            store.remove(step[1])
            expected.pop(step[1], None)
    for name in EVERY:
        if name in expected:
            assert store.read(name) == expected[name]
        else:
            with pytest.raises(DamagedCheckpoint, match="there is no such file"):
                store.read(name)
    listed = sorted(name for name in expected if name.startswith(prefix))
    assert store.names(prefix) == (listed if kind.lists else [])


BAD_NAMES = [
    "", ".", "..", "../one", "1/..", "a/b/c", "/one", "1/", "one", "~/one", ".hidden", MARKER,
    "1/thesis.tex", "1/0-1-1.safetensors.bak", "a/0-1-1.safetensors", "0-1-1.safetensors",
    "../0-1-1.safetensors", "1//0-1-1.safetensors", "1/2/0-1-1.safetensors",
    "1/0-1-1.safetensors\n", "1\\0-1-1.safetensors", "1/0-1-\u0661.safetensors",
    "1/0-1-1.safetensors.writing", "1/0-1-1.safetensors.0123456g.writing",
    "uploads/x", UPLOAD[:-1], UPLOAD.upper(), f"{UPLOAD}/..", f"1/{UPLOAD}", UPLOAD[8:],
]  # fmt: skip


def test_only_what_is_named_like_ours_is_written_read_and_removed(kind: Kind) -> None:
    with pytest.raises(ValueError, match="can't name a checkpoint"):
        kind.store.write("1/0-1-1.safetensors.01234567.writing", b"")
    for name in BAD_NAMES:
        with pytest.raises(ValueError, match="can't name a checkpoint"):
            kind.store.write(name, b"")
        with pytest.raises(ValueError, match="can't name a checkpoint"):
            kind.store.remove(name)
        with pytest.raises(DamagedCheckpoint):
            kind.store.read(name)


class Pieces(io.BytesIO):
    """A file that must be read piece by piece."""

    def read(self, size: int | None = -1, /) -> bytes:
        """At most 16 MiB, a few pieces of an upload to S3."""
        assert size is not None
        assert 0 <= size <= 1 << 24
        return super().read(size)


def test_a_large_file_is_never_in_memory_as_a_whole(kind: Kind) -> None:
    content = bytes(range(256)) * (5 << 12) + b"."  # five pieces and a byte
    kind.store.write(UPLOAD, Pieces(content))
    pieces = list(kind.store.pieces(UPLOAD))
    assert b"".join(pieces) == content
    assert max(map(len, pieces)) <= PIECE_BYTES
    if kind.lists:
        assert kind.store.files()[UPLOAD].bytes == len(content)


# --- a folder ---


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "checkpoints", default=True)


def test_a_writer_killed_midway_leaves_the_old_content(folder: Folder) -> None:
    """A real process, killed with all bytes written and the file not yet renamed."""
    folder.write(ONE, b"old")
    killed = (
        "import os, pathlib, signal, sys\n"
        "from gru_optuna.checkpoints.stores import Folder\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Folder(sys.argv[1]).write('1/0-1-1.safetensors', b'new')\n"
    )
    process = subprocess.run([sys.executable, "-c", killed, str(folder.folder)], check=False)
    assert process.returncode != 0
    assert folder.read(ONE) == b"old"
    assert folder.names() == [ONE]
    # What it leaves behind is known for what it is.
    one, leftover = folder.names(unfinished=True)
    assert one == ONE
    assert (folder.folder / leftover).read_bytes() == b"new"
    folder.remove(leftover)
    assert folder.names(unfinished=True) == [ONE]


def test_a_write_that_fails_leaves_nothing(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write(ONE, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(StorageError, match=r"safetensors: No space left on device. Check the path"):
        folder.write(ONE, b"new")
    assert folder.read(ONE) == b"old"
    assert folder.names(unfinished=True) == [ONE]


def test_the_last_checkpoint_of_a_study_takes_its_folder_along(folder: Folder) -> None:
    folder.write(ONE, b"1")
    folder.write(TWO, b"2")
    folder.remove(ONE)
    assert folder.names() == [TWO]
    folder.remove(TWO)
    assert [path.name for path in folder.folder.iterdir()] == [MARKER]


def test_a_folder_removed_while_a_writer_enters_is_made_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a process that removed the study's last checkpoint in between."""
    folder.mark()
    made = Path.mkdir

    def mkdir(path: Path, *arguments: Any, **more: Any) -> None:
        monkeypatch.setattr("pathlib.Path.mkdir", made)
        path.mkdir(*arguments, **more)
        path.rmdir()

    monkeypatch.setattr("pathlib.Path.mkdir", mkdir)
    folder.write(ONE, b"1")
    assert folder.read(ONE) == b"1"


def test_a_folder_that_another_worker_makes_first_is_no_error(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Path.is_dir

    def is_dir(path: Path) -> bool:
        monkeypatch.setattr("pathlib.Path.is_dir", looks)
        path.mkdir(parents=True)
        return False

    monkeypatch.setattr("pathlib.Path.is_dir", is_dir)
    folder.mark()
    assert folder.names() == []


@pytest.mark.parametrize("marked_by", ["this one", "another"])
def test_a_marker_is_read_once_and_not_at_every_checkpoint(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marked_by: str
) -> None:
    owner = Owner("here.db", {"path": "here.db", "inode": "1", "host": "h"})
    for place in (str(tmp_path / "some"), f"s3://{bucket}"):
        store = open_store(place, owner=owner)
        if marked_by == "this one":
            store.mark()
        else:
            open_store(place, owner=owner).mark()
            store.write(TWO, b"1")
        with monkeypatch.context() as patched:
            patched.setattr(type(store), "marked_owner", None)  # calling it would be an error
            store.write(ONE, b"1")
            store.write(TWO, b"2")
            store.remove(ONE)
        assert store.names() == [TWO]


class Raced(Folder):
    """A folder in which another worker removes a file after each look at the marker."""

    def _refuse_strangers(self) -> None:
        super()._refuse_strangers()
        (self.folder / ONE).unlink(missing_ok=True)


def test_a_file_that_another_worker_removes_first_is_no_error(folder: Folder) -> None:
    raced = Raced(folder.folder)
    folder.write(ONE, b"1")
    raced.remove(ONE)
    assert folder.names() == []
    folder.write(ONE, b"1")
    with pytest.raises(DamagedCheckpoint, match="there is no such file"):
        raced.read(ONE)


def test_a_file_swept_away_before_it_has_its_name_is_no_error(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another worker, because the trial is over."""
    move = Path.replace

    def swept(path: Path, target: Path) -> Path:
        path.unlink()
        return move(path, target)

    folder.mark()
    monkeypatch.setattr("pathlib.Path.replace", swept)
    folder.write(ONE, b"1")
    assert folder.names(unfinished=True) == []


def test_a_file_is_as_old_as_its_last_byte(folder: Folder) -> None:
    folder.write(ONE, b"1")
    os.utime(folder.folder / ONE, (1000, 1000))
    assert folder.files() == {ONE: StoredFile(1, 1000.0)}


def test_what_else_lies_in_the_folder_is_left_alone(folder: Folder) -> None:
    folder.write(ONE, b"1")
    (folder.folder / ".gitignore").write_text("*")
    (folder.folder / "1" / "deeper" / "still").mkdir(parents=True)
    (folder.folder / "1" / "deeper" / "two").write_text("")
    assert folder.names() == [ONE]
    assert folder.names(unfinished=True) == [ONE]


def test_a_folder_that_is_a_file_is_reported_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Folder(tmp_path / "file", default=True)
    assert store.names() == []
    store.remove(ONE)
    with pytest.raises(DamagedCheckpoint):
        store.read(ONE)
    with pytest.raises(StorageError, match="Check the path"):
        store.write(ONE, b"")


# --- where ---


def test_a_place_is_a_folder_or_a_bucket(tmp_path: Path) -> None:
    assert isinstance(open_store(str(tmp_path)), Folder)
    for where in ("s3://", "s3:///prefix", "gs://bucket", "https://example.org/x"):
        with pytest.raises(StorageError, match="Name a folder, or s3://BUCKET/PREFIX"):
            open_store(where)


def test_a_prefix_keeps_studies_of_one_bucket_apart(bucket: str) -> None:
    one, other = open_store(f"s3://{bucket}/one"), open_store(f"s3://{bucket}/other/")
    one.mark()
    other.mark()
    one.write(ONE, b"1")
    other.write(ONE, b"2")
    assert (one.read(ONE), other.read(ONE)) == (b"1", b"2")
    assert one.names() == [ONE]
    # Seen from above they lie deeper than names do.
    assert open_store(f"s3://{bucket}").names() == []


def test_a_bucket_that_is_not_there_is_reported_plainly(bucket: str) -> None:
    store = open_store("s3://elsewhere/prefix")
    with pytest.raises(StorageError, match=r"prefix/.*Check the bucket"):
        store.mark()
    with pytest.raises(StorageError, match=r"prefix/.*Check the bucket"):
        store.names()


def test_without_boto3_the_command_that_brings_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("boto3")

    monkeypatch.setattr("optuna.artifacts.Boto3ArtifactStore", missing)
    with pytest.raises(StorageError, match=r"pip install 'gru-optuna\[s3\]'"):
        open_store("s3://bucket")
