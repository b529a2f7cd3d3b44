"""Names by which the files are known that hold tests, steer them or take their runner's place. Pure."""

from __future__ import annotations

import re

_SCRIPT = r"\.[cm]?[jt]sx?"

TEST_FILE = re.compile(
    r"(?:^|/)(?:"
    r"(?:tests?|__tests__|__snapshots__|testdata|e2e)/.*"
    r"|(?:[^/]*\.)?Tests?/.*"
    r"|test[_-][^/]*|tests?\.[^/]+|conftest\.py"
    r"|[^/]*[._-](?:test|unittest)s?\.[^/]*|[^/]*[._]spec\.[^/]*"
    rf"|[^/]*(?:-spec|\.cy){_SCRIPT}"
    r")$"
    # In these folders the names below are a program's: what loads tests, or what a job looks like.
    r"|^(?!(?:.*/)?src/main/)(?:.*/)?[^/]*(?:Tests?|TestCase|[a-z\d]IT)\.(?:java|kt|cs|scala|groovy)$"
    r"|^(?!(?:.*/)?src/main/)(?:.*/)?[^/]*Spec\.(?:kt|scala|groovy)$"
    rf"|^(?!(?:.*/)?(?:src|lib)/)(?:.*/)?spec/.*(?:{_SCRIPT}|\.rb)$"
)
STEERS_TESTS = re.compile(
    r"(?:^|/)(?:\.?pytest\.(?:ini|toml)|tox\.ini|setup\.cfg|(?:conftest|sitecustomize|usercustomize)\.py"
    r"|(?:_?pytest|unittest|doctest)(?:/__init__)?\.py|entry_points\.txt|management/commands/test\.py|build\.rs|\.cargo/.*"
    r"|(?:jest|vitest|karma|playwright|cypress|ava|wtr)\.conf(?:ig)?\.(?:[cm]?[jt]s|json)|jasmine\.json"
    r"|\.mocharc(?:\.\w+)?|\.taprc|\.rspec|bunfig\.toml|CTestCustom\.cmake|junit-platform\.properties)$"
)
"""Settings and plugins, what Python would take for its test runner, and what cargo runs before or around tests."""
OF_A_PACKAGE = re.compile(
    r"(?:^|/)(?:package\.json|(?:jest|vitest|karma|playwright|cypress|ava|wtr)\.conf(?:ig)?\.(?:[cm]?[jt]s|json))$"
)
"""What sets up a JavaScript package and its tests."""
