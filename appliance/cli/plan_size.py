"""``appliance plan size``: whether a model fits, and with how many sequences of which length."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from appliance.cli.console import print_result
from appliance.cli.options import AsJson  # noqa: TC001 - Typer reads it at run time
from appliance.errors import Usage

if TYPE_CHECKING:
    from appliance.planning.precision import PrecisionPolicy
    from appliance.planning.settings import PlanSettings


def size(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", readable=False, help="A model's folder, its config.json, or a GGUF file."
        ),
    ],
    *,
    gpu: Annotated[str | None, typer.Option("--gpu", help="h100-sxm, h100-pcie, h100-nvl, h200, …")] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", metavar="N", help="How many there are: 1.")] = None,
    together: Annotated[
        int | None,
        typer.Option(
            "--tensor-parallel", metavar="N", help="GPUs for one instance; else as few as will do."
        ),
    ] = None,
    mig: Annotated[
        str | None,
        typer.Option(
            "--mig", metavar="LAYOUT", help="What each GPU is cut into: 3g.40gb,2*2g.20gb; all-1g.10gb."
        ),
    ] = None,
    slice_: Annotated[str | None, typer.Option("--slice", help="The slice the model is meant for.")] = None,
    sequences: Annotated[
        int | None, typer.Option("--sequences", metavar="N", help="To be served at the same time.")
    ] = None,
    context: Annotated[
        int | None, typer.Option("--context", metavar="L", help="Tokens of each, question and answer.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="bf16, fp16, fp8, int8, int4; else as the model has them."),
    ] = None,
    cache: Annotated[
        str | None, typer.Option("--cache", help="bf16, fp16, fp8: of keys and values.")
    ] = None,
    policy: Annotated[str | None, typer.Option("--policy", help="clinical or general; checked.")] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings", metavar="FILE", readable=False, help="All of this as YAML; options go first."
        ),
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option("--memory", metavar="MIB", help="Of one GPU or slice, as nvidia-smi has it."),
    ] = None,
    utilisation: Annotated[
        str | None, typer.Option("--utilisation", help="The part of memory the engine uses: 0.92.")
    ] = None,
    overhead: Annotated[
        str | None, typer.Option("--overhead", metavar="GIB", help="What the engine itself takes: 1.5.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show every sum and where its numbers are from.")
    ] = False,
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Also draw it.")] = None,
    mig_parted: Annotated[
        Path | None,
        typer.Option(
            "--mig-parted", metavar="FILE", help="Write a layout that fits, as mig-parted reads it."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a model fits: with N sequences of L tokens, or what does not fit and why.

    Reads the model's description and the headers of its weights, nothing else, and
    refuses a description that is not that of the weights. What cannot be read from a
    model (the engine's own memory, its share of the GPU) is assumed, and printed.

    \b
    Examples:
      appliance plan size models/Llama-3.1-8B --gpu h100-sxm
      appliance plan size models/Llama-3.1-70B --gpu h100-sxm --gpus 4 --sequences 32 --context 8192
      appliance plan size config.json --gpu h100-sxm --mig all-3g.40gb --policy clinical --explain
      appliance plan size OUT/payload/weights --settings bundles/plans/70b.yaml --svg memory.svg
      appliance plan size models/whisper --gpu h100-sxm --gpus 2 --mig all-1g.10gb --mig-parted mig.yaml

    \b
    Exit codes:
      2  --mig-parted, and no layout
      3  unknown GPU, impossible layout, too few GPUs, refused precision
      4  the model's description is missing, or not that of its weights
      5  it does not fit, or not with as many sequences as asked for
    """  # noqa: D301 - \b is Typer's mark for "do not wrap"
    from appliance.cli.plan_text import size_text, size_values
    from appliance.planning.size_plan import SizeRequest, layout_file, plan_size
    from appliance.planning.svg import memory_svg

    written = _settings(settings)
    if (gpu := gpu or written.gpu) is None:
        raise Usage("no GPU is named", wanted="--gpu, or gpu in the settings", hint="--gpu h100-sxm")
    request = SizeRequest(
        model=model,
        gpu=gpu,
        gpus=gpus if gpus is not None else written.gpus or 1,
        tensor_parallel=together if together is not None else written.tensor_parallel,
        mig=mig or written.mig,
        slice=slice_ or written.slice,
        sequences=sequences if sequences is not None else written.sequences,
        context=context if context is not None else written.context,
        weights=weights or written.weights,
        cache=cache or written.cache or "bf16",
        memory_mib=memory,
        utilisation=utilisation,
        overhead_gib=overhead,
        policy=_policy(policy, written),
    )
    if mig_parted is not None and not (request.mig or request.slice):
        raise Usage(
            "there is no layout to write", wanted="--mig, or mig in the settings", hint="--mig all-3g.40gb"
        )
    plan = plan_size(request)
    if mig_parted is not None and plan.fits:
        write_beside(mig_parted, layout_file(request))
    if svg is not None:
        write_beside(svg, memory_svg(plan))
    print_result(size_text(plan, explain=explain), size_values(plan), as_json=as_json)
    if not plan.fits:
        raise typer.Exit(5)


def write_beside(path: Path, text: str) -> None:
    """Write what was asked for beside the answer: a drawing, a layout.

    Raises:
        Usage: it cannot be written there.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as fault:
        raise Usage(f"{path} cannot be written", found=str(fault), wanted="a place for the file") from fault


def _settings(path: Path | None) -> PlanSettings:
    from appliance.errors import PlanInvalid
    from appliance.planning.settings import PlanSettings, read_settings

    if path is None:
        return PlanSettings(format=1)
    try:
        return read_settings(path.read_bytes(), path)
    except OSError as fault:
        raise PlanInvalid(
            f"{path} cannot be read", found=str(fault), wanted="a file of settings"
        ) from fault


def _policy(name: str | None, written: PlanSettings) -> PrecisionPolicy | None:
    from appliance.planning.precision import find_policy

    if name is not None:
        return find_policy(name)
    return written.precision.resolved() if written.precision else None
