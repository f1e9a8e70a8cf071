# SPDX-License-Identifier: Apache-2.0
"""A class by what a user types: its name, or its id where no name is a number."""

from collections.abc import Sequence

from pippin.data.cleaning import label_number


def find_label(label: str, class_names: Sequence[str]) -> int:
    """The id of a class.

    A number means the class whose name has its value, never an id, where any class has a number
    as its name: ids follow the order of names, so 2 may be the id of the class 10.

    Args:
        label: a name, or an id.
        class_names: class id -> name.

    Raises:
        ValueError: no such class, or several; the message lists them.
    """
    if label in class_names:
        return list(class_names).index(label)
    value = label_number(label)
    numbers = {number: label_number(name) for number, name in enumerate(class_names)}
    if any(one is not None for one in numbers.values()):
        same = [number for number, one in numbers.items() if one is not None and one == value]
        if len(same) == 1:
            return same[0]
        rest = "; names of classes are numbers, so a number is a name and no id"
    else:
        rest = ""
        if label.isascii() and label.isdigit() and int(label) < len(class_names):
            return int(label)
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(class_names))
    raise ValueError(f"no class {label!r}; there are: {listed}{rest}")
