"""What of this machine the host of a Fivetran connector is given: a Python that has the SDK, and little else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

# What a process needs to work at all, and to reach a network.
_HANDED_ON = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR"}
_HANDED_ON |= {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}
_HANDED_ON |= {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}


def sdk_python(root: Path, given: str | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The interpreter of the environment that has Fivetran's SDK; None if there is none.

    It is the one `given` (relative to the project), else that of TRUNKLINE_FIVETRAN_PYTHON, else of .venv-fivetran.
    """
    if named := given or environ.get("TRUNKLINE_FIVETRAN_PYTHON"):
        return root / Path(named).expanduser()
    usual = root / ".venv-fivetran" / "bin" / "python"
    return usual if usual.is_file() else None


def connector_environment(name: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a connector's process: nothing of ours that may be secret, and what Fivetran itself sets."""
    handed = {key: value for key, value in environ.items() if key.upper() in _HANDED_ON}
    told = dict.fromkeys(("FIVETRAN_CONNECTION_ID", "FIVETRAN_CONNECTION_NAME", "FIVETRAN_GROUP_ID"), name)
    return {**handed, **told, "FIVETRAN_DEPLOYMENT_MODEL": "local_debug"}
