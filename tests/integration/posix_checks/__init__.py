# SPDX-License-Identifier: Apache-2.0
"""What programs expect of a file system, as checks that run in any directory.

Each module holds classes of checks, one `test_*` method a rule. They are no tests by themselves:
`in_place()` makes tests of them for a kind of directory. They run on a local file system too, which
shows that the checks ask for what is so; what a mount of artel does differently, as docs/MOUNT.md
says, stands in the check that is concerned, beside `self.is_artel`.
"""

from posix_checks import attributes, content, descriptors, directories, links, locking, names, opening
from posix_checks import renaming

MODULES = (attributes, content, descriptors, directories, links, locking, names, opening, renaming)


def classes():
    """Every class of checks, in order."""
    from posix_checks.checks import Checks

    for module in MODULES:
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Checks) and value is not Checks:
                yield value


def in_place(place):
    """{name: test case} of all checks in directories that `place`, a unittest.TestCase with
    new_root(), provides; they belong to its module."""
    cases = {}
    for each in classes():
        name = f"{place.__name__}{each.__name__}"
        cases[name] = type(name, (each, place), {"__module__": place.__module__})
    return cases
