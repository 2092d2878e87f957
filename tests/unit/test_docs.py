"""What the documentation says exists."""

import argparse
import re
from pathlib import Path

import pytest

from instar.cli.main import VERBS, make_parser
from instar.update.outcome import UpdateReport
from instar.update.progress import PHASES

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^]]*\]\(([^)#]+)(?:#[^)]*)?\)")
TEST_FILE = re.compile(r"`(tests/[\w/.-]+)`")


def options_of(verb: str) -> set[str]:
    """The long options of a verb, or its help."""
    parser = make_parser(verb)
    (verbs,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    actions = verbs.choices[verb]._actions
    return {word for action in actions for word in action.option_strings if word.startswith("--")} - {
        "--help"
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    missing = [link for link in targets if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page_with_every_option(verb: str) -> None:
    text = (ROOT / "docs" / "verbs" / f"{verb}.md").read_text()
    common = set() if verb == "update" else {"--debug"}
    assert not {option for option in options_of(verb) - common if option not in text}
    assert f"docs/verbs/{verb}.md" in (ROOT / "README.md").read_text()


def test_the_keys_of_the_report_are_described() -> None:
    text = (ROOT / "docs" / "verbs" / "update.md").read_text()
    assert not [name for name in UpdateReport.__dataclass_fields__ if f"`{name}`" not in text]


def test_every_phase_is_described() -> None:
    text = (ROOT / "docs" / "internals" / "phases.md").read_text()
    assert not [name for name in PHASES if f"| {name} |" not in text]


def test_the_tests_behind_the_promises_exist() -> None:
    named = TEST_FILE.findall((ROOT / "docs" / "promises.md").read_text())
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_target_of_make_that_is_named_exists() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {word for page in PAGES for word in re.findall(r"\bmake ([a-z-]+)", code_of(page))}
    assert named <= known


def code_of(page: Path) -> str:
    """The code blocks and code words of a page."""
    text = page.read_text()
    return "\n".join(re.findall(r"```sh\n(.*?)```", text, re.S) + re.findall(r"`([^`\n]+)`", text))
