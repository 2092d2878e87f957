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
LINK = re.compile(r"\[[^]]*\]\(([^)#]*)(?:#([^)]*))?\)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
TEST_FILE = re.compile(r"`(tests/[\w/.-]+)`")


def headings(page: Path) -> set[str]:
    """The names by which links lead to the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    found = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


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
    found = [(link, part) for link, part in LINK.findall(page.read_text()) if "://" not in link]
    links = [(page.parent / link if link else page, part) for link, part in found]
    assert not [target for target, _ in links if not target.exists()]
    assert not [(target, part) for target, part in links if part and part not in headings(target)]


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / link).resolve() for page in PAGES for link, _ in LINK.findall(page.read_text()) if link
    }
    assert not [page for page in (ROOT / "docs").rglob("*.md") if page.resolve() not in linked]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_a_page_with_every_option(verb: str) -> None:
    text = (ROOT / "docs" / "verbs" / f"{verb}.md").read_text()
    common = set() if verb == "update" else {"--debug"}
    assert not {option for option in options_of(verb) - common if option not in text}
    assert f"docs/verbs/{verb}.md" in (ROOT / "README.md").read_text()
    everywhere = set().union(*(options_of(other) for other in VERBS))
    assert set(OPTION.findall(text)) <= everywhere | {"--help"}


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
