"""``${VAR}`` and ``${VAR:-default}`` in scalars, resolved after parsing; ``$${`` is a plain ``${``.

Resolving after parsing means that no value of a variable can change the structure of the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from forwarder.config.document import Document, Place
from forwarder.core.errors import Fault

_REFERENCE = re.compile(
    r"(?P<escaped>\$\$\{)|\$\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}|\$\{", re.ASCII
)


def resolve(document: Document, environment: Mapping[str, str]) -> tuple[Any, list[Fault]]:
    """Return the document's values with variables put in, and a fault for each that is missing.

    A variable that is set to nothing counts as missing when a default is given, as in a shell.
    """
    resolver = _Resolver(document, environment)
    return resolver.value(document.data, ()), resolver.faults


class _Resolver:
    def __init__(self, document: Document, environment: Mapping[str, str]) -> None:
        self.faults: list[Fault] = []
        self._document = document
        self._environment = environment

    def value(self, given: Any, place: Place) -> Any:
        if isinstance(given, dict):
            return {key: self.value(item, (*place, key)) for key, item in given.items()}
        if isinstance(given, list):
            return [self.value(item, (*place, index)) for index, item in enumerate(given)]
        if isinstance(given, str) and "${" in given:
            return _REFERENCE.sub(lambda match: self._text(match, place), given)
        return given

    def _text(self, match: re.Match[str], place: Place) -> str:
        if match["escaped"]:
            return "${"
        name, default = match["name"], match["default"]
        if name is None:
            problem = "${ begins a variable here, but no name and closing brace follow"
            self.faults.append(self._document.fault(place, problem, "write $${ for a plain ${"))
            return ""
        found = self._environment.get(name)
        if found is None and default is None:
            hint = f"set it, or write ${{{name}:-default}}"
            problem = f"the environment variable {name} is not set"
            self.faults.append(self._document.fault(place, problem, hint))
        return found or default or ""
