"""Traces: a teacher's own answers, sampled, checked, and kept where they are right and readable.

    training problems -> attempts -> keep(correct, well formed, one language) -> JSON lines

The lines are what supervised stages learn from, and lie in the run that made them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openbook.data.batch import Example
from openbook.data.corpus import Document
from openbook.data.files import LINES, PARQUET, TEXT, find_files
from openbook.engine.types import SamplingParams
from openbook.errors import UserError
from openbook.model.checkpoint import Checkpoint
from openbook.model.weights import digest_of, file_digest
from openbook.quant.store import load_weights
from openbook.r1.config import SamplingConfig
from openbook.r1.frame import Work
from openbook.rl.rollout import roll_out
from openbook.rl.types import Attempt
from openbook.runs.durable import replace_text
from openbook.runs.manifest import Ancestor
from openbook.runs.run import MANIFEST_FILE, Run
from openbook.tasks.problem import Family, Split
from openbook.tasks.rewards import language_reward
from openbook.tokens.renderer import PromptConfig, Renderer
from openbook.tokens.template import response
from openbook.train.device import Stopwatch

TRACES_FILE = "traces.jsonl"
SAMPLING = 0
"""The step of a supervised stage that samples; those that train count from 1."""
BEFORE_SAMPLING = -1
PROBLEMS_PER_CALL = 64
FIRST_INDEX = 1_000_000
"""Traces are sampled on training problems that reinforcement does not reach."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Harvest:
    """What was kept, and out of how many attempts."""

    documents: tuple[Document, ...]
    num_attempts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Lesson:
    """How the teacher is asked, and how the student will be."""

    asked: PromptConfig = field(default_factory=PromptConfig)
    taught: PromptConfig = field(default_factory=PromptConfig)

    def reply(self, attempt: Attempt) -> str:
        """The attempt as the student is to write it: in tags, where its answer will be looked for in tags."""
        if self.taught.reading == "tags" and self.asked.reading != "tags":
            return response(attempt.parsed.thinking, attempt.parsed.answer).strip()
        return attempt.text


def sample_traces(
    work: Work, teacher: Checkpoint, family: Family, config: SamplingConfig, lesson: Lesson | None = None
) -> list[Document]:
    """Sample the teacher, keep what passes, write it into the run; a finished harvest is read back."""
    path = work.run.folder / TRACES_FILE
    if not path.exists():
        _write_traces(path, work, _harvest(work, teacher, family, config, lesson or Lesson()))
    work.card["traces"] = file_digest(path)
    return read_documents(path)


def _write_traces(path: Path, work: Work, harvest: Harvest) -> None:
    kept, total = len(harvest.documents), harvest.num_attempts
    work.frame.progress.note(f"{work.frame.stage}: kept {kept} of {total} attempts")
    if not kept:
        raise UserError(
            f"{work.frame.stage}: none of {total} attempts was correct and readable",
            "train the teacher longer, or lower sampling.min_consistency",
        )
    # With the traces at hand a resumed stage goes back to here at most, and keeps what sampling cost.
    work.run.log(SAMPLING, {"kept_traces": kept, "attempts": total})
    replace_text(
        path,
        "".join(
            json.dumps({"question": d.question, "response": d.response}) + "\n" for d in harvest.documents
        ),
    )


def _harvest(
    work: Work, teacher: Checkpoint, family: Family, config: SamplingConfig, lesson: Lesson
) -> Harvest:
    work.go_back(BEFORE_SAMPLING)
    device = work.frame.device
    renderer = Renderer.of_folder(teacher.folder, lesson.asked)
    engine = work.engine(load_weights(teacher, device), renderer.tokenizer)
    params = SamplingParams(max_tokens=config.max_tokens, temperature=config.temperature)
    watch = Stopwatch(device)
    documents: list[Document] = []
    for start in range(0, config.num_problems, PROBLEMS_PER_CALL):
        work.frame.stop.check()
        numbers = range(start, min(config.num_problems, start + PROBLEMS_PER_CALL))
        problems = [family.problem(work.frame.seed, Split.TRAIN, FIRST_INDEX + number) for number in numbers]
        seed = work.frame.seed * 1_000_003 + start
        groups, usage = roll_out(
            problems, engine, renderer, params, num_generations=config.num_generations, seed=seed
        )
        work.spend(usage + watch.lap())
        for group in groups:
            documents += keep(group, family, config, lesson)
    return Harvest(documents=tuple(documents), num_attempts=config.num_problems * config.num_generations)


def keep(
    attempts: Sequence[Attempt], family: Family, config: SamplingConfig, lesson: Lesson | None = None
) -> list[Document]:
    """The best few of one problem's attempts: correct, well formed, consistent enough, no text twice."""
    consistency = {id(one): language_reward(one.parsed.thinking, config.language_target) for one in attempts}
    good = [
        one
        for one in attempts
        if one.parsed.well_formed
        and one.parsed.thinking
        and consistency[id(one)] >= config.min_consistency
        and family.verify(one.problem, one.parsed.answer).correct
    ]
    good.sort(key=lambda one: consistency[id(one)], reverse=True)
    unique = list({one.text: one for one in good}.values())
    return [
        Document(question=one.problem.question, response=(lesson or Lesson()).reply(one))
        for one in unique[: config.keep_per_problem]
    ]


def read_documents(path: Path) -> list[Document]:
    """Questions and responses from JSON lines: of a file, or of the run that sampled them.

    Raises UserError naming the line that is no trace.
    """
    path = data_path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})", "name a file of JSON lines") from error
    documents = []
    lines = text.rstrip("\n").split("\n") if text.strip() else []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
            documents.append(Document(question=str(value["question"]), response=str(value["response"])))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}, line {number} is no trace ({error})",
                'each line is {"question": ..., "response": ...}',
            ) from error
    if not documents:
        raise UserError(f"{path} is empty", "name a file with at least one trace")
    return documents


def data_ancestor(path: Path) -> Ancestor:
    """Files of examples, or that of the run which sampled them, as the ancestor of what learns from them."""
    path = data_path(path)
    if path.is_dir():
        files = find_files(path, (TEXT, LINES, PARQUET))
        digests = {file.relative_to(path).as_posix(): file_digest(file) for file in files}
        return Ancestor(role="data", name=path.name, digest=digest_of(digests))
    is_of_run = (path.parent / MANIFEST_FILE).exists()
    run_id = Run.open(path.parent).manifest.id if is_of_run else ""
    return Ancestor(role="data", name=path.name, digest=file_digest(path), run_id=run_id)


def data_path(path: Path) -> Path:
    """What `--data` names: a file, a folder of files, or the traces of a run. Raises UserError."""
    traces = path / TRACES_FILE
    if (path / MANIFEST_FILE).exists() and not traces.exists():
        raise UserError(f"run {path} sampled no traces", "name data, or a run that sampled some")
    found = traces if traces.exists() else path
    if not os.access(found, os.R_OK):
        raise UserError(
            f"{found} cannot be read", "name a file, a folder of files, or a run that sampled some"
        )
    return found


def to_examples(documents: Iterable[Document], renderer: Renderer) -> list[Example]:
    """Each question as it will be put, and its response; the loss counts on the response and its end."""
    examples = []
    for document in documents:
        before = renderer.prompt_ids(document.question)
        after = [*renderer.tokenizer.encode(document.response), renderer.tokenizer.eos_id]
        examples.append(Example.of_reply(before, after))
    return examples
