"""README's commands are the ones that work."""

import re
import shlex
from pathlib import Path

from click.testing import CliRunner

from netfl.cli.commands import cli
from netfl.scenario import load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def test_the_two_commands() -> None:
    assert BLOCKS[0].strip() == "pip install -e . && netfl run scenarios/smart-building.yaml"
    assert BLOCKS[1].strip() == "pip install -e '.[test]' && pytest -n auto"


def test_continuous_integration_calls_the_test_command() -> None:
    assert "pip install -e '\\.\\[test\\]' && pytest -n auto" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_run_command_names_a_scenario_and_settings_that_load() -> None:
    found = [shlex.split(line) for block in BLOCKS for line in block.splitlines() if line.startswith("netfl run ")]
    for scenario in sorted((ROOT / "scenarios").glob("*.yaml")):
        lines = scenario.read_text(encoding="utf-8").splitlines()
        found += [shlex.split(line[1:]) for line in lines if line.startswith("#   netfl run ")]
    assert len(found) >= 9
    for words in found:
        load(ROOT / words[2], overrides=[word for flag, word in zip(words[3:], words[4:], strict=False) if flag == "-s"])


def test_every_other_command_is_one() -> None:
    found = [shlex.split(line.partition("#")[0]) for block in BLOCKS for line in block.splitlines() if line.startswith("netfl ")]
    assert {words[1] for words in found} == {"run", "validate", "list", "schema", "show", "sweep", "compare"}
    for words in found:
        assert CliRunner().invoke(cli, [words[1], "--help"]).exit_code == 0


def test_linked_files_exist() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_example_of_the_language_page_loads(tmp_path: Path) -> None:
    text = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    path = tmp_path / "scenario.yaml"
    path.write_text(text.replace("../topologies/star.yaml", str(ROOT / "topologies" / "star.yaml")))
    assert load(path).scenario.name == "my-first"
