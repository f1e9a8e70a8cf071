# SPDX-License-Identifier: Apache-2.0
"""Class id of a user's input: a class name, or an id where no name is a number."""

from collections.abc import Sequence

from pippin.data.cleaning import label_number


def find_label(label: str, class_names: Sequence[str]) -> int:
    """Find the id of a class.

    Where any class has a number as its name, a number means the class whose name has that value,
    never an id: ids follow the order of names, so 2 may be the id of the class 10.

    Args:
        label: a name, or an id.
        class_names: class id -> name.

    Raises:
        ValueError: no such class, or several; the message lists the classes.
    """
    if label in class_names:
        return list(class_names).index(label)
    value = label_number(label)
    numbers = {index: label_number(name) for index, name in enumerate(class_names)}
    if any(number is not None for number in numbers.values()):
        matches = [
            index for index, number in numbers.items() if number is not None and number == value
        ]
        if len(matches) == 1:
            return matches[0]
        hint = "; names of classes are numbers, so a number is a name and no id"
    else:
        hint = ""
        if label.isascii() and label.isdigit() and int(label) < len(class_names):
            return int(label)
    listed = ", ".join(f"{index} {name}" for index, name in enumerate(class_names))
    raise ValueError(f"no class {label!r}; there are: {listed}{hint}")
