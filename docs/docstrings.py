"""An extension of griffe, which reads docstrings from source: some of ours are filled in later."""

from __future__ import annotations

import inspect
from typing import Any

import griffe


class FilledDocstrings(griffe.Extension):
    """Takes docstrings with a placeholder from the imported object, where it is filled in."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe with each class and function."""
        if obj.docstring is not None and "{parameters}" in obj.docstring.value:
            filled = inspect.getdoc(griffe.dynamic_import(obj.path)) or ""
            obj.docstring = griffe.Docstring(filled, parent=obj)
