"""Checkpoint: a folder that other tools load as it is, and that we can trust.

    folder/config.json           the public configuration
    folder/model.safetensors     the weights in the public layout (or shards with an index)
    folder/openbook.json         where they come from, and the digests of the two; ours alone
    folder/tokenizer.json ...    whatever was passed along

A checkpoint appears whole or not at all: it is written into a sibling folder, flushed, and renamed.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from openbook.errors import UserError
from openbook.model.config import ModelConfig
from openbook.model.convert import (
    is_ignored,
    load_public,
    mtp_prefix,
    public_copies,
    public_tensors,
    public_views,
)
from openbook.model.public import from_public, quantization_of, to_public
from openbook.model.transformer import Transformer
from openbook.model.weights import (
    WEIGHTS_NAME,
    WeightFiles,
    WeightReader,
    digest_of,
    file_digest,
    file_digests,
    read_json,
)
from openbook.units import show_bytes

CONFIG_NAME = "config.json"
RECORD_NAME = "openbook.json"

_SMALL_FILES_BYTES = 1 << 20
"""Room for everything beside the weights when asking whether a disk is large enough."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """A checkpoint on disk: ours, or any public one of a known architecture.

    `digest` is the sha256 over config.json and the weight files; `provenance` is what
    `save_checkpoint` was told, empty for a checkpoint from elsewhere.
    """

    folder: Path
    config: ModelConfig
    digest: str
    provenance: Mapping[str, Any]
    quantization: Mapping[str, Any] = field(default_factory=dict)
    """The public `quantization_config`: how the weights are stored; empty where they are plain."""

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Read what a folder says of itself, and the headers of its weights; no tensor yet.

        A configuration that announces MTP modules whose weights are not there, as other tools
        write it when they drop them, is read as one without. Raises UserError if the folder
        is no checkpoint, or a damaged one.
        """
        folder = _surviving(folder)
        public, where = read_json(folder / CONFIG_NAME), str(folder / CONFIG_NAME)
        config = from_public(public, where=where)
        weights = WeightFiles.find(folder)
        if not any(name.startswith(mtp_prefix(config, depth=0)) for name in weights.homes):
            config = replace(config, num_nextn_predict_layers=0)
        record = _read_record(folder)
        digest = record.get("digest") or digest_of(file_digests([folder / CONFIG_NAME, *weights.files]))
        return cls(
            folder=folder,
            config=config,
            digest=digest,
            provenance=record.get("provenance", {}),
            quantization=quantization_of(public, where=where),
        )

    def load(
        self,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        with_mtp: bool = True,
    ) -> Transformer:
        """The network with these weights, in evaluation mode; balancing biases stay in fp32.

        Raises UserError naming file and tensor if one is missing, surplus, of the wrong shape
        or unreadable, or naming the file if it is not what was saved. Quantised weights are for
        `quant.store` to load.
        """
        if self.quantization:
            what = f"{self.folder}: the weights are quantised, and plain ones are wanted here"
            raise UserError(what, "`openbook quantize --format bf16` writes plain ones")
        config = self.config if with_mtp else replace(self.config, num_nextn_predict_layers=0)
        weights = WeightFiles.find(self.folder)
        self.verify()
        with torch.device("meta"):
            model = Transformer(config)
        model = model.to(dtype=dtype).to_empty(device=device)
        state = model.state_dict()
        with weights.reading() as reader:
            load_public(config, state, reader.read)
            check_surplus(config, {name for name, _ in public_views(config, state)}, reader)
        return model.eval()

    def verify(self) -> None:
        """Hold the files against the digests that were taken when they were saved, if it was us who did."""
        recorded = _read_record(self.folder).get("files", {})
        for name, digest in recorded.items():
            if file_digest(self.folder / name) != digest:
                raise UserError(
                    f"{self.folder / name}: its content changed after it was saved (its digest is another)",
                    f"restore it, or delete {RECORD_NAME} to accept it as it is",
                )
        if recorded and digest_of(recorded) != self.digest:
            raise UserError(f"{self.folder}: replaced by another checkpoint meanwhile", "open it again")


@dataclass(frozen=True, kw_only=True, slots=True)
class Content:
    """What a checkpoint says and holds: the shape, config.json, and the tensors under their public names."""

    config: ModelConfig
    public: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def save_checkpoint(
    folder: Path,
    model: Transformer,
    *,
    provenance: Mapping[str, Any],
    extra_files: Sequence[Path] = (),
    token_ids: Mapping[str, int] | None = None,
) -> Checkpoint:
    """Write `model` to `folder`, replacing a checkpoint that is there; whole or not at all.

    `provenance` is JSON: run id, stage, step, digests of the parents. `extra_files` (a tokenizer)
    are copied beside the weights; `token_ids` gives `bos_token_id`, `eos_token_id` and `pad_token_id`
    for the loaders that look for them in config.json. Raises UserError if the disk is full,
    saying how much is needed, and leaves what was there before.
    """
    content = Content(
        config=model.config,
        public=to_public(model.config) | public_extras(next(model.parameters()).dtype, token_ids or {}),
        tensors=public_tensors(model.config, model.state_dict()),
    )
    return write_checkpoint(folder, content, provenance=provenance, extra_files=extra_files)


def write_checkpoint(
    folder: Path, content: Content, *, provenance: Mapping[str, Any], extra_files: Sequence[Path] = ()
) -> Checkpoint:
    """Write `content` to `folder`, as `save_checkpoint` says."""
    folder, tensors = folder.resolve(), dict(content.tensors)
    needed_bytes = sum(tensor.nbytes for tensor in tensors.values()) + _SMALL_FILES_BYTES
    partial = _sibling(folder, "partial")
    with _whole_or_nothing(folder, partial, needed_bytes):
        _write_json(partial / CONFIG_NAME, content.public)
        save_file(tensors, partial / WEIGHTS_NAME, metadata={"format": "pt"})
        # The library makes the file readable to its owner alone; a checkpoint follows the umask.
        (partial / WEIGHTS_NAME).chmod((partial / CONFIG_NAME).stat().st_mode)
        digests = file_digests([partial / CONFIG_NAME, partial / WEIGHTS_NAME])
        digest = digest_of(digests)
        record = {"digest": digest, "files": digests, "provenance": dict(provenance)}
        _write_json(partial / RECORD_NAME, record)
        for extra in extra_files:
            shutil.copyfile(extra, partial / extra.name)
    return Checkpoint(
        folder=folder,
        config=content.config,
        digest=digest,
        provenance=dict(provenance),
        quantization=quantization_of(content.public, where=str(folder / CONFIG_NAME)),
    )


def public_extras(dtype: torch.dtype, token_ids: Mapping[str, int]) -> dict[str, Any]:
    """What public loaders look for beyond the shape.

    An id that we were not told is null: left out, a loader would take another model's.
    """
    unset = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    return {**unset, **token_ids, "torch_dtype": str(dtype).removeprefix("torch.")}


def check_surplus(config: ModelConfig, known: set[str], reader: WeightReader) -> None:
    """Every stored tensor has a place, is rightly ignored, or repeats one that has a place."""
    copies = public_copies(config)
    for name, home in reader.weights.homes.items():
        if name in known or is_ignored(config, name):
            continue
        if name not in copies:
            raise UserError(f"{home}: tensor {name} has no place in the model that {CONFIG_NAME} describes")
        original = copies[name]
        if not _same(reader, name, original):
            _log.warning("%s: %s differs from %s, which it should repeat; ignored", home, name, original)


def _same(reader: WeightReader, name: str, other: str) -> bool:
    shapes = reader.weights.shapes
    return shapes[name] == shapes[other] and torch.equal(
        reader.read(name, shapes[name]), reader.read(other, shapes[other])
    )


@contextmanager
def _whole_or_nothing(folder: Path, partial: Path, needed_bytes: int) -> Iterator[None]:
    """Makes the empty folder `partial`; once the body has filled it, it becomes `folder` in one rename."""
    _check_replaceable(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        if shutil.disk_usage(folder.parent).free < needed_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        partial.mkdir()
        yield
        for path in (*partial.iterdir(), partial):
            _flush(path)
        _swap(partial, folder)
        _flush(folder.parent)
    except (OSError, SafetensorError) as error:
        # First, so that the free space which the error names is what the next try will find.
        shutil.rmtree(partial, ignore_errors=True)
        raise _write_error(error, folder, needed_bytes) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_replaceable(folder: Path) -> None:
    """Only a checkpoint of ours, or nothing, may be replaced: never a folder with someone's other files."""
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not is_empty and not (folder / RECORD_NAME).is_file():
        raise UserError(f"{folder}: holds something else than a checkpoint of ours", "choose a new folder")


def _write_error(error: OSError | SafetensorError, folder: Path, needed_bytes: int) -> UserError:
    # The safetensors library tells the system's error number in its text alone.
    told = re.search(r"os error (\d+)", str(error))
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    if number not in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"{folder}: the checkpoint cannot be written: {error}")
    needed, free = show_bytes(needed_bytes), show_bytes(shutil.disk_usage(folder.parent).free)
    return UserError(
        f"{folder}: the disk is full: the checkpoint needs {needed} and {free} is free",
        "free some space or write to another disk; what was saved before is untouched",
    )


def _flush(path: Path) -> None:
    """Waits until a file, or the list of names in a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(partial: Path, folder: Path) -> None:
    """Puts `partial` in the place of `folder`.

    A crash between the two renames leaves the old checkpoint where `_surviving` looks for it.
    """
    previous = _sibling(folder, "previous")
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    partial.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)


def _surviving(folder: Path) -> Path:
    """The folder, or its predecessor where a crash struck while the one replaced the other."""
    for candidate in (folder, _sibling(folder, "previous")):
        if candidate.is_dir():
            return candidate
    raise UserError(f"{folder}: no such folder", "give one that holds config.json and model.safetensors")


def _sibling(folder: Path, role: str) -> Path:
    folder = folder.resolve()
    return folder.with_name(f".{folder.name}.{role}")


def _read_record(folder: Path) -> dict[str, Any]:
    record = folder / RECORD_NAME
    return read_json(record) if record.is_file() else {}


def _write_json(file: Path, data: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
