"""The YAML file becomes plain values with line numbers, and says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from forwarder.config.document import parse_document, read_document
from forwarder.core.errors import ConfigError


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_document(text, "c.yaml")
    return str(caught.value)


def test_values_are_those_of_the_safe_loader_and_every_key_has_its_line() -> None:
    document = parse_document("a: 1\nb:\n  - c: off\n    d: 2026-01-01\n")

    assert document.data == {"a": 1, "b": [{"c": False, "d": "2026-01-01"}]}
    assert document.lines[("b", 0, "d")] == 4


def test_an_anchor_may_be_merged() -> None:
    document = parse_document("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\n")

    assert document.data["y"] == {"a": 1, "b": 3}


def test_a_key_given_twice_is_refused_with_both_lines() -> None:
    text = "sinks:\n  a: {}\n  b: {}\n  a: {}\n"

    assert refusal(text) == ("c.yaml:4: sinks.a: given twice, first on line 2 (keep one of them)")


def test_broken_yaml_names_the_line() -> None:
    assert refusal("a: 1\nb: [1, 2\nc: 3\n").startswith("c.yaml:3: invalid YAML: ")


def test_no_object_of_python_can_be_made() -> None:
    assert "invalid YAML" in refusal("a: !!python/object/apply:os.getcwd []\n")


def test_a_control_character_is_refused_with_its_line() -> None:
    assert refusal("a: 1\nb: \x01\n") == (
        "c.yaml:2: invalid YAML: the character U+0001 is not allowed"
    )


def test_a_second_document_is_refused_in_a_whole_sentence() -> None:
    assert refusal("--- {a: 1}\n--- {b: 1}\n") == (
        "c.yaml:2: invalid YAML: expected a single document in the stream, but found another"
        " document"
    )


@pytest.mark.parametrize("text", ["0x_", "0b_", "!!int many", "!!float x", "!!bool perhaps"])
def test_what_looks_like_a_number_and_is_none_is_a_fault_of_its_key(text: str) -> None:
    assert refusal(f"a:\n  b: {text}\n").startswith("c.yaml:2: a.b: ")


def test_nesting_without_end_is_refused() -> None:
    assert "nested deeper" in refusal("a: " + "[" * 60 + "]" * 60)


def test_a_list_that_holds_itself_is_refused() -> None:
    assert "nested deeper" in refusal("a: &a [*a]\n")


def test_a_missing_file_says_how_to_name_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file") as caught:
        read_document(tmp_path / "none.yaml")

    assert "-c" in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ConfigError, match="not UTF-8"):
        read_document(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    "text",
    ["a: { b: ${B} }", "a: { b: ${B}, c: 1 }", "a: { b: [${B}, x] }", "a: { b: c,\n  d: ${D} }"],
)
def test_a_variable_in_a_flow_mapping_needs_quotes(text: str) -> None:
    assert refusal(text).endswith('(between { } and [ ] a variable needs quotes: "${NAME}")')


def test_a_tab_has_its_own_hint() -> None:
    assert refusal("a:\n\tb: 1\n").endswith("(indent with spaces)")
