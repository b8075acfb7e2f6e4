"""Parameters that several operations take."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator

Name = Annotated[str, Path(description="The study's name.", min_length=1, max_length=255)]
Sha256 = Annotated[
    str,
    Path(description="The SHA-256 of the content, in hexadecimal.", pattern="^[0-9a-f]{64}$"),
]
Id = Annotated[int, Path(description="The id that the POST returned.", ge=1, lt=2**31)]
OptionalSha256 = Annotated[
    str | None,
    Query(description="The SHA-256 of the upload that the file is.", pattern="^[0-9a-f]{64}$"),
]
FileName = Annotated[
    str,
    Query(description="The file's name, which says its format: .csv .tsv .jsonl .parquet .npz .ts"),
]

Time = Annotated[
    datetime,
    # The database holds UTC without a zone.
    AfterValidator(lambda time: time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)),
]
"""A time, with its zone."""
