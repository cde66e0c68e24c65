"""Files into values. A file that is missing or malformed is a UserError naming it and the command that makes it."""

from __future__ import annotations

import base64
import io
import json
import math
from pathlib import Path
from typing import TypeVar

from PIL import Image
from pydantic import BaseModel, ValidationError

from cspipe.report.results import Columns, Picture
from cspipe.runtime.errors import UserError

WIDEST = 1600
JPEG_QUALITY = 90

M = TypeVar("M", bound=BaseModel)


def bad_file(path: Path, problem: object, command: str) -> UserError:
    """The error for a file that cannot be used."""
    return UserError(f"{path}: {problem}; `{command}` makes this file")


def read_bytes(path: Path, command: str) -> bytes:
    """The file's bytes."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise bad_file(path, "is missing", command) from None
    except OSError as error:
        raise bad_file(path, f"cannot be read ({error.strerror})", command) from None


def read_text(path: Path, command: str) -> str:
    """The file's text, UTF-8."""
    try:
        return read_bytes(path, command).decode("utf-8")
    except UnicodeDecodeError:
        raise bad_file(path, "is not UTF-8 text", command) from None


def read_json(path: Path, model: type[M], command: str) -> M:
    """A JSON file checked against `model`; the message names the first key that does not fit."""
    try:
        return model.model_validate(json.loads(read_text(path, command)))
    except json.JSONDecodeError as error:
        raise bad_file(path, f"is not JSON ({error})", command) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise bad_file(path, f"{key}: {first['msg']}", command) from None


def read_columns(path: Path, names: tuple[str, ...], command: str) -> Columns:
    """The columns `names` of a TSV file with a header, as floats; an empty cell is NaN."""
    lines = read_text(path, command).splitlines()
    header = lines[0].split("\t") if lines else []
    for name in names:
        if name not in header:
            raise bad_file(path, f"has no column {name!r}", command)
    columns: Columns = {name: [] for name in names}
    for number, line in enumerate(lines[1:], start=2):
        cells = dict(zip(header, line.split("\t"), strict=False))
        for name in names:
            try:
                columns[name].append(float(cells[name] or math.nan))
            except (KeyError, ValueError):
                raise bad_file(path, f"line {number} has no number in column {name!r}", command) from None
    return columns


def read_picture(path: Path, command: str) -> Picture:
    """A PNG as a data URI; one wider than WIDEST pixels is reduced to that and becomes a JPEG, to keep pages light."""
    content = read_bytes(path, command)
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except (OSError, SyntaxError):
        raise bad_file(path, "is not a whole picture", command) from None
    if image.width <= WIDEST:
        return Picture(_data_uri("png", content), image.width, image.height)
    small = image.convert("RGB").resize((WIDEST, round(image.height * WIDEST / image.width)), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    small.save(jpeg, format="JPEG", quality=JPEG_QUALITY)
    return Picture(_data_uri("jpeg", jpeg.getvalue()), small.width, small.height)


def _data_uri(kind: str, content: bytes) -> str:
    """The picture's bytes as a URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
