"""``plan size`` and ``plan cost`` as a person runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.planning.public_models import LLAMA_8B, LLAMA_70B

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.cli.conftest import Outcome

    Run = Callable[..., Outcome]

PLANS = Path(__file__).parents[3] / "bundles/plans"


@pytest.fixture
def config(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def write(values: dict[str, Any]) -> Path:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(values))
        return path

    return write


def test_a_model_that_fits(appliance: Run, config: Callable[..., Path], tmp_path: Path) -> None:
    drawing = tmp_path / "memory.svg"
    done = appliance("plan", "size", config(LLAMA_8B), "--gpu", "h100-sxm", "--svg", drawing)
    assert done.code == 0
    assert "8,030,261,248 parameters" in done.out
    assert "  8,192 tokens                56      56\n" in done.out
    assert "fits with 3 sequences of 131,072 tokens, on NVIDIA H100 SXM5 80GB\n" in done.out
    assert "461,920 tokens in the cache of an instance" in done.out
    assert "vLLM uses 0.92 of the memory (assumed" in done.out
    assert "vLLM takes 1.50 GiB itself (assumed" in done.out
    assert "█" in done.out
    assert "how, on" not in done.out
    assert drawing.read_text().startswith("<svg ")


def test_a_layout_that_fits_is_written_as_mig_parted_reads_it(
    appliance: Run, config: Callable[..., Path], tmp_path: Path
) -> None:
    file = tmp_path / "mig.yaml"
    asked = ("--gpu", "h100-sxm", "--gpus", "2", "--mig", "3g.40gb,1g.20gb", "--mig-parted", file)
    assert appliance("plan", "size", config(LLAMA_8B), *asked).code == 0
    (row,) = json.loads(file.read_text())["mig-configs"]["appliance"]
    assert row == {
        "devices": [0, 1],
        "mig-enabled": True,
        "mig-devices": {"1g.20gb": 1, "3g.40gb": 1},
    }
    file.unlink()
    more = (*asked, "--sequences", "1000", "--context", "8192")
    assert appliance("plan", "size", config(LLAMA_8B), *more).code == 5
    assert not file.exists(), "it does not do what is asked for"


def test_every_sum_when_asked(appliance: Run, config: Callable[..., Path]) -> None:
    done = appliance("plan", "size", config(LLAMA_8B), "--gpu", "h100-sxm", "--explain")
    assert "  cache_of_token_1 = 131,072 bytes\n" in done.out
    assert "      32 layers * 2 (keys, values) * 8 heads * 128 * 16 bits / 8\n" in done.out
    assert "      78,216,094,023 - 16,060,522,496 - 1,610,612,736\n" in done.out
    assert done.out.count("      from: ") == done.out.count(" = ")


def test_a_demand_that_is_not_met(appliance: Run, config: Callable[..., Path]) -> None:
    asked = ("--gpus", "2", "--sequences", "32", "--context", "8192")
    done = appliance("plan", "size", config(LLAMA_70B), "--gpu", "h100-sxm", *asked)
    assert done.code == 5
    assert (
        "DOES NOT FIT: 32 sequences of 8,192 tokens asked for, and there is room for 4\n"
        "would do: 8 instances, each on 2 x NVIDIA H100 SXM5 80GB: 32 sequences of 8,192 tokens\n"
        "would do: 4 x NVIDIA H100 SXM5 80GB: 61 sequences of 8,192 tokens\n"
    ) in done.out
    values = appliance("plan", "size", config(LLAMA_70B), "--gpu", "h100-sxm", *asked, "--json").json
    assert (values["fits"], values["served"], len(values["suggestions"])) == (False, 4, 2)


def test_the_answer_as_json(appliance: Run, config: Callable[..., Path]) -> None:
    asked = ("--gpu", "h100-sxm", "--mig", "all-balanced", "--json")
    values = appliance("plan", "size", config(LLAMA_8B), *asked).json
    assert values["weights"] == {
        "precision": "bf16",
        "bits": 16,
        "bytes": 16_060_522_496,
        "source": "the shapes that config.json gives",
    }
    two, three = values["places"]
    assert (two["slice"], three["slice"]) == ("2g.20gb", "3g.40gb")
    assert three["sequences"]["8192"] == 19
    assert sum(three["memory"].values()) == 40448 << 20  # 39.50 GiB
    figures = {each["name"]: each for each in three["figures"]}
    assert figures["cache"]["value"] == three["memory"]["cache"]
    (small,) = values["too_large"]
    assert (small["error"], small["place"].split()[0]) == ("ModelTooLarge", "1g.10gb")


def test_settings_and_options_over_them(appliance: Run, config: Callable[..., Path]) -> None:
    model = config(LLAMA_70B)
    plan = PLANS / "70b.yaml"
    done = appliance("plan", "size", model, "--settings", plan)
    assert done.code == 0
    assert "policy clinical: kept (at least 16 bits for weights, 16 for the cache)" in done.out
    assert "refused" in done.out  # the precisions that it would not allow
    assert "instances: 1\n" in done.out
    assert "instances: 2\n" in appliance("plan", "size", model, "--settings", plan, "--gpus", "8").out
    eight = appliance("plan", "size", model, "--settings", plan, "--weights", "fp8")
    assert eight.code == 3
    assert "the policy clinical does not allow weights of this precision" in eight.err
    other = appliance("plan", "size", model, "--settings", plan, "--weights", "fp8", "--policy", "general")
    assert other.code == 0
    assert appliance("plan", "size", model, "--settings", "/nowhere.yaml").code == 3


@pytest.mark.parametrize(
    ("options", "code", "error"),
    [
        ((), 2, "Usage"),
        (("--gpu", "h101"), 3, "GpuUnknown"),
        (("--gpu", "h100-sxm", "--gpus", "2", "--tensor-parallel", "4"), 3, "GpusTooFew"),
        (("--gpu", "h100-sxm", "--gpus", "3", "--tensor-parallel", "3"), 3, "ParallelismImpossible"),
        (("--gpu", "h100-sxm", "--mig", "3*3g.40gb"), 3, "MigLayoutInvalid"),
        (("--gpu", "h100-sxm", "--slice", "3g.40gb"), 5, "ModelTooLarge"),
        (("--gpu", "h100-sxm"), 5, "ModelTooLarge"),
        (("--gpu", "h100-sxm", "--weights", "int8", "--policy", "clinical"), 3, "PrecisionRefused"),
        (("--gpu", "h100-sxm", "--gpus", "2", "--svg", "/nowhere/x.svg"), 2, "Usage"),
        (("--gpu", "h100-sxm", "--gpus", "2", "--mig-parted", "x.yaml"), 2, "Usage"),
    ],
)
def test_what_is_refused(
    appliance: Run, config: Callable[..., Path], options: tuple[str, ...], code: int, error: str
) -> None:
    done = appliance("plan", "size", config(LLAMA_70B), *options, "--json")
    assert (done.code, done.json["error"], done.json["exit_code"]) == (code, error, code)
    assert done.json["wanted"]
    assert "error: " in done.err


def test_a_description_that_lies_or_is_missing(appliance: Run, tmp_path: Path) -> None:
    done = appliance("plan", "size", tmp_path, "--gpu", "h100-sxm", "--json")
    assert (done.code, done.json["error"]) == (4, "ModelMisdescribed")
    (tmp_path / "config.json").write_text('{"model_type": "gpt\\u001b[2J"}')
    done = appliance("plan", "size", tmp_path, "--gpu", "h100-sxm")
    assert done.code == 3
    assert "\x1b" not in done.out + done.err
    assert "found: gpt\\x1b[2J" in done.err


def test_the_articles_table(appliance: Run, tmp_path: Path) -> None:
    drawing = tmp_path / "cost.svg"
    done = appliance("plan", "cost", "--api-price", "15", "--article", "--svg", drawing)
    assert done.code == 0
    for price in ("15.94", "7.97", "3.99"):
        assert f"  {price}  " in done.out
    assert "break-even: 220 M tokens a month, 21 % of capacity\n" in done.out
    assert "where the article contradicts itself:" in done.out
    assert "2,005.00 USD unexplained" in done.out
    assert drawing.read_text().endswith("</svg>\n")
    values = appliance("plan", "cost", "--api-price", "3", "--article", "--json").json
    assert [each["price"] for each in values["rows"]] == ["15.94", "7.97", "3.99"]
    assert values["reachable"] is False
    assert len(values["contradictions"]) == 4


def test_prices_of_ones_own(appliance: Run) -> None:
    items = ("--item", "hosting=900", "--item", "hardware=$2,400")
    speed = ("--tokens-per-second", "400")
    done = appliance("plan", "cost", "--api-price", "3", *items, *speed, "--utilisation", "40", "--explain")
    assert done.code == 0
    assert "3,300.00 USD a month; API: 3.00 USD for a million tokens" in done.out
    assert "1,100 M tokens a month, 106 % of capacity: NEVER" in done.out
    assert "      400 tokens a second * 86,400 * 30 days\n" in done.out
    assert "contradicts" not in done.out
    unknown = appliance("plan", "cost", "--api-price", "3", *items, "--millions", "100")
    assert "whether that is in reach, --tokens-per-second would tell" in unknown.out
    assert "33.00" in unknown.out


@pytest.mark.parametrize(
    ("options", "code", "error"),
    [
        (("--monthly", "3300"), 2, "Usage"),  # the API's price has no default
        (("--api-price", "15", "--article", "--monthly", "1"), 2, "Usage"),
        (("--api-price", "15", "--item", "hosting"), 2, "Usage"),
        (("--api-price", "15", "--item", "a=1", "--item", "a=2"), 2, "Usage"),
        (("--api-price", "15"), 3, "PlanInvalid"),
        (("--api-price", "free", "--monthly", "1"), 3, "PlanInvalid"),
        (("--api-price", "15", "--monthly", "1", "--utilisation", "20"), 3, "PlanInvalid"),
        (("--api-price", "15", "--monthly", "13275", "--item", "all=11270"), 3, "PlanInvalid"),
    ],
)
def test_prices_that_are_refused(appliance: Run, options: tuple[str, ...], code: int, error: str) -> None:
    done = appliance("plan", "cost", *options, "--json")
    assert (done.code, done.json["error"]) == (code, error)


def test_starting_the_program_loads_nothing_of_this() -> None:
    command = (
        "import sys, appliance.cli.app; "
        "print([name for name in sys.modules if name.startswith('appliance.planning')])"
    )
    done = subprocess.run([sys.executable, "-c", command], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
