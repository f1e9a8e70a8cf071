# SPDX-License-Identifier: Apache-2.0
"""Options by which an author states licences."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pippin.publish.facts import Licence


@dataclass(frozen=True, kw_only=True)
class LicenceOptions:
    """Licences that a model card states."""

    license: str | None = None
    """Licence of the weights as an identifier of the hub, such as apache-2.0, cc-by-4.0 or other;
    None = as the training images decide it (OpenMoji: cc-by-sa-4.0), or not stated."""
    license_link: str | None = None
    """Address of the licence's text; required for other."""
    data_license: str | None = None
    """Licence of the training images; None = the model card says that it is not stated."""

    @property
    def licence(self) -> "Licence":
        """The licences.

        Raises:
            ValueError: no identifier of the hub, or an address without the identifier other; the
                message says what is allowed.
        """
        from pippin.publish.facts import Licence

        identifier, link = self.license, self.license_link
        if identifier is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", identifier):
            raise ValueError(
                f"--license {identifier!r} is no identifier of the hub; allowed: lower-case "
                "letters, digits, - . and +, such as apache-2.0, mit, cc-by-4.0, cc-by-nc-4.0 or "
                "other"
            )
        if (identifier == "other") != (link is not None):
            raise ValueError(
                "--license other and --license-link URL belong together: type both, or neither"
            )
        if link is not None and not re.fullmatch(r"https?://\S+", link):
            raise ValueError(
                f"--license-link {link!r} is no address; allowed: http:// or https:// and no "
                "spaces, such as https://example.org/terms"
            )
        return Licence(model=identifier, link=link, data=self.data_license)

    @property
    def given_options(self) -> list[str]:
        """Names of the options that are given."""
        values = {
            "--license": self.license,
            "--license-link": self.license_link,
            "--data-license": self.data_license,
        }
        return [name for name, value in values.items() if value is not None]
